package portal_test

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/store/sqlite"
	"github.com/tallystick/tallystick/internal/web/portal"
	"github.com/tallystick/tallystick/internal/web/session"
)

const (
	freeSecret = "demo_free"
	evil       = `<script>alert("Bolt & Sons")</script>`
	catalog    = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count}
plans:
  - key: free
    currency: USD
    limits:
      - {key: burst, meter: api_calls, token_bucket: {rate: "200/s", burst: 200}}
      - {key: daily, meter: api_calls, quota: "3", window: day, enforcement: hard}
  - key: pro
    currency: USD
    prices:
      - {key: platform, model: flat, amount: "20.00", every: month, charge: in_advance}
      - key: calls
        meter: api_calls
        model: graduated
        every: month
        tiers:
          - {up_to: "2", unit_amount: "0"}
          - {unit_amount: "0.0004"}
    limits:
      - {key: spend, spend_cap: "500.00", window: billing_period, enforcement: hard}
gateway:
  routes:
    - {match: "GET /hello", upstream: "http://127.0.0.1:9000", meter: api_calls, cost: "1"}
`
)

// world is the portal over real services and stores.
type world struct {
	t       *testing.T
	h       http.Handler
	govern  *govern.Service
	credits *credits.Service
	enforce *enforce.Enforcer
	bill    *bill.Service
	clock   *clock.Clock
	signer  *session.Signer
	cookie  *http.Cookie // of the session, once a link was opened

	mu   sync.Mutex // guards real
	real time.Time
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.real
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.real = w.real.Add(d)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, real: time.Date(2026, 10, 15, 12, 0, 0, 0, time.UTC)}
	w.signer = session.New(make([]byte, 32), "tally_op_right", w.now)
	dir, ctx := t.TempDir(), t.Context()
	records := must[*sqlite.Records](t)(sqlite.Scratch(ctx, filepath.Join(dir, "records.db")))
	journal := must[*file.Journal](t)(file.Open(file.Config{Dir: filepath.Join(dir, "journal")}))
	log := slog.New(slog.DiscardHandler)
	w.clock = must[*clock.Clock](t)(clock.New(clock.Config{
		Real: w.now, Test: true, Load: func() (clock.State, error) { return clock.State{}, nil }, Save: func(clock.State) error { return nil },
	}))
	w.govern = must[*govern.Service](t)(govern.New(ctx, govern.Config{
		Records: records, Journal: journal, Now: w.clock.Now, Random: rand.NewChaCha8([32]byte{}), Pepper: make([]byte, 32), Mode: account.Test,
	}))
	w.credits = must[*credits.Service](t)(credits.New(ctx, credits.Config{
		Directory: w.govern, Records: records, Journal: journal, Flush: func(ctx context.Context) error { return w.enforce.Flush(ctx) }, Now: w.clock.Now,
		Random: rand.NewChaCha8([32]byte{9}), Tell: func(context.Context, notify.Message) error { return nil },
	}))
	sp := must[*spool.Spool](t)(spool.Open(spool.Config{Dir: filepath.Join(dir, "spool")}))
	quotas := must[*authority.Service](t)(authority.New(authority.Config{
		Directory: w.govern, Leases: records, Journal: journal, Now: w.clock.Now, Mono: func() time.Duration { return 0 }, Local: 1, Log: log, Credits: w.credits.Units,
	}))
	w.enforce = must[*enforce.Enforcer](t)(enforce.Open(ctx, enforce.Config{
		Directory: w.govern, Spool: sp, Authority: quotas, Past: enforce.JournalPast{Journal: journal}, Deliver: enforce.Straight(journal), Node: 1, Boot: "b", Now: w.clock.Now, Real: w.clock.Now, Log: log,
		Keyring: must[*receipt.Keyring](t)(receipt.ParseKeyring(receipt.NewKeyringFile(make([]byte, 32)))),
	}))
	w.bill = must[*bill.Service](t)(bill.New(bill.Config{Directory: w.govern, Journal: journal, Invoices: records, Now: w.clock.Now}))
	w.h = must[http.Handler](t)(portal.New(portal.Config{
		Govern: w.govern, Enforce: w.enforce, Bill: w.bill, Clock: w.clock, Signer: w.signer, Log: log,
	}))
	t.Cleanup(func() {
		for _, err := range []error{w.enforce.Close(context.WithoutCancel(ctx)), sp.Close(), journal.Close(), records.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

// seed declares the catalog and two customers: acme on pro since a month, bolt on free, with a name that is no name.
func (w *world) seed() {
	w.t.Helper()
	ctx := w.t.Context()
	if _, _, err := w.govern.ApplyCatalog(ctx, "test", "test.yaml", []byte(catalog)); err != nil {
		w.t.Fatal(err)
	}
	for _, c := range []struct{ key, name, plan, zone string }{{"acme", "Acme GmbH", "pro", "Europe/Berlin"}, {"bolt", evil, "free", "UTC"}} {
		cust := must[account.Customer](w.t)(w.govern.CreateCustomer(ctx, "test", govern.NewCustomer{Key: c.key, Name: c.name, Zone: c.zone, Currency: "USD"}))
		start := time.Date(2026, 9, 10, 0, 0, 0, 0, cust.Zone.Location())
		must[account.Subscription](w.t)(w.govern.CreateSubscription(ctx, "test", govern.NewSubscription{Customer: cust.ID, Plan: c.plan, Start: start}))
		if _, _, err := w.govern.CreateKey(ctx, "test", govern.NewKey{Customer: cust.ID, Name: "k", Fixed: "demo_" + c.plan}); err != nil {
			w.t.Fatal(err)
		}
	}
	for more := true; more; {
		more = must[bool](w.t)(w.bill.Tick(ctx))
	}
}

// send passes requests through the gateway's decision and settles those that were admitted.
func (w *world) send(secret string, n int) (last *enforce.Admission) {
	w.t.Helper()
	route := &w.govern.Current().Routes[0]
	for range n {
		last = w.enforce.Admit(w.t.Context(), enforce.Request{Secret: secret, Route: route, Method: http.MethodGet})
		if last.Allowed() {
			if err := last.Settle(enforce.Actual{Status: http.StatusOK}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return last
}

// call sends a request with the session's cookie and header pairs.
func (w *world) call(method, path string, header ...string) *http.Response {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if w.cookie != nil {
		r.AddCookie(w.cookie)
	}
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	return rec.Result()
}

// page is the body of a page that must answer 200.
func (w *world) page(path string) string {
	w.t.Helper()
	resp := w.call(http.MethodGet, path)
	body := text(w.t, resp)
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("GET %s: status %d: %s", path, resp.StatusCode, body)
	}
	return body
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	return string(must[[]byte](t)(io.ReadAll(resp.Body)))
}

// open follows a new link of a customer.
func (w *world) open(ref string) *http.Response {
	w.t.Helper()
	cust, ok := w.govern.Customer(ref)
	if !ok {
		w.t.Fatalf("no customer %s", ref)
	}
	link, _ := w.signer.Sign(session.PortalLink, cust.ID, session.LinkTTL)
	resp := w.call(http.MethodGet, "/portal/open?token="+link)
	text(w.t, resp)
	for _, c := range resp.Cookies() {
		w.cookie = c
	}
	return resp
}
