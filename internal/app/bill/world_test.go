package bill_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/books"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

const calls = "api_calls"

// tb is what a test and a rapid property share.
type tb interface {
	rapid.TB
	Cleanup(func())
}

// directory is the picture of accounts that govern would hold.
type directory struct {
	catalogs      map[int64]*catalog.Compiled
	customers     []account.Customer
	subscriptions map[string][]account.Subscription
	changes       map[string][]subscription.Change // by subscription
	grants        map[string][]account.Grant       // by customer
}

func (d *directory) Current() *catalog.Compiled { return d.catalogs[int64(len(d.catalogs))] }

func (d *directory) Version(_ context.Context, v int64) (*catalog.Compiled, error) {
	c, ok := d.catalogs[v]
	if !ok {
		return nil, errors.New("no such catalog")
	}
	return c, nil
}

func (d *directory) Customer(ref string) (account.Customer, bool) {
	for _, c := range d.customers {
		if c.ID == ref || c.Key == ref {
			return c, true
		}
	}
	return account.Customer{}, false
}

func (d *directory) Customers() []account.Customer { return d.customers }

func (d *directory) SubscriptionsOf(customerID string) []account.Subscription {
	return d.subscriptions[customerID]
}

func (d *directory) ActiveSubscription(customerID string, at time.Time) (account.Subscription, bool) {
	for _, s := range d.subscriptions[customerID] {
		if s.Active(at) {
			return s, true
		}
	}
	return account.Subscription{}, false
}

func (d *directory) History(subscriptionID string) (subscription.History, bool) {
	for _, list := range d.subscriptions {
		for _, s := range list {
			if s.ID == subscriptionID {
				return subscription.History{Subscription: s, Changes: d.changes[s.ID]}, true
			}
		}
	}
	return subscription.History{}, false
}

func (d *directory) Grants(customerID string) []account.Grant { return d.grants[customerID] }

// prices is a catalog with the plans of the design, a plan that charges in arrears, and one that charges a meter twice.
func prices() *catalog.Catalog {
	upTo := money.MustDecimal("10000")
	platform := price.Price{Key: "platform", Model: price.Flat, Amount: money.MustDecimal("20.00"), Charge: price.InAdvance}
	metered := price.Price{
		Key: "calls", Meter: calls, Model: price.Graduated, Charge: price.InArrears,
		Tiers: []price.Tier{{UpTo: &upTo}, {UnitAmount: money.MustDecimal("0.0004")}},
	}
	support := price.Price{Key: "support", Model: price.Flat, Amount: money.MustDecimal("5"), Charge: price.InArrears}
	levy := metered
	levy.Key, levy.Tiers = "levy", []price.Tier{{UnitAmount: money.MustDecimal("0.001")}}
	quota := money.MustDecimal("100")
	usd := money.MustCurrency("USD")
	return &catalog.Catalog{
		Meters: []catalog.Meter{{Key: calls, Event: "request", Aggregation: meter.Count}},
		Plans: []catalog.Plan{
			{Key: "free", Currency: usd, Limits: []catalog.Limit{{Key: "daily", Meter: calls, Quota: &quota, Window: period.Day}}},
			{Key: "pro", Currency: usd, Prices: []price.Price{platform, metered}},
			{Key: "arrears", Currency: usd, Prices: []price.Price{metered, support}},
			{Key: "twice", Currency: money.MustCurrency("EUR"), Prices: []price.Price{metered, levy}},
		},
	}
}

// world is billing over real drivers in a folder.
type world struct {
	tb      tb
	dir     string
	now     time.Time
	people  *directory
	journal store.Journal
	records store.Records
	bill    *bill.Service
	cfg     bill.Config

	only     string // customer that books are asked for
	sequence uint64
	totals   map[store.SeriesKey]map[int64]money.Decimal
}

