package oracle_test

import (
	"context"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/bill/oracle"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/rules"
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

var (
	histories = flag.Int("histories", 40, "random subscription histories")
	seed      = flag.Uint64("seed", 1, "of the histories")
)

// TestHistories drives the engine through a year and more of random subscriptions under a clock that moves in steps, and compares
// every invoice with the oracle's, to the cent.
func TestHistories(t *testing.T) {
	t.Parallel()
	w := newWorld(t, *seed)
	for n := range *histories {
		w.customer(n)
	}
	for _, step := range w.steps {
		w.live(step)
	}
	wrong := 0
	for _, c := range w.customers {
		if diff := w.compare(c); diff != "" {
			if wrong++; wrong <= 3 {
				t.Errorf("seed %d, history %s:\n%s", *seed, c.key, diff)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d histories differ", wrong, *histories)
	}
}

// subscriber is one history, ahead of time.
type subscriber struct {
	key      string
	customer account.Customer
	world    oracle.World
	coming   []subscription.Change // by CreatedAt
	events   []happening           // by the step at which they are told
	coupons  []account.Redemption
}

// happening is something about usage that becomes known at a step.
type happening struct {
	known time.Time
	event int // index in world.Events
	value int // index in its Values
}

type world struct {
	t         *testing.T
	random    *rand.Rand
	now       time.Time
	begin     time.Time
	steps     []time.Time
	catalogs  map[int64]*catalog.Compiled
	customers []*subscriber
	byID      map[string]*subscriber
	list      []account.Customer
	known     map[string]*subscription.History // by subscription id, as far as it is known
	journal   store.Journal
	records   store.Records
	bill      *bill.Service
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 7)), begin: time.Date(2027, 11, 1, 0, 0, 0, 0, time.UTC), // a leap year and all changes of clocks follow
		byID: map[string]*subscriber{}, known: map[string]*subscription.History{}, catalogs: map[int64]*catalog.Compiled{},
	}
	for v := int64(1); v <= versions; v++ {
		c, err := catalog.Compile(v, shop(v))
		if err != nil {
			t.Fatal(err)
		}
		if faults := rules.Validate(c.Catalog); len(faults) > 0 {
			t.Fatalf("version %d: %v", v, faults)
		}
		w.catalogs[v] = c
	}
	for at := w.begin; at.Before(w.begin.AddDate(1, 2, 0)); at = at.Add(time.Duration(1+w.random.IntN(9*24)) * time.Hour) {
		w.steps = append(w.steps, at)
	}
	dir := t.TempDir()
	journal, err := file.Open(file.Config{Dir: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Close() })
	w.journal = journal
	if w.records, err = sqlite.Scratch(t.Context(), filepath.Join(dir, "records.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.records.Close() })
	w.bill, err = bill.New(bill.Config{
		Directory: w, Journal: w.journal, Invoices: w.records, Coupons: w, Now: func() time.Time { return w.now }, Grace: grace,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

const grace = 36 * time.Hour

// The directory, as far as the clock has come.

func (w *world) Current() *catalog.Compiled { return w.catalogs[versions] }

func (w *world) Version(_ context.Context, v int64) (*catalog.Compiled, error) {
	if c := w.catalogs[v]; c != nil {
		return c, nil
	}
	return nil, account.ErrNotFound
}

func (w *world) Customer(ref string) (account.Customer, bool) {
	if c := w.byID[ref]; c != nil {
		return c.customer, true
	}
	return account.Customer{}, false
}

func (w *world) Customers() []account.Customer { return w.list }

func (w *world) SubscriptionsOf(customerID string) []account.Subscription {
	return []account.Subscription{w.byID[customerID].world.History.Subscription}
}

func (w *world) ActiveSubscription(customerID string, _ time.Time) (account.Subscription, bool) {
	return w.byID[customerID].world.History.Subscription, true
}

func (w *world) History(id string) (subscription.History, bool) { return *w.known[id], true }

func (w *world) Grants(string) []account.Grant { return nil }

func (w *world) Redemptions(customerID string) []account.Redemption {
	return slices.DeleteFunc(slices.Clone(w.byID[customerID].coupons), func(r account.Redemption) bool { return r.RedeemedAt.After(w.now) })
}

// live is one step: what becomes known is told, then billing runs.
func (w *world) live(step time.Time) {
	w.now = step
	ctx := w.t.Context()
	batch := store.Batch{Producer: "api/test", ReceivedAt: step}
	revisions := store.Revisions{Actor: "test", Reason: "test", At: step}
	for _, c := range w.customers {
		h := w.known[c.world.History.ID]
		for len(c.coming) > 0 && !c.coming[0].CreatedAt.After(step) {
			h.Changes, c.coming = append(h.Changes, c.coming[0]), c.coming[1:]
		}
		for len(c.events) > 0 && !c.events[0].known.After(step) {
			w.tell(&batch, &revisions, c, c.events[0])
			c.events = c.events[1:]
		}
	}
	for part := range slices.Chunk(batch.Entries, 1000) {
		b := batch
		b.Entries = part
		if _, err := w.journal.Append(ctx, b); err != nil {
			w.t.Fatal(err)
		}
	}
	if len(revisions.List) > 0 {
		if _, err := w.journal.Revise(ctx, revisions); err != nil {
			w.t.Fatal(err)
		}
	}
	for {
		more, err := w.bill.Tick(ctx)
		if err != nil {
			w.t.Fatalf("at %s: %v", period.Format(step), err)
		}
		if !more {
			return
		}
	}
}

func (w *world) tell(batch *store.Batch, revisions *store.Revisions, c *subscriber, h happening) {
	e := c.world.Events[h.event]
	v := e.Values[h.value]
	id := fmt.Sprintf("%s-%d", c.key, h.event)
	quantity, err := money.ParseDecimal(v.Quantity.FloatString(0))
	if err != nil {
		w.t.Fatal(err)
	}
	event := meter.Event{Source: "test", ID: id, Type: e.Meter, Subject: c.customer.ID, Time: e.At}
	resolutions := []meter.Resolution{{CustomerID: c.customer.ID, Meter: e.Meter, CatalogVersion: 1, Value: quantity, Dimensions: e.Dimensions}}
	switch {
	case h.value == 0:
		batch.Entries = append(batch.Entries, store.Entry{Event: event, Origin: meter.Reported, Resolutions: resolutions})
	case v.Quantity.Sign() == 0:
		revisions.List = append(revisions.List, store.Revision{Source: "test", ID: id, Kind: store.Void, If: store.AnyRevision})
	default:
		revisions.List = append(revisions.List, store.Revision{Source: "test", ID: id, Kind: store.Amend, Event: event, Resolutions: resolutions, If: store.AnyRevision})
	}
}

// compare says how the engine's invoices of a history differ from the oracle's; empty: they do not.
func (w *world) compare(c *subscriber) string {
	want, err := oracle.Invoices(c.world)
	if err != nil {
		return err.Error()
	}
	got, err := w.bill.Invoices(w.t.Context(), store.Query{CustomerID: c.customer.ID, Limit: 1000})
	if err != nil {
		return err.Error()
	}
	slices.Reverse(got)
	var a, b strings.Builder
	// What comes to nothing may stand on an invoice of its own, or not.
	want = slices.DeleteFunc(want, func(i oracle.Invoice) bool { return i.Subtotal == 0 && i.Total == 0 })
	got = slices.DeleteFunc(got, func(i invoice.Invoice) bool { return i.Subtotal.Minor() == 0 && i.Total.Minor() == 0 })
	for _, inv := range want {
		fmt.Fprintf(&a, "%s %d %d %d\n", period.Format(inv.Closing), inv.Subtotal, inv.Tax, inv.Total)
	}
	for i := range got {
		inv := &got[i]
		fmt.Fprintf(&b, "%s %d %d %d\n", period.Format(inv.Period.End), inv.Subtotal.Minor(), inv.Tax.Minor(), inv.Total.Minor())
	}
	if a.String() == b.String() {
		return ""
	}
	return explain(c, want, got)
}

// explain shows the first invoice that differs with all its lines, and the history.
func explain(c *subscriber, want []oracle.Invoice, got []invoice.Invoice) string {
	var s strings.Builder
	h := c.world.History
	fmt.Fprintf(&s, "zone %s, plan %s v%d from %s\n", c.customer.Zone, h.Plan, h.CatalogVersion, period.Format(h.Start))
	for _, x := range h.Changes {
		fmt.Fprintf(&s, "change %s known %s: %s %s v%d %s %s until %s now %v\n", period.Format(x.At), period.Format(x.CreatedAt), x.Kind, x.Plan, x.Version, x.Key, x.Quantity, period.Format(x.Until), x.Now)
	}
	for i := range max(len(want), len(got)) {
		var a, b string
		if i < len(want) {
			a = want[i].String()
		}
		if i < len(got) {
			inv := &got[i]
			b = fmt.Sprintf("%s subtotal %d tax %d total %d", period.Format(inv.Period.End), inv.Subtotal.Minor(), inv.Tax.Minor(), inv.Total.Minor())
			for _, l := range inv.Lines {
				b += fmt.Sprintf("\n  %s %s %s [%s, %s) quantity %s ratio %s: %d (%s)", l.Kind, l.Plan, l.Price, period.Format(l.Period.Start), period.Format(l.Period.End), l.Quantity, l.Ratio, l.Rounded.Minor(), l.Name)
			}
		}
		if first, _, _ := strings.Cut(a, "\n"); first != strings.SplitN(b, "\n", 2)[0] {
			fmt.Fprintf(&s, "invoice %d, the oracle:\n%s\nthe engine:\n%s\n", i+1, a, b)
			return s.String()
		}
	}
	return s.String()
}

// What is sold, and random lives.

const versions = 3

func shop(v int64) *catalog.Catalog {
	d := money.MustDecimal
	usd := money.MustCurrency("USD")
	raise := func(base string) money.Decimal { // each version is a little dearer
		sum, err := d(base).Add(money.FromScaled(v-1, 3))
		if err != nil {
			panic(err)
		}
		return sum
	}
	tier := func(up, unit, flat string) price.Tier {
		t := price.Tier{UnitAmount: d(unit), FlatAmount: d(flat)}
		if up != "" {
			t.UpTo = new(d(up))
		}
		return t
	}
	fee := price.Price{Key: "platform", Model: price.Flat, Amount: raise("29.99"), Charge: price.InAdvance}
	calls := price.Price{
		Key: "calls", Meter: "calls", Model: price.Graduated, Charge: price.InArrears,
		Tiers: []price.Tier{tier("100", "0", "0"), {UpTo: new(d("500")), UnitAmount: raise("0.013")}, tier("", "0.0077", "1.5")},
	}
	seats := price.Price{Key: "seats", Model: price.Unit, UnitAmount: raise("7.77"), Charge: price.InAdvance}
	dayFee := fee
	dayFee.Prorate, dayFee.Amount = price.ProrateDays, raise("49")
	volume := price.Price{Key: "calls", Meter: "calls", Model: price.Volume, Charge: price.InArrears, Tiers: []price.Tier{tier("200", "0.02", "3"), tier("1000", "0.015", "2"), tier("", "0.01", "0")}}
	packages := price.Price{Key: "packs", Meter: "bytes", Model: price.Package, Charge: price.InArrears, Size: d("50"), Free: d("20"), Amount: raise("1.1")}
	support := price.Price{Key: "support", Model: price.Flat, Amount: d("11.1"), Charge: price.InArrears}
	once := price.Price{Key: "setup", Model: price.Flat, Amount: d("5"), Charge: price.InAdvance, Prorate: price.ProrateNone}
	bounded := price.Price{Key: "bytes", Meter: "bytes", Model: price.Unit, UnitAmount: d("0.031"), Included: d("30"), Charge: price.InArrears, MinimumSpend: new(d("2")), MaximumSpend: new(d("9.5"))}
	steps := price.Price{Key: "bytes", Meter: "bytes", Model: price.Stairstep, Charge: price.InArrears, Tiers: []price.Tier{tier("100", "0", "4"), tier("", "0", "12.34")}}
	quarterly := price.Price{Key: "licence", Model: price.Flat, Amount: d("300"), Charge: price.InAdvance, Every: period.MustEvery("quarter")}
	weekly := price.Price{Key: "week", Model: price.Flat, Amount: d("6.5"), Charge: price.InAdvance, Every: period.MustEvery("week")}
	weekCalls := calls
	weekCalls.Every = period.MustEvery("week")
	yearly := price.Price{Key: "annual", Model: price.Flat, Amount: d("999"), Charge: price.InAdvance, Every: period.MustEvery("year")}
	eu := price.Price{Key: "eu", Meter: "calls", Model: price.Unit, UnitAmount: d("0.021"), Charge: price.InArrears, Filter: []meter.Dimension{{Name: "region", Value: "eu"}}}
	us := eu
	us.Key, us.UnitAmount, us.Filter = "us", d("0.017"), []meter.Dimension{{Name: "region", Value: "us"}}
	extra := price.Price{Key: "extra", Model: price.Flat, Amount: raise("3.33"), Charge: price.InAdvance, Prorate: price.ProrateDays}
	return &catalog.Catalog{
		Meters: []catalog.Meter{
			{Key: "calls", Event: "calls", Aggregation: meter.Sum, Value: "data.n", Dimensions: []string{"region"}},
			{Key: "bytes", Event: "bytes", Aggregation: meter.Sum, Value: "data.n"},
		},
		Plans: []catalog.Plan{
			{Key: "pro", Currency: usd, Prices: []price.Price{fee, calls, seats}},
			{Key: "max", Currency: usd, Prices: []price.Price{dayFee, volume, packages, once}},
			{Key: "bounded", Currency: usd, Prices: []price.Price{support, bounded, quarterly}},
			{Key: "steps", Currency: usd, Prices: []price.Price{fee, steps}, Terms: catalog.Terms{Calendar: true}},
			{Key: "trial", Currency: usd, Prices: []price.Price{fee, calls}, Terms: catalog.Terms{TrialDays: 14}},
			{Key: "weekly", Currency: usd, Prices: []price.Price{weekly, weekCalls}},
			{Key: "yearly", Currency: usd, Prices: []price.Price{yearly}},
			{Key: "committed", Currency: usd, Prices: []price.Price{support, bounded, eu, us}, Terms: catalog.Terms{Minimum: new(d("12")), Maximum: new(d("13.337"))}},
			{Key: "weeks", Currency: usd, Prices: []price.Price{weekCalls}, Terms: catalog.Terms{Minimum: new(d("3.5"))}},
			{Key: "regions", Currency: usd, Prices: []price.Price{eu, us}, Terms: catalog.Terms{Calendar: true}},
		},
		AddOns: []catalog.AddOn{{Key: "backup", Currency: usd, Plans: []string{"pro", "max", "trial"}, Prices: []price.Price{extra}}},
		Coupons: []catalog.Coupon{
			{Key: "percent", Percent: new(d("12.5"))}, {Key: "months", Percent: new(d("50")), Periods: 3}, {Key: "gift", Amount: new(d("40")), Currency: usd, Periods: 1},
		},
		Taxes: catalog.Taxes{Rules: []catalog.TaxRule{{Key: "vat", Name: "VAT", Percent: d("19"), Country: "DE"}}},
	}
}

func zones() []string {
	return []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Sao_Paulo", "Africa/Cairo"}
}

// customer invents one.
func (w *world) customer(n int) {
	w.t.Helper()
	r := w.random
	c := &subscriber{key: fmt.Sprintf("c%05d", n)}
	zone := period.MustZone(zones()[r.IntN(len(zones()))])
	c.customer = account.Customer{ID: fmt.Sprintf("cus_%026d", n+1), Key: c.key, Name: c.key, Zone: zone, Currency: money.MustCurrency("USD"), CreatedAt: w.begin}
	if r.IntN(3) == 0 {
		c.customer.Billing.Country = "DE"
		c.world.Tax = big.NewRat(19, 1)
	}
	start := w.instant(w.begin.Add(-40*24*time.Hour), w.begin.AddDate(0, 5, 0))
	_, _, day := zone.Date(start)
	plans := shop(1).Plans
	sub := account.Subscription{
		ID: fmt.Sprintf("sub_%026d", n+1), CustomerID: c.customer.ID, Plan: plans[r.IntN(len(plans))].Key, CatalogVersion: 1 + r.Int64N(2),
		Start: start, BillingDay: day, CreatedAt: w.begin,
	}
	c.world.Catalogs = map[int64]*catalog.Catalog{}
	for v, compiled := range w.catalogs {
		c.world.Catalogs[v] = compiled.Catalog
	}
	c.world.Zone, c.world.Grace, c.world.Steps = zone.Location(), grace, w.steps
	c.world.History = subscription.History{Subscription: sub}
	w.change(c)
	w.usage(c)
	w.redeem(c)
	w.put(c)
}

func (w *world) put(c *subscriber) {
	ctx := w.t.Context()
	audit := func(target string) store.Audit {
		return store.Audit{ID: "aud_" + target, Time: w.begin, Actor: "test", Action: "test", Target: target, Detail: "{}"}
	}
	sub := c.world.History.Subscription
	if err := w.records.PutCustomer(ctx, c.customer, audit(c.customer.ID)); err != nil {
		w.t.Fatal(err)
	}
	if err := w.records.PutSubscription(ctx, sub, audit(sub.ID)); err != nil {
		w.t.Fatal(err)
	}
	cuts := []time.Time{sub.Start}
	for _, x := range c.world.History.Changes {
		cuts = append(cuts, x.At, x.Until)
	}
	for _, at := range cuts {
		if at.IsZero() {
			continue
		}
		if err := w.journal.Cut(ctx, c.customer.ID, at); err != nil {
			w.t.Fatal(err)
		}
	}
	c.coming = slices.Clone(c.world.History.Changes)
	slices.SortStableFunc(c.coming, func(a, b subscription.Change) int { return a.CreatedAt.Compare(b.CreatedAt) })
	w.known[sub.ID] = &subscription.History{Subscription: sub}
	w.byID[c.customer.ID] = c
	w.customers, w.list = append(w.customers, c), append(w.list, c.customer)
}

// instant is a random one, of microseconds, in [from, to).
func (w *world) instant(from, to time.Time) time.Time {
	at := from.Add(time.Duration(w.random.Int64N(int64(to.Sub(from)))))
	switch w.random.IntN(3) {
	case 0:
		at = at.Truncate(24 * time.Hour)
		if at.Before(from) {
			at = from
		}
	case 1:
		at = at.Truncate(15 * time.Minute)
		if at.Before(from) {
			at = from
		}
	}
	return period.Truncate(at)
}

// step is the first step at or after an instant.
func (w *world) step(at time.Time) time.Time {
	for _, s := range w.steps {
		if !s.Before(at) {
			return s
		}
	}
	return w.steps[len(w.steps)-1].Add(time.Hour) // never told
}
