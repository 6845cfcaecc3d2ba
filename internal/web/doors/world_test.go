package doors

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
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
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

const custID, keyID = "cus_00000000000000000000000001", "key_00000000000000000000000001"

var utc = period.MustZone("UTC")

// world is a door over a real enforcer and real stores.
type world struct {
	t   testing.TB
	cat *catalog.Compiled
	now time.Time
	e   *enforce.Enforcer
	d   *Door
}

func (w *world) Principal(secret string, _ time.Time) (account.Principal, account.KeyFault) {
	switch secret {
	case "":
		return account.Principal{}, account.FaultMissing
	case "good":
		p, _ := w.PrincipalOf("", w.now)
		return p, ""
	}
	return account.Principal{}, account.FaultUnknown
}

func (w *world) PrincipalOf(string, time.Time) (account.Principal, bool) {
	c, _ := w.Customer("")
	s, _ := w.ActiveSubscription("", w.now)
	return account.Principal{Key: account.APIKey{ID: keyID, CustomerID: custID}, Customer: c, Subscription: s, HasSubscription: true}, true
}

func (w *world) Overrides(string) []account.Override { return nil }

func (w *world) Current() *catalog.Compiled { return w.cat }

func (w *world) Version(context.Context, int64) (*catalog.Compiled, error) { return w.cat, nil }

func (w *world) Customer(string) (account.Customer, bool) {
	return account.Customer{ID: custID, Key: "acme", Zone: utc}, true
}

func (w *world) ActiveSubscription(string, time.Time) (account.Subscription, bool) {
	return account.Subscription{ID: "sub_1", CustomerID: custID, Plan: "free", CatalogVersion: 1, Start: w.now.Add(-36 * time.Hour).Truncate(24 * time.Hour), BillingDay: 1}, true
}

func newWorld(t testing.TB, quota string, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)}
	q := money.MustDecimal(quota)
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.cat, err = catalog.Compile(1, &catalog.Catalog{
		Meters: []catalog.Meter{{Key: "api_calls", Event: "request", Aggregation: meter.Count}},
		Plans: []catalog.Plan{{Key: "free", Currency: money.MustCurrency("USD"), Limits: []catalog.Limit{
			{Key: "daily", Meter: "api_calls", Quota: &q, Window: period.Day},
		}}},
		Routes: []catalog.Route{
			{Match: "GET /hello/{name}", Upstream: "http://127.0.0.1:9", Meter: "api_calls", Cost: money.FromInt(1), Timeout: time.Second},
			{Match: "POST admin.example/", Upstream: "http://127.0.0.1:9", Meter: "api_calls", Cost: money.FromInt(5), Timeout: time.Second},
		},
	})
	check()
	dir, ctx := t.TempDir(), context.Background()
	records, err := sqlite.Scratch(ctx, filepath.Join(dir, "records.db"))
	check()
	journal, err := file.Open(file.Config{Dir: filepath.Join(dir, "journal")})
	check()
	sp, err := spool.Open(spool.Config{Dir: filepath.Join(dir, "spool")})
	check()
	ring, err := receipt.ParseKeyring(receipt.NewKeyringFile(make([]byte, 32)))
	check()
	quotas, err := authority.New(authority.Config{
		Directory: w, Leases: records, Journal: journal, Now: func() time.Time { return w.now }, Mono: func() time.Duration { return 0 }, Local: 1,
		Log: slog.New(slog.DiscardHandler),
	})
	check()
	w.e, err = enforce.Open(ctx, enforce.Config{
		Directory: w, Spool: sp, Authority: quotas, Past: enforce.JournalPast{Journal: journal}, Deliver: enforce.Straight(journal), Keyring: ring, Node: 1, Boot: "b",
		Now: func() time.Time { return w.now }, Real: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
	})
	check()
	cfg := Config{Limiter: w.e, Catalog: w.Current, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now }}
	for _, c := range change {
		c(&cfg)
	}
	w.d, err = New(cfg)
	check()
	t.Cleanup(func() {
		for _, end := range []func() error{sp.Close, journal.Close, records.Close} {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

// asks is what a proxy sends for a request; more are further headers, by pairs.
func asks(query, method, uri, key string, more ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, AuthPath, nil)
	r.URL.RawQuery, r.RemoteAddr = query, "127.0.0.1:4711"
	r.Header.Set("X-Forwarded-Method", method)
	r.Header.Set("X-Forwarded-Uri", uri)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(more); i += 2 {
		r.Header.Add(more[i], more[i+1])
	}
	return r
}

func (w *world) ask(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	w.d.ServeHTTP(rec, r)
	return rec
}