func newWorld(t tb, dir string, now time.Time) *world {
	t.Helper()
	w := &world{
		tb: t, dir: dir, now: now, totals: map[store.SeriesKey]map[int64]money.Decimal{},
		people: &directory{
			catalogs:      map[int64]*catalog.Compiled{1: {Version: 1, Catalog: prices()}},
			subscriptions: map[string][]account.Subscription{},
			changes:       map[string][]subscription.Change{},
			grants:        map[string][]account.Grant{},
		},
	}
	w.openJournal()
	t.Cleanup(func() {
		if err := w.journal.Close(); err != nil {
			t.Errorf("close journal: %v", err)
		}
	})
	w.records = openRecords(t, filepath.Join(dir, "records.db"))
	w.restart(nil)
	return w
}

// restart is a new service over the same stores.
func (w *world) restart(change func(*bill.Config)) {
	w.tb.Helper()
	w.cfg = bill.Config{Directory: w.people, Journal: w.journal, Invoices: w.records, Now: func() time.Time { return w.now }}
	if change != nil {
		change(&w.cfg)
	}
	var err error
	if w.bill, err = bill.New(w.cfg); err != nil {
		w.tb.Fatalf("New: %v", err)
	}
}

func (w *world) subscribe(key, plan, zone string, start time.Time, day int) account.Subscription {
	w.tb.Helper()
	n := len(w.people.customers) + 1
	c := account.Customer{
		ID: fmt.Sprintf("cus_%026d", n), Key: key, Name: key, Zone: period.MustZone(zone),
		Currency: money.MustCurrency("USD"), CreatedAt: start,
	}
	if plan == "twice" {
		c.Currency = money.MustCurrency("EUR")
	}
	s := account.Subscription{
		ID: fmt.Sprintf("sub_%026d", n), CustomerID: c.ID, Plan: plan, CatalogVersion: 1, Start: start, BillingDay: day, CreatedAt: start,
	}
	ctx := context.Background()
	if err := w.records.PutCustomer(ctx, c, w.audit("customer.create", c.ID)); err != nil {
		w.tb.Fatalf("PutCustomer: %v", err)
	}
	if err := w.journal.Cut(ctx, c.ID, start); err != nil {
		w.tb.Fatalf("Cut: %v", err)
	}
	if err := w.records.PutSubscription(ctx, s, w.audit("subscription.create", s.ID)); err != nil {
		w.tb.Fatalf("PutSubscription: %v", err)
	}
	w.people.customers = append(w.people.customers, c)
	w.people.subscriptions[c.ID] = append(w.people.subscriptions[c.ID], s)
	return s
}

func (w *world) audit(action, target string) store.Audit {
	return store.Audit{ID: fmt.Sprintf("aud_%s_%s", action, target), Time: w.now, Actor: "test", Action: action, Target: target, Detail: "{}"}
}

func entry(customerID, id string, origin meter.Origin, at time.Time, value int64) store.Entry {
	source := "api"
	if origin == meter.Admitted {
		source = "gateway/1"
	}
	return store.Entry{
		Event:       meter.Event{Source: source, ID: id, Type: "request", Subject: customerID, Time: at},
		Origin:      origin,
		Resolutions: []meter.Resolution{{CustomerID: customerID, Meter: calls, CatalogVersion: 1, Value: money.FromInt(value)}},
	}
}

// report appends usage from outside: one event of a value.
func (w *world) report(customerID, id string, at time.Time, value int64) {
	w.tb.Helper()
	w.append(store.Batch{Producer: "api/tok_1", Entries: []store.Entry{entry(customerID, id, meter.Reported, at, value)}})
}

