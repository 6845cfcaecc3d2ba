package authority_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

const custID = "cus_00000000000000000000000001"

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func dec(s string) money.Decimal { return money.MustDecimal(s) }

// world is an authority over real stores, with a clock, a catalog and overrides in hand.
type world struct {
	t       testing.TB
	dir     string
	records *sqlite.Records
	journal *file.Journal
	s       *authority.Service
	config  func(*authority.Config)

	mu        sync.Mutex // guards the fields below
	now       time.Time
	mono      time.Duration
	cat       *catalog.Compiled
	versions  map[int64]*catalog.Compiled
	sub       account.Subscription
	overrides []account.Override
	events    int
}

// declare is a catalog with a plan "free" of these limits over two priced meters, calls and tokens.
func declare(t testing.TB, version int64, limits ...catalog.Limit) *catalog.Compiled {
	t.Helper()
	usd := money.MustCurrency("USD")
	priced := func(key, amount string) price.Price {
		return price.Price{Key: key, Meter: key, Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{
			{UpTo: new(dec("10")), UnitAmount: dec("0")}, {UnitAmount: dec(amount)},
		}}
	}
	c := &catalog.Catalog{
		Meters: []catalog.Meter{
			{Key: "calls", Event: "request", Aggregation: meter.Count},
			{Key: "tokens", Event: "completion", Aggregation: meter.Sum, Value: "data.tokens"},
		},
		Plans: []catalog.Plan{{Key: "free", Currency: usd, Limits: limits, Prices: []price.Price{priced("calls", "0.25"), priced("tokens", "0.5")}}},
	}
	out, err := catalog.Compile(version, c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newWorld(t testing.TB, limits ...catalog.Limit) *world {
	t.Helper()
	w := &world{
		t: t, dir: t.TempDir(), now: start.Add(36 * time.Hour), mono: time.Hour, versions: map[int64]*catalog.Compiled{},
		sub: account.Subscription{ID: "sub_00000000000000000000000001", CustomerID: custID, Plan: "free", CatalogVersion: 1, Start: start, BillingDay: 1},
	}
	w.apply(declare(t, 1, limits...))
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	ctx := context.Background()
	var err error
	if w.records, err = sqlite.Scratch(ctx, filepath.Join(w.dir, "records.db")); err != nil {
		w.t.Fatal(err)
	}
	if w.journal, err = file.Open(file.Config{Dir: filepath.Join(w.dir, "journal")}); err != nil {
		w.t.Fatal(err)
	}
	if err := w.journal.Cut(ctx, custID, w.sub.Start); err != nil {
		w.t.Fatal(err)
	}
	records, journal := w.records, w.journal
	w.t.Cleanup(func() { _ = records.Close(); _ = journal.Close() }) // closed before where the test did
	w.restart()
}

// restart is a new run of the authority over the same stores.
func (w *world) restart() {
	w.t.Helper()
	cfg := authority.Config{
		Directory: w, Leases: w.records, Journal: w.journal, Now: w.Now, Mono: w.Mono, Local: 1, Log: slog.New(slog.DiscardHandler),
	}
	if w.config != nil {
		w.config(&cfg)
	}
	var err error
	if w.s, err = authority.New(cfg); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) Mono() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mono
}

// advance moves both clocks.
func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.mono = w.now.Add(d), w.mono+d
}

func (w *world) apply(c *catalog.Compiled) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cat, w.versions[c.Version] = c, c
}

func (w *world) override(o ...account.Override) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.overrides = o
}

func (w *world) Current() *catalog.Compiled {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cat
}

func (w *world) Version(_ context.Context, v int64) (*catalog.Compiled, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.versions[v]; c != nil {
		return c, nil
	}
	return nil, store.ErrNotFound
}

func (w *world) Customer(id string) (account.Customer, bool) {
	return account.Customer{ID: id, Key: "acme", Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD")}, true
}

func (w *world) ActiveSubscription(id string, at time.Time) (account.Subscription, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sub := w.sub
	sub.CustomerID = id
	return sub, sub.Active(at)
}

func (w *world) Overrides(string) []account.Override {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overrides
}

// use puts events into the journal that count for the customer.
func (w *world) use(origin meter.Origin, n int, at time.Time) {
	w.t.Helper()
	b := store.Batch{Producer: "test", ReceivedAt: at}
	for range n {
		w.events++
		b.Entries = append(b.Entries, store.Entry{
			Event:       meter.Event{Source: "test", ID: time.Unix(int64(w.events), 0).UTC().Format(time.RFC3339), Type: "request", Subject: custID, Time: at},
			Origin:      origin,
			Resolutions: []meter.Resolution{{CustomerID: custID, Meter: "calls", CatalogVersion: 1, Value: dec("1")}},
		})
	}
	if _, err := w.journal.Append(context.Background(), b); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) begin(node uint16) authority.Welcome {
	w.t.Helper()
	welcome, err := w.s.Begin(context.Background(), node, "boot", w.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return welcome
}

// daily asks for units of the day's quota.
func (w *world) daily(need, spent int64, limits ...string) authority.Ask {
	day := w.Now().Truncate(24 * time.Hour)
	return authority.Ask{
		Counter:   store.CounterKey{CustomerID: custID, Meter: "calls", Window: period.Day, Start: day.UnixMicro()},
		WindowEnd: day.AddDate(0, 0, 1).UnixMicro(), Kind: quota.Quota, Limits: limits, Need: need, Spent: spent,
	}
}

func (w *world) draw(node uint16, epoch uint32, asks ...authority.Ask) []authority.Answer {
	w.t.Helper()
	out, err := w.s.Draw(context.Background(), authority.Draw{
		Node: node, Epoch: epoch, CustomerID: custID, SubscriptionID: w.sub.ID, CatalogVersion: w.Current().Version, Now: w.Now().UnixMicro(), Asks: asks,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}
