package gateway

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

const (
	custID   = "cus_00000000000000000000000001"
	keyID    = "key_00000000000000000000000001"
	apiCalls = "api_calls"
)

// world is a gateway over a real enforcer and real stores.
type world struct {
	t       testing.TB
	mu      sync.Mutex // guards cat
	cat     *catalog.Compiled
	now     time.Time
	e       *enforce.Enforcer
	journal *file.Journal
	spool   *spool.Spool
	gw      *httptest.Server
	cfg     Config
	gateway *Gateway
	running atomic.Bool // the business clock goes on
	began   time.Time
	zone    period.Zone
	// What follows is set before declare.
	estimate string
	limits   []catalog.Limit
}

func quotaOf(n string) catalog.Limit {
	q := money.MustDecimal(n)
	return catalog.Limit{Key: "daily", Meter: apiCalls, Quota: &q, Window: period.Day}
}

func (w *world) declare(version int64, quota string, routes ...catalog.Route) {
	w.t.Helper()
	for i := range routes {
		if routes[i].Timeout == 0 {
			routes[i].Timeout = 5 * time.Second
		}
		routes[i].Meter, routes[i].Cost = apiCalls, money.FromInt(1)
		if w.estimate != "" {
			routes[i].Cost = money.MustDecimal(w.estimate)
		}
		if routes[i].Refund.Statuses == nil {
			routes[i].Refund = catalog.RefundDefault()
		}
	}
	aggregation, value := meter.Count, ""
	if w.estimate != "" {
		aggregation, value = meter.Sum, "data.cost"
	}
	c, err := catalog.Compile(version, &catalog.Catalog{
		Meters: []catalog.Meter{{Key: apiCalls, Event: "request", Aggregation: aggregation, Value: value}},
		Plans:  []catalog.Plan{{Key: "free", Currency: money.MustCurrency("USD"), Limits: append([]catalog.Limit{quotaOf(quota)}, w.limits...)}},
		Routes: routes,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cat = c
}

func (w *world) Principal(secret string, _ time.Time) (account.Principal, account.KeyFault) {
	switch secret {
	case "":
		return account.Principal{}, account.FaultMissing
	case "good":
		return account.Principal{
			Key: account.APIKey{ID: keyID, CustomerID: custID}, Customer: w.customer(), Subscription: w.subscription(), HasSubscription: true,
		}, ""
	case "idle":
		return account.Principal{Key: account.APIKey{ID: keyID, CustomerID: custID}, Customer: w.customer()}, ""
	}
	return account.Principal{}, account.FaultUnknown
}

func (w *world) customer() account.Customer {
	return account.Customer{ID: custID, Key: "acme", Zone: w.zone}
}

func (w *world) subscription() account.Subscription {
	return account.Subscription{ID: "sub_1", CustomerID: custID, Plan: "free", CatalogVersion: 1, Start: w.now.Add(-24 * time.Hour).Truncate(24 * time.Hour), BillingDay: 1}
}

func (w *world) PrincipalOf(_ string, now time.Time) (account.Principal, bool) {
	sub, ok := w.ActiveSubscription(custID, now)
	return account.Principal{Customer: w.customer(), Subscription: sub, HasSubscription: ok}, true
}

func (w *world) Overrides(string) []account.Override { return nil }

func (w *world) Current() *catalog.Compiled {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cat
}

func (w *world) Version(context.Context, int64) (*catalog.Compiled, error) { return w.Current(), nil }

func (w *world) Customer(string) (account.Customer, bool) { return w.customer(), true }

func (w *world) ActiveSubscription(string, time.Time) (account.Subscription, bool) {
	return w.subscription(), true
}

// clock is the business time.
func (w *world) clock() time.Time {
	if w.running.Load() {
		return w.now.Add(time.Since(w.began))
	}
	return w.now
}

// newWorld starts a gateway; routes are set by the test through declare.
func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, began: time.Now(), zone: period.MustZone("UTC"), now: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)}
	w.declare(1, "1000000")
	dir := t.TempDir()
	ctx := t.Context()
	records, err := sqlite.Scratch(ctx, filepath.Join(dir, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	if w.journal, err = file.Open(file.Config{Dir: filepath.Join(dir, "journal")}); err != nil {
		t.Fatal(err)
	}
	if w.spool, err = spool.Open(spool.Config{Dir: filepath.Join(dir, "spool")}); err != nil {
		t.Fatal(err)
	}
	ring, err := receipt.ParseKeyring(receipt.NewKeyringFile(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	quotas, err := authority.New(authority.Config{
		Directory: w, Leases: records, Journal: w.journal, Now: w.clock, Mono: func() time.Duration { return time.Since(w.began) }, Local: 1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.e, err = enforce.Open(ctx, enforce.Config{
		Directory: w, Spool: w.spool, Authority: quotas, Past: enforce.JournalPast{Journal: w.journal}, Deliver: enforce.Straight(w.journal), Keyring: ring, Node: 1, Boot: "b",
		Now: w.clock, Real: time.Now, Log: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
	w.cfg = Config{Limiter: w.e, Catalog: w.Current, Log: slog.New(slog.DiscardHandler), Now: time.Now, MaxBody: 1 << 20, Standard: os.Getenv(standardEnv) != ""}
	for _, c := range change {
		c(&w.cfg)
	}
	g, err := New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.gateway = g
	w.gw = httptest.NewUnstartedServer(g)
	p := protocols()
	w.gw.Config.Protocols = &p
	w.gw.Config.MaxHeaderBytes = 64 << 10
	w.gw.Start()
	t.Cleanup(func() {
		w.gw.Close()
		for _, err := range []error{w.spool.Close(), w.journal.Close(), records.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

// events are what the journal holds after all that is settled was shipped.
func (w *world) events() []store.Record {
	w.t.Helper()
	if err := w.e.Flush(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	p, err := w.journal.Scan(context.Background(), store.Scan{SeriesKey: store.SeriesKey{CustomerID: custID, Meter: apiCalls}, Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	return p.Records
}

// ended waits until no request is open and wants these totals.
func (w *world) ended(settled, released, incomplete int64) {
	w.t.Helper()
	if err := w.e.Settled(w.t.Context(), w.now); err != nil {
		w.t.Fatal(err)
	}
	s := w.e.Stats()
	if s.Settled != settled || s.Released != released || s.Incomplete != incomplete || s.Open != 0 {
		w.t.Errorf("settled %d released %d incomplete %d open %d; want %d, %d, %d, 0", s.Settled, s.Released, s.Incomplete, s.Open, settled, released, incomplete)
	}
	if n := int64(len(w.events())); n != settled {
		w.t.Errorf("%d events, want %d", n, settled)
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
