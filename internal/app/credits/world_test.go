package credits_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

const seller = `
tallystick: 1
meters:
  - {key: calls, event: request, aggregation: count}
  - {key: tokens, event: completion, aggregation: sum, value: data.tokens}
plans:
  - key: pro
    currency: USD
    prices:
      - {key: calls, meter: calls, model: graduated, tiers: [{up_to: "10", unit_amount: "0"}, {unit_amount: "0.25"}]}
    limits:
      - {key: prepaid, meter: calls, credits: true}
  - key: open
    currency: USD
    prices:
      - {key: calls, meter: calls, model: graduated, tiers: [{up_to: "10", unit_amount: "0"}, {unit_amount: "0.25"}]}
  - key: wallet
    currency: USD
    prices:
      - {key: calls, meter: calls, model: graduated, tiers: [{up_to: "10", unit_amount: "0"}, {unit_amount: "0.25"}]}
      - {key: tokens, meter: tokens, model: package, size: "3", amount: "1"}
    limits:
      - {key: money, credits: true}
      - {key: cap, spend_cap: "9", window: billing_period}
  - key: dear
    currency: USD
    prices:
      - {key: calls, meter: calls, model: unit, unit_amount: "0.4"}
    limits:
      - {key: money, credits: true}
      - {key: cap, spend_cap: "9", window: billing_period}
  - key: bounded
    currency: USD
    prices:
      - {key: calls, meter: calls, model: unit, unit_amount: "0.4", included: "5"}
    limits:
      - {key: cap, spend_cap: "9", window: billing_period}
  - key: steep
    currency: USD
    prices:
      - {key: calls, meter: calls, model: graduated, tiers: [{up_to: "4", unit_amount: "2"}, {unit_amount: "0.1"}]}
    limits:
      - {key: cap, spend_cap: "9", window: billing_period}
add_ons:
  - key: more
    plans: [bounded, steep, dear]
    currency: USD
    prices:
      - {key: more_tokens, meter: tokens, model: unit, unit_amount: "0.7"}
gateway:
  routes:
    - {match: "GET /hello", upstream: "http://127.0.0.1:9000", meter: calls, cost: "1"}
    - {match: "GET /words", upstream: "http://127.0.0.1:9000", meter: tokens, cost: "2"}
`

// world is credits over real stores, with enforcement in front.
type world struct {
	*credits.Service
	t       testing.TB
	dir     string
	starts  byte
	records *sqlite.Records
	journal *file.Journal
	spool   *spool.Spool
	govern  *govern.Service
	enforce *enforce.Enforcer
	bill    *bill.Service
	failing func() error // before each notice
	coupons []catalog.Coupon

	mu   sync.Mutex // guards the fields below
	now  time.Time
	told []notify.Message
	once map[string]bool
}

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: start, once: map[string]bool{}}
	w.open()
	_, _, err := w.govern.ApplyCatalog(t.Context(), "op", "seller.yaml", []byte(seller))
	ok(t, err)
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// tell keeps what the notices would store: of two with the same Once, one.
func (w *world) tell(_ context.Context, m notify.Message) error {
	if w.failing != nil {
		if err := w.failing(); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.once[m.Once] {
		w.told, w.once[m.Once] = append(w.told, m), true
	}
	return nil
}

// kinds are the notices so far, and there are none after it.
func (w *world) kinds() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.told {
		list = append(list, m.Kind)
	}
	w.told = nil
	return list
}

