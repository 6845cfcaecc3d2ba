package enforce

import (
	"context"
	"crypto/rand"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

// world is an enforcer over the real stores of one folder, with a clock and a catalog in hand.
type world struct {
	t    testing.TB
	dir  string
	boot string

	mu   sync.Mutex // guards now and cat
	now  time.Time
	cat  *catalog.Compiled
	cust account.Customer
	sub  account.Subscription

	spoolConfig spool.Config
	records     *sqlite.Records
	journal     *file.Journal
	spool       *spool.Spool
	real        func() time.Time
	durable     map[string][]byte // the spool's files as they would survive a power cut
	receiver    *receive.Receiver
	authority   *authority.Service
	born        time.Time
	overrides   []account.Override
	revision    uint64 // of what limits depend on
	abnormal    bool
	unpaid      bool
	granted     string                // of credits; "": none
	stale       *account.Subscription // what the next look-up of a key finds, once
	e           *Enforcer
}

const (
	custID  = "cus_00000000000000000000000001"
	keyID   = "key_00000000000000000000000001"
	apiCall = "api_calls"
)

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func dec(s string) money.Decimal { return money.MustDecimal(s) }

func quotaLimit(key, n string, w period.Window) catalog.Limit {
	return catalog.Limit{Key: key, Meter: apiCall, Quota: new(dec(n)), Window: w}
}

func bucketLimit(rate, burst string) catalog.Limit {
	return catalog.Limit{Key: "burst", Meter: apiCall, Bucket: &catalog.Bucket{Rate: dec(rate), Burst: dec(burst), Per: time.Second}}
}

// declare is a catalog with a plan "free" of these limits and a plan "pro" without any.
func declare(t testing.TB, version int64, limits ...catalog.Limit) *catalog.Compiled {
	t.Helper()
	usd := money.MustCurrency("USD")
	calls := price.Price{Key: "calls", Meter: apiCall, Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{
		{UpTo: new(dec("10")), UnitAmount: dec("0")}, {UnitAmount: dec("0.25")},
	}}
	c := &catalog.Catalog{
		Meters: []catalog.Meter{{Key: apiCall, Event: "request", Aggregation: meter.Count, Dimensions: []string{"status"}}},
		Plans: []catalog.Plan{
			{Key: "free", Currency: usd, Limits: limits, Prices: []price.Price{calls}},
			{Key: "pro", Currency: usd},
		},
		Routes: []catalog.Route{{Match: "GET /hello", Upstream: "http://127.0.0.1:1", Meter: apiCall, Cost: dec("1"), Timeout: time.Second}},
	}
	out, err := catalog.Compile(version, c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newWorld(t testing.TB, limits ...catalog.Limit) *world {
	t.Helper()
	return newWorldOn(t, spool.Config{SegmentBytes: 64 << 10}, limits...)
}

func newWorldOn(t testing.TB, sc spool.Config, limits ...catalog.Limit) *world {
	t.Helper()
	w := &world{
		t: t, spoolConfig: sc, real: time.Now, born: time.Now(), dir: t.TempDir(), boot: "boot-1", now: start.Add(36 * time.Hour), cat: declare(t, 1, limits...),
		cust: account.Customer{ID: custID, Key: "acme", Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD")},
		sub:  account.Subscription{ID: "sub_00000000000000000000000001", CustomerID: custID, Plan: "free", CatalogVersion: 1, Start: start, BillingDay: 1},
	}
	w.open()
	return w
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) apply(c *catalog.Compiled) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cat = c
}

// Principal knows the secret "good" alone.
func (w *world) Principal(secret string, now time.Time) (account.Principal, account.KeyFault) {
	switch secret {
	case "":
		return account.Principal{}, account.FaultMissing
	case "good":
		sub, ok := w.ActiveSubscription(custID, now)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.stale != nil {
			sub, w.stale = *w.stale, nil
		}
		return account.Principal{
			Key: account.APIKey{ID: keyID, CustomerID: custID}, Customer: w.cust, Subscription: sub, HasSubscription: ok, Revision: w.revision, Abnormal: w.abnormal, Unpaid: w.unpaid,
		}, ""
	}
	return account.Principal{}, account.FaultUnknown
}

func (w *world) PrincipalOf(_ string, now time.Time) (account.Principal, bool) {
	sub, ok := w.ActiveSubscription(custID, now)
	return account.Principal{Customer: w.cust, Subscription: sub, HasSubscription: ok}, true
}

func (w *world) Overrides(string) []account.Override {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overrides
}

// credits is what the test says was granted, less what was used.
func (w *world) credits(v store.View, customerID, meterKey string, _ time.Time) (c authority.Credit, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.granted == "" {
		return c, nil
	}
	r, err := v.Usage(store.SeriesKey{CustomerID: customerID, Meter: meterKey}, period.Interval{Start: start})
	if err != nil {
		return c, err
	}
	left, err := dec(w.granted).Sub(r.Sum)
	return authority.Credit{Since: start, Used: r.Sum, Reported: r.Reported, Left: left, Granted: dec(w.granted)}, err
}

func (w *world) grant(n string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.granted = n
	w.revision++
}

func (w *world) Current() *catalog.Compiled {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cat
}

func (w *world) Version(context.Context, int64) (*catalog.Compiled, error) { return w.Current(), nil }

func (w *world) Customer(string) (account.Customer, bool) { return w.cust, true }

func (w *world) ActiveSubscription(_ string, at time.Time) (account.Subscription, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sub, w.sub.Active(at)
}

// open starts a process over the folder.
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
	w.spoolConfig.Dir = filepath.Join(w.dir, "spool")
	if w.spool, err = spool.Open(w.spoolConfig); err != nil {
		w.t.Fatal(err)
	}
	ring, err := receipt.ParseKeyring(receipt.NewKeyringFile(make([]byte, 32)))
	if err != nil {
		w.t.Fatal(err)
	}
	w.openReceiver()
	signer, err := receive.NewSigner(make([]byte, 32))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.receiver.Register(ctx, 1, signer.Public()); err != nil {
		w.t.Fatal(err)
	}
	if w.authority, err = authority.New(authority.Config{
		Directory: w, Leases: w.records, Journal: w.journal, Now: w.Now, Mono: func() time.Duration { return time.Since(w.born) }, Local: 1,
		Credits: w.credits, Rebooted: w.boot != "boot-1", Torn: w.spool.Recovery().Torn(), Log: slog.New(slog.DiscardHandler),
	}); err != nil {
		w.t.Fatal(err)
	}
	w.e, err = Open(ctx, Config{
		Directory: w, Spool: w.spool, Authority: w.authority, Past: JournalPast{w.journal}, Keyring: ring, Node: 1, Boot: w.boot, Now: w.Now, Real: w.real, Torn: w.spool.Recovery().Torn(),
		Log: slog.New(slog.DiscardHandler), Deliver: receive.NewSender(1, signer, w.receiver).Deliver,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.authority.Register(1, w.e)
	w.t.Cleanup(w.crash)
}

// openReceiver puts the real checks in front of the journal.
func (w *world) openReceiver() {
	w.t.Helper()
	var err error
	if w.receiver, err = receive.New(context.Background(), receive.Config{Journal: w.journal, Records: w.records, Now: w.Now, Random: rand.Reader}); err != nil {
		w.t.Fatal(err)
	}
}

// wantSound fails when any batch of the gateway was refused or found missing, in this run or before.
func (w *world) wantSound(fail func(string, ...any)) {
	found, err := w.receiver.Findings(context.Background())
	if err != nil || len(found) > 0 {
		fail("findings %+v, %v", found, err)
	}
}

// crash ends the process without a goodbye: the stores lose nothing that they acknowledged.
func (w *world) crash() {
	for _, err := range []error{w.spool.Close(), w.journal.Close(), w.records.Close()} {
		if err != nil && !strings.Contains(err.Error(), "closed") {
			w.t.Error(err)
		}
	}
}

func (w *world) stop() {
	w.t.Helper()
	if err := w.e.Close(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.crash()
}

func (w *world) route() *catalog.Route { return &w.Current().Routes[0] }

func (w *world) admit() *Admission {
	return w.e.Admit(context.Background(), Request{Secret: "good", Route: w.route(), Method: "GET"})
}

// calls admits and settles n requests and says how many were allowed.
func (w *world) calls(n int) (allowed int) {
	w.t.Helper()
	for range n {
		if a := w.admit(); a.Allowed() {
			allowed++
			if err := a.Settle(Actual{Status: 200}); err != nil {
				w.t.Fatal(err)
			}
		} else if a.Outcome == receipt.Unavailable {
			w.t.Fatalf("unavailable: %s", a.Detail)
		}
	}
	return allowed
}

func (w *world) flush() {
	w.t.Helper()
	if err := w.e.Flush(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// booked is what the journal holds of the customer: enforcement's total and the rollups' sum.
func (w *world) booked() (admitted, metered string) {
	w.t.Helper()
	w.flush()
	k := store.SeriesKey{CustomerID: custID, Meter: apiCall}
	err := w.journal.View(context.Background(), func(v store.View) error {
		a, err := v.Admitted(k, start.UnixMicro())
		if err != nil {
			return err
		}
		r, err := v.Usage(k, period.Interval{})
		admitted, metered = a.String(), r.Sum.String()
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return admitted, metered
}

func (w *world) wantBooked(want string) {
	w.t.Helper()
	if a, m := w.booked(); a != want || m != want {
		w.t.Errorf("admitted %s, metered %s; want %s both", a, m, want)
	}
}

// report appends usage counted outside.
func (w *world) report(id string, n int) {
	w.t.Helper()
	var b store.Batch
	b.Producer, b.ReceivedAt = "test", w.Now()
	for i := range n {
		b.Entries = append(b.Entries, store.Entry{
			Event:       meter.Event{Source: "test", ID: id + string(rune('a'+i%26)) + strings.Repeat("x", i/26), Type: "request", Subject: custID, Time: w.Now()},
			Origin:      meter.Reported,
			Resolutions: []meter.Resolution{{CustomerID: custID, Meter: apiCall, CatalogVersion: 1, Value: dec("1")}},
		})
	}
	if _, err := w.journal.Append(context.Background(), b); err != nil {
		w.t.Fatal(err)
	}
	w.e.Counted([]string{custID})
}

// syncSpool makes what is in the spool now survive the next power cut; losePower takes away what came later.
func (w *world) syncSpool() {
	w.t.Helper()
	if err := w.spool.Sync(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.durable = map[string][]byte{}
	for _, name := range w.spoolFiles() {
		b, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		w.durable[name] = b
	}
}

func (w *world) losePower() {
	w.t.Helper()
	w.boot += "x"
	for _, name := range w.spoolFiles() {
		if err := os.Remove(name); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, b := range w.durable {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) spoolFiles() []string {
	names, err := filepath.Glob(filepath.Join(w.dir, "spool", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

// TestMain keeps the random histories few: each one starts several processes' worth of stores.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
