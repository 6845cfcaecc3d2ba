package lessee_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

const calls = "calls"

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func dec(s string) money.Decimal { return money.MustDecimal(s) }

// world is one authority over real stores, and as many gateways' leases as a test asks for.
type world struct {
	testing.TB
	now  atomic.Int64 // business microseconds
	real atomic.Int64 // nanoseconds

	mu        sync.Mutex // guards the fields below
	cat       *catalog.Compiled
	overrides []account.Override
	revision  uint64
	notices   []lessee.Notice
	opened    map[store.CounterKey]int

	records   *sqlite.Records
	journal   *file.Journal
	authority *authority.Service
}

func newWorld(t testing.TB, limits ...catalog.Limit) *world {
	t.Helper()
	w := &world{TB: t, opened: map[store.CounterKey]int{}}
	w.now.Store(start.Add(36 * time.Hour).UnixMicro())
	w.declare(1, limits...)
	dir := t.TempDir()
	records, err := sqlite.Scratch(context.Background(), filepath.Join(dir, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	journal, err := file.Open(file.Config{Dir: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(journal.Close(), records.Close()); err != nil {
			t.Error(err)
		}
	})
	w.records, w.journal = records, journal
	w.restart()
	return w
}

// restart is a new run of the authority, which knows what is stored.
func (w *world) restart() {
	w.Helper()
	var err error
	if w.authority, err = authority.New(authority.Config{
		Directory: w, Leases: w.records, Journal: w.journal, Now: w.Now, Mono: func() time.Duration { return time.Duration(w.real.Load()) },
		Local: 1, Log: slog.New(slog.DiscardHandler),
	}); err != nil {
		w.Fatal(err)
	}
}

// newest is the authority's run of the moment.
type newest struct{ w *world }

func (n newest) Begin(ctx context.Context, node uint16, boot string, at time.Time) (authority.Welcome, error) {
	return n.w.authority.Begin(ctx, node, boot, at)
}

func (n newest) Draw(ctx context.Context, d authority.Draw) ([]authority.Answer, error) {
	return n.w.authority.Draw(ctx, d)
}

func (n newest) Return(ctx context.Context, node uint16, epoch uint32, backs []authority.Back) error {
	return n.w.authority.Return(ctx, node, epoch, backs)
}

func (w *world) declare(version int64, limits ...catalog.Limit) {
	w.Helper()
	c := &catalog.Catalog{
		Meters: []catalog.Meter{{Key: calls, Event: "request", Aggregation: meter.Count}},
		Plans:  []catalog.Plan{{Key: "free", Currency: money.MustCurrency("USD"), Limits: limits}},
		Routes: []catalog.Route{
			{Match: "GET /a", Upstream: "http://127.0.0.1:1", Meter: calls, Cost: dec("1")},
			{Match: "GET /b", Upstream: "http://127.0.0.1:1", Meter: calls, Cost: dec("1")},
			{Match: "GET /free", Upstream: "http://127.0.0.1:1"},
		},
	}
	compiled, err := catalog.Compile(version, c)
	if err != nil {
		w.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cat = compiled
}

func (w *world) Now() time.Time { return time.UnixMicro(w.now.Load()).UTC() }

func (w *world) advance(d time.Duration) {
	w.now.Add(d.Microseconds())
	w.real.Add(int64(d))
}

func (w *world) Current() *catalog.Compiled {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cat
}

func (w *world) Version(context.Context, int64) (*catalog.Compiled, error) { return w.Current(), nil }

func (w *world) Overrides(string) []account.Override {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overrides
}

func (w *world) override(o ...account.Override) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.overrides = o
	w.revision++
}

func (w *world) Customer(ref string) (account.Customer, bool) {
	return account.Customer{ID: ref, Key: ref, Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD")}, true
}

func (w *world) ActiveSubscription(id string, _ time.Time) (account.Subscription, bool) {
	return account.Subscription{ID: "sub_" + id, CustomerID: id, Plan: "free", CatalogVersion: 1, Start: start, BillingDay: 1}, true
}

// principal is a key of a customer.
func (w *world) principal(customer, key, project string) *account.Principal {
	p := &account.Principal{Key: account.APIKey{ID: key, CustomerID: customer, Project: project}, HasSubscription: true}
	p.Customer, _ = w.Customer(customer)
	p.Subscription, _ = w.ActiveSubscription(customer, w.Now())
	w.mu.Lock()
	defer w.mu.Unlock()
	p.Revision = w.revision
	return p
}

// Used and Known: nothing is known of the past.
func (w *world) Used(context.Context, string, string, period.Interval) (none money.Decimal, err error) {
	return none, nil
}

func (w *world) Known(_ context.Context, _ string, ids []string) ([]bool, error) {
	return make([]bool, len(ids)), nil
}

// holder is a gateway's leases, as the authority knows it.
type holder struct{ *lessee.Lessee }

func (holder) Ship(context.Context) error { return nil }

// gateway begins a run of a node, behind whatever stands in front of the authority.
func (w *world) gateway(node uint16, front func(authority.Authority) authority.Authority, change ...func(*lessee.Config)) *lessee.Lessee {
	w.Helper()
	var a authority.Authority = w.authority
	if front != nil {
		a = front(a)
	}
	welcome, err := a.Begin(context.Background(), node, "boot", w.Now())
	if err != nil {
		w.Fatal(err)
	}
	cfg := lessee.Config{
		Directory: w, Authority: a, Past: w, Node: node, Epoch: welcome.Epoch, Now: w.Now,
		Real: func() time.Time { return time.Unix(0, w.real.Load()) }, Log: slog.New(slog.DiscardHandler),
		Opened: func(k store.CounterKey, _ int64) (uint32, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.opened[k]++
			return uint32(len(w.opened)), nil
		},
		Notice: func(n lessee.Notice) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.notices = append(w.notices, n)
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	l, err := lessee.New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(w.authority.Register(node, holder{l}))
	return l
}

// ask is one request.
type ask struct {
	customer, key, project, user string
	route                        int
	cost                         string // "": the route's
}

func (w *world) question(a ask) *lessee.Question {
	if a.customer == "" {
		a.customer = "cus_1"
	}
	if a.key == "" {
		a.key = "key_1"
	}
	cat := w.Current()
	q := &lessee.Question{Catalog: cat, Principal: w.principal(a.customer, a.key, a.project), Route: &cat.Routes[a.route], User: a.user}
	if a.cost != "" {
		q.Given = new(dec(a.cost))
	}
	return q
}

func (w *world) try(l *lessee.Lessee, a ask) (lessee.Hold, *lessee.Question, error) {
	q := w.question(a)
	h, _, err := l.Decide(context.Background(), q)
	return h, q, err
}

// allowed decides on n requests and says how many passed; each ends at its cost.
func (w *world) allowed(l *lessee.Lessee, n int, a ask) (passed int) {
	w.Helper()
	for range n {
		h, q, err := w.try(l, a)
		if err != nil {
			w.Fatal(err)
		}
		if q.Decision.Verdict == quota.Allow {
			h.End(q.Cost)
			passed++
		}
	}
	return passed
}

func daily(key, n string, per ...catalog.Scope) catalog.Limit {
	return catalog.Limit{Key: key, Meter: calls, Quota: new(dec(n)), Window: period.Day, Per: per}
}

func bucketOf(key, rate, burst string, per ...catalog.Scope) catalog.Limit {
	return catalog.Limit{Key: key, Meter: calls, Bucket: &catalog.Bucket{Rate: dec(rate), Burst: dec(burst), Per: time.Second}, Per: per}
}