// open is a start of the server.
func (w *world) open() {
	t, ctx := w.t, context.Background()
	t.Helper()
	var err error
	w.records, err = sqlite.Scratch(ctx, filepath.Join(w.dir, "records.db"))
	ok(t, err)
	w.journal, err = file.Open(file.Config{Dir: filepath.Join(w.dir, "journal")})
	ok(t, err)
	w.spool, err = spool.Open(spool.Config{Dir: filepath.Join(w.dir, "spool")})
	ok(t, err)
	w.starts++
	seed := [32]byte{w.starts}
	w.govern, err = govern.New(ctx, govern.Config{
		Records: w.records, Journal: w.journal, Now: w.clock, Random: rand.NewChaCha8(seed), Pepper: make([]byte, 32), Mode: account.Test,
	})
	ok(t, err)
	seed[31]++
	w.bill, err = bill.New(bill.Config{Directory: w.govern, Journal: w.journal, Invoices: w.records, Now: w.clock})
	ok(t, err)
	w.Service, err = credits.New(ctx, credits.Config{
		Directory: selling{w.govern, w}, Records: w.records, Journal: w.journal, Flush: func(ctx context.Context) error { return w.enforce.Flush(ctx) }, Now: w.clock,
		Random: rand.NewChaCha8(seed), Tell: w.tell, Spent: w.bill.Spent,
	})
	ok(t, err)
	quotas, err := authority.New(authority.Config{
		Directory: w.govern, Leases: w.records, Journal: w.journal, Now: w.clock, Mono: func() time.Duration { return 0 }, Local: 1,
		Credits: w.Units, Usage: w.govern.UsageAt, Wallet: w.Wallet, Log: slog.New(slog.DiscardHandler),
	})
	ok(t, err)
	ring, err := receipt.ParseKeyring(receipt.NewKeyringFile(make([]byte, 32)))
	ok(t, err)
	w.enforce, err = enforce.Open(ctx, enforce.Config{
		Directory: w.govern, Spool: w.spool, Authority: quotas, Past: enforce.JournalPast{Journal: w.journal}, Deliver: enforce.Straight(w.journal),
		Node: 1, Boot: "b", Now: w.clock, Real: w.clock, Log: slog.New(slog.DiscardHandler), Keyring: ring,
		Spending: func(ctx context.Context, customerID string) (enforce.Spending, error) {
			charged, b, err := w.Spending(ctx, customerID)
			return enforce.Spending{Charged: charged, Left: b.Left, Burned: b.Burned, Granted: b.Granted.Rational()}, err
		},
	})
	ok(t, err)
	quotas.Register(1, w.enforce)
	records, journal, sp, e := w.records, w.journal, w.spool, w.enforce
	t.Cleanup(func() { _ = e.Close(context.Background()); _ = sp.Close(); _ = journal.Close(); _ = records.Close() })
}

// selling is the directory with the world's coupons in the catalog.
type selling struct {
	*govern.Service
	w *world
}

func (s selling) Current() *catalog.Compiled {
	c := *s.Service.Current()
	with := *c.Catalog
	with.Coupons = s.w.coupons
	c.Catalog = &with
	return &c
}

// restart ends the server without a word, and starts it again.
func (w *world) restart() {
	w.t.Helper()
	_ = w.spool.Close()
	_ = w.journal.Close()
	_ = w.records.Close()
	w.open()
}

func (w *world) customer(key, zone string) account.Customer {
	w.t.Helper()
	c, err := w.govern.CreateCustomer(context.Background(), "op", govern.NewCustomer{Key: key, Zone: zone, Currency: "USD"})
	ok(w.t, err)
	_, err = w.govern.CreateSubscription(context.Background(), "op", govern.NewSubscription{Customer: key, Plan: "pro"})
	ok(w.t, err)
	return c
}

// on puts acme on another plan, now.
func (w *world) on(plan string) {
	w.t.Helper()
	_, err := w.govern.ChangeSubscription(context.Background(), "op", "acme", govern.NewChange{Kind: subscription.ToPlan, Plan: plan, Reason: "test"}, false)
	ok(w.t, err)
}

// grant gives a customer units of calls.
func (w *world) grant(key string, n credits.NewGrant) account.Grant {
	w.t.Helper()
	n.Customer, n.Reason = key, "test"
	g, err := w.CreateGrant(context.Background(), "op", n)
	ok(w.t, err)
	return g
}

// call makes a request and says whether it passed.
func (w *world) call(customerID string) bool {
	w.t.Helper()
	route := &w.govern.Current().Routes[0]
	a := w.enforce.Admit(context.Background(), enforce.Request{Trusted: customerID, Route: route, Method: "GET"})
	if !a.Allowed() {
		if a.Code != "credits_exhausted" {
			w.t.Fatalf("denied with %s: %s", a.Code, a.Detail)
		}
		return false
	}
	ok(w.t, a.Settle(enforce.Actual{Status: 200}))
	return true
}

// calls makes so many requests and counts those that passed.
func (w *world) calls(customerID string, n int) (passed int) {
	for range n {
		if w.call(customerID) {
			passed++
		}
	}
	return passed
}

// left is what is left of calls to acme, and used without a grant, as the API tells it.
func (w *world) left() string {
	w.t.Helper()
	list, _, err := w.Balances(context.Background(), "acme")
	ok(w.t, err)
	for _, b := range list {
		if b.Meter == "calls" {
			return fmt.Sprint(b.Left, " ", b.Overage)
		}
	}
	return "none"
}

func (w *world) tick() {
	w.t.Helper()
	for more := true; more; {
		var err error
		more, err = w.Tick(context.Background())
		ok(w.t, err)
	}
}

func dec(s string) money.Decimal { return money.MustDecimal(s) }

// TestMain has properties over real stores tried fewer times than usual, unless the command line says how often.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "15"); err != nil {
		panic(err)
	}
	flag.Parse()
	m.Run()
}