// admit appends usage that a gateway admitted, with its running total.
func (w *world) admit(customerID, id string, at time.Time, value int64) {
	w.tb.Helper()
	w.sequence++
	b := store.Batch{
		Producer: "gateway/1", Node: 1, Epoch: 1, First: w.sequence, Last: w.sequence,
		Entries: []store.Entry{entry(customerID, id, meter.Admitted, at, value)},
	}
	key := store.SeriesKey{CustomerID: customerID, Meter: calls}
	if w.totals[key] == nil {
		w.totals[key] = map[int64]money.Decimal{}
	}
	customer, _ := w.people.Customer(customerID)
	for _, s := range w.people.subscriptions[customerID] {
		p, ok := s.Anchor(customer.Zone).Period(at)
		if !ok {
			continue
		}
		start := p.Start.UnixMicro()
		sum, err := w.totals[key][start].Add(money.FromInt(value))
		if err != nil {
			w.tb.Fatalf("total: %v", err)
		}
		w.totals[key][start] = sum
		b.Totals = append(b.Totals, store.AdmittedTotal{CustomerID: customerID, Meter: calls, PeriodStart: start, Total: sum})
	}
	w.append(b)
}

func (w *world) append(b store.Batch) {
	w.tb.Helper()
	b.ReceivedAt = w.now
	results, err := w.journal.Append(context.Background(), b)
	if err != nil {
		w.tb.Fatalf("Append: %v", err)
	}
	for i, r := range results {
		if r.Outcome != store.Accepted {
			w.tb.Fatalf("Append: event %s: outcome %d", b.Entries[i].Event.ID, r.Outcome)
		}
	}
}

func (w *world) tick() {
	w.tb.Helper()
	for {
		more, err := w.bill.Tick(context.Background())
		if err != nil {
			w.tb.Fatalf("Tick: %v", err)
		}
		if !more {
			return
		}
	}
}

// invoices lists all, oldest first, and checks the numbers.
func (w *world) invoices() []invoice.Invoice {
	w.tb.Helper()
	list, err := w.bill.Invoices(context.Background(), store.Query{Limit: 1000})
	if err != nil {
		w.tb.Fatalf("Invoices: %v", err)
	}
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	for i, inv := range list {
		if inv.Number != int64(i+1) || inv.Status != invoice.Finalized && (inv.Status != invoice.Paid || inv.Due.Minor() != 0) {
			w.tb.Fatalf("invoice %d has number %d and status %s", i+1, inv.Number, inv.Status)
		}
	}
	return list
}

func (w *world) books() bill.Books {
	w.tb.Helper()
	b, err := w.bill.Books(context.Background(), w.only)
	if err != nil {
		w.tb.Fatalf("Books: %v", err)
	}
	return b
}

func (w *world) balanced() bill.Books {
	w.tb.Helper()
	b := w.books()
	if !b.Difference.IsZero() {
		w.tb.Fatalf("books differ by %s: %s", b.Difference, describe(b.Rows))
	}
	return b
}

func describe(rows []books.Row) string {
	var out string
	for _, r := range rows {
		start := "outside"
		if !r.Period.Start.IsZero() {
			start = r.Period.Start.Format(time.DateOnly)
		}
		voided := ""
		if !r.Voided.IsZero() {
			voided = " voided " + r.Voided.String()
		}
		out += fmt.Sprintf("%s %s %s: admitted %s reported %s%s metered %s rated %s unpriced %s late %s difference %s\n", start, r.Customer, r.Meter,
			r.Admitted, r.Reported, voided, r.Metered, r.Rated, r.Unpriced, r.Late, r.Difference)
	}
	return out
}

func date(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

func openRecords(t tb, path string) store.Records {
	t.Helper()
	r, err := sqlite.Scratch(context.Background(), path)
	if err != nil {
		t.Fatalf("open records: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close records: %v", err)
		}
	})
	return r
}

// hasty leaves out the waiting for the disk: no test here cuts the power.
type hasty struct{ file.OS }

type hastyFile struct{ file.File }

func (hastyFile) Sync() error { return nil }

func (h hasty) SyncDir(string) error { return nil }

func (h hasty) Open(name string, create bool) (file.File, error) {
	f, err := h.OS.Open(name, create)
	return hastyFile{f}, err
}

func (w *world) openJournal() {
	w.tb.Helper()
	j, err := file.Open(file.Config{Dir: filepath.Join(w.dir, "journal"), FS: hasty{}})
	if err != nil {
		w.tb.Fatalf("open journal: %v", err)
	}
	w.journal = j
}
