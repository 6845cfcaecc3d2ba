package envoy

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authpb "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	ratepb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	custID   = "cus_00000000000000000000000001"
	keyID    = "key_00000000000000000000000001"
	apiCalls = "api_calls"
)

// world is both doors over a real enforcer, real stores and the official client.
type world struct {
	t    *testing.T
	mu   sync.Mutex // guards cat, now
	cat  *catalog.Compiled
	now  time.Time
	e    *enforce.Enforcer
	d    *Doors
	auth authpb.AuthorizationClient
	rate ratepb.RateLimitServiceClient
	last enforce.Request // as the limiter saw it
}

func compile(t testing.TB, quota string, change ...func(*catalog.Catalog)) *catalog.Compiled {
	t.Helper()
	daily := money.MustDecimal(quota)
	c := &catalog.Catalog{
		Meters: []catalog.Meter{{Key: apiCalls, Event: "request", Aggregation: meter.Count}},
		Plans: []catalog.Plan{{Key: "free", Currency: money.MustCurrency("USD"), Limits: []catalog.Limit{
			{Key: "daily", Meter: apiCalls, Quota: &daily, Window: period.Day},
		}}},
		Routes: []catalog.Route{
			{Match: "GET /hello", Upstream: "http://127.0.0.1:1", Meter: apiCalls, Cost: money.FromInt(1), Timeout: time.Second},
			{Match: "GET /free", Upstream: "http://127.0.0.1:1", Timeout: time.Second},
		},
	}
	for _, f := range change {
		f(c)
	}
	out, err := catalog.Compile(1, c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) Principal(secret string, now time.Time) (account.Principal, account.KeyFault) {
	switch secret {
	case "":
		return account.Principal{}, account.FaultMissing
	case "good":
		return w.PrincipalOfCustomer(now), ""
	}
	return account.Principal{}, account.FaultUnknown
}

func (w *world) PrincipalOfCustomer(time.Time) account.Principal {
	return account.Principal{
		Key: account.APIKey{ID: keyID, CustomerID: custID}, Customer: w.customer(), Subscription: w.subscription(), HasSubscription: true,
	}
}

func (w *world) customer() account.Customer {
	return account.Customer{ID: custID, Key: "acme", Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD")}
}

func (w *world) subscription() account.Subscription {
	return account.Subscription{ID: "sub_1", CustomerID: custID, Plan: "free", CatalogVersion: 1, Start: w.Now().Add(-24 * time.Hour).Truncate(24 * time.Hour), BillingDay: 1}
}

func (w *world) PrincipalOf(ref string, now time.Time) (account.Principal, bool) {
	return w.PrincipalOfCustomer(now), ref == "acme"
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

// Admit and NoRoute are the enforcer's; the last request is kept.
func (w *world) Admit(ctx context.Context, r enforce.Request) *enforce.Admission {
	w.mu.Lock()
	w.last = r
	w.mu.Unlock()
	return w.e.Admit(ctx, r)
}

func (w *world) NoRoute() string { return w.e.NoRoute() }

func newWorld(t *testing.T, cat *catalog.Compiled, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC), cat: cat}
	dir, ctx := t.TempDir(), context.Background()
	records, err := sqlite.Scratch(ctx, filepath.Join(dir, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	journal, err := file.Open(file.Config{Dir: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Open(spool.Config{Dir: filepath.Join(dir, "spool")})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := receipt.ParseKeyring(receipt.NewKeyringFile(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	born := time.Now()
	quotas, err := authority.New(authority.Config{
		Directory: w, Leases: records, Journal: journal, Now: w.Now, Mono: func() time.Duration { return time.Since(born) }, Local: 1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.e, err = enforce.Open(ctx, enforce.Config{
		Directory: w, Spool: sp, Authority: quotas, Past: enforce.JournalPast{Journal: journal}, Deliver: enforce.Straight(journal), Keyring: ring, Node: 1, Boot: "b",
		Now: w.Now, Real: time.Now, Log: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Limiter: w, Catalog: w.Current, Log: slog.New(slog.DiscardHandler), Now: w.Now}
	for _, f := range change {
		f(&cfg)
	}
	if w.d, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	w.serve()
	t.Cleanup(func() {
		if err := w.d.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, err := range []error{sp.Close(), journal.Close(), records.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

func (w *world) serve() {
	l := bufconn.Listen(1 << 20)
	s := w.d.Server()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///doors", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		w.t.Fatal(err)
	}
	w.auth, w.rate = authpb.NewAuthorizationClient(conn), ratepb.NewRateLimitServiceClient(conn)
	w.t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
}

// want are totals of the enforcer since start.
func (w *world) want(settled, released, open int64) {
	w.t.Helper()
	s := w.e.Stats()
	if s.Settled != settled || s.Released != released || s.Open != open {
		w.t.Errorf("settled %d released %d open %d; want %d, %d, %d", s.Settled, s.Released, s.Open, settled, released, open)
	}
}

// contains fails for each text that is not in what.
func contains(t *testing.T, what string, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !strings.Contains(what, s) {
			t.Errorf("no %q in %s", s, what)
		}
	}
}
