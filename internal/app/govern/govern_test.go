package govern_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What the other use cases need of the directory.
var (
	_ bill.Directory    = (*govern.Service)(nil)
	_ enforce.Directory = (*govern.Service)(nil)
)

var start = time.Date(2026, 3, 10, 22, 30, 0, 0, time.UTC)

const plans = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count}
  - {key: tokens, event: completion, aggregation: sum, value: data.tokens, scale: 2}
  - {key: spare, event: spare, aggregation: count}
plans:
  - key: free
    currency: USD
    limits:
      - {key: daily, meter: api_calls, quota: "100", window: day, enforcement: hard}
  - key: pro
    currency: USD
    prices:
      - {key: platform, model: flat, amount: "20.00", every: month, charge: in_advance}
      - {key: tokens, meter: tokens, model: graduated, every: month, tiers: [{unit_amount: "0.0004"}]}
  - key: euro
    currency: EUR
`

// world is govern over real records; the journal notes its cuts.
type world struct {
	*govern.Service
	t       testing.TB
	records *sqlite.Records
	mode    account.Mode
	now     time.Time
	random  *rand.ChaCha8
	cuts    []string
	cutting error // what the next cuts answer
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, mode: account.Test, now: start, random: rand.NewChaCha8([32]byte{1})}
	var err error
	if w.records, err = sqlite.Scratch(t.Context(), filepath.Join(t.TempDir(), "records.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.records.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Service = w.open()
	return w
}

func (w *world) open() *govern.Service {
	w.t.Helper()
	s, err := govern.New(w.t.Context(), w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) config() govern.Config {
	return govern.Config{
		Records: w.records, Journal: w, Now: func() time.Time { return w.now }, Random: w.random, Pepper: []byte(strings.Repeat("p", 32)), Mode: w.mode,
	}
}

func (w *world) Cut(_ context.Context, customerID string, at time.Time) error {
	w.cuts = append(w.cuts, customerID+" "+period.Format(at))
	return w.cutting
}

func (w *world) apply(source string) govern.CatalogVersion {
	w.t.Helper()
	v, _, err := w.ApplyCatalog(w.t.Context(), "op", "plans.yaml", []byte(source))
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) customer(key string) account.Customer {
	w.t.Helper()
	c, err := w.CreateCustomer(w.t.Context(), "op", govern.NewCustomer{Key: key})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) subscribe(customer, plan string) account.Subscription {
	w.t.Helper()
	sub, err := w.CreateSubscription(w.t.Context(), "op", govern.NewSubscription{Customer: customer, Plan: plan})
	if err != nil {
		w.t.Fatal(err)
	}
	return sub
}

func (w *world) key(n govern.NewKey) (account.APIKey, string) {
	w.t.Helper()
	k, secret, err := w.CreateKey(w.t.Context(), "op", n)
	if err != nil {
		w.t.Fatal(err)
	}
	return k, secret
}

func (w *world) wantInvalid(err error, pointer, says string) {
	w.t.Helper()
	var invalid *govern.Invalid
	if !errors.As(err, &invalid) || !errors.Is(err, account.ErrInvalid) || invalid.Pointer != pointer || !strings.Contains(err.Error(), says) || invalid.Fix == "" {
		w.t.Errorf("got %v, want a fault at %s that says %q", err, pointer, says)
	}
}

func TestRefusedConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, change := range map[string]func(*govern.Config){
		"no records":   func(c *govern.Config) { c.Records = nil },
		"short pepper": func(c *govern.Config) { c.Pepper = []byte("p") },
		"no mode":      func(c *govern.Config) { c.Mode = "" },
	} {
		cfg := w.config()
		change(&cfg)
		if _, err := govern.New(t.Context(), cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCustomers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme, err := w.CreateCustomer(t.Context(), "op", govern.NewCustomer{Key: "acme", Name: "Acme Inc.", Zone: "Europe/Paris", Currency: "EUR"})
	if err != nil {
		t.Fatal(err)
	}
	if acme.Zone.String() != "Europe/Paris" || acme.Currency.Code() != "EUR" || acme.Name != "Acme Inc." || !acme.CreatedAt.Equal(start) {
		t.Errorf("created %+v", acme)
	}
	if zebra := w.customer("Zebra"); zebra.Name != "Zebra" || zebra.Zone.String() != "UTC" || zebra.Currency.Code() != "USD" {
		t.Errorf("defaults: %+v", zebra)
	}
	w.customer("bolt")
	if _, err := w.CreateCustomer(t.Context(), "op", govern.NewCustomer{Key: "acme"}); !errors.Is(err, account.ErrExists) || !strings.Contains(err.Error(), `"acme"`) {
		t.Errorf("twice: %v", err)
	}
	for _, tc := range []struct {
		n             govern.NewCustomer
		pointer, says string
	}{
		{govern.NewCustomer{}, "/key", "1 to 64 characters"},
		{govern.NewCustomer{Key: "cus_1"}, "/key", "cus_"},
		{govern.NewCustomer{Key: "x", Name: "a\nb"}, "/name", "one line"},
		{govern.NewCustomer{Key: "x", Name: strings.Repeat("x", 201)}, "/name", "200 bytes"},
		{govern.NewCustomer{Key: "x", Zone: "Mars/Base"}, "/zone", "Mars/Base"},
		{govern.NewCustomer{Key: "x", Currency: "XQX"}, "/currency", "ISO 4217"},
	} {
		_, err := w.CreateCustomer(t.Context(), "op", tc.n)
		w.wantInvalid(err, tc.pointer, tc.says)
	}
	if _, err := w.CreateCustomer(t.Context(), "", govern.NewCustomer{Key: "x"}); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("by nobody: %v", err)
	}
	for _, s := range []*govern.Service{w.Service, w.open()} {
		var keys []string
		for _, c := range s.Customers() {
			keys = append(keys, c.Key)
		}
		if !cmp.Equal(keys, []string{"Zebra", "acme", "bolt"}) {
			t.Errorf("customers %q", keys)
		}
		for _, ref := range []string{"acme", acme.ID} {
			if c, ok := s.Customer(ref); !ok || c.ID != acme.ID {
				t.Errorf("%s: %+v", ref, c)
			}
		}
		if _, ok := s.Customer("nobody"); ok {
			t.Error("found nobody")
		}
		if _, ok := s.Customer(""); ok {
			t.Error("found a customer without name")
		}
	}
	list, err := w.ListCustomers(t.Context(), govern.Query{Limit: 2})
	if err != nil || len(list) != 2 {
		t.Errorf("a page: %d, %v", len(list), err)
	}
}

// crowd are records with many customers, newest first.
type crowd struct {
	govern.Records
	customers []account.Customer
}

func (c crowd) ListCustomers(_ context.Context, q govern.Query) ([]account.Customer, error) {
	from := 1 + slices.IndexFunc(c.customers, func(x account.Customer) bool { return x.ID == q.Cursor })
	return c.customers[from:min(from+q.Limit, len(c.customers))], nil
}

func TestManyPagesAreLoaded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config()
	for _, n := range []int{1000, 1001, 2500} {
		c := crowd{Records: w.records}
		for i := range n {
			c.customers = append(c.customers, account.Customer{ID: fmt.Sprintf("cus_%d", n-i), Key: fmt.Sprint(n - i)})
		}
		cfg.Records = c
		s, err := govern.New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(s.Customers()); got != n {
			t.Errorf("loaded %d customers, want %d", got, n)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	acme := w.customer("acme")
	sub := w.subscribe("acme", "pro")
	k, secret := w.key(govern.NewKey{Customer: "acme", Name: "ci", ExpiresAt: start.Add(time.Hour)})
	if account.CheckSecret(secret) != nil || !strings.HasPrefix(secret, "tally_test_") || k.Hint != account.SecretHint(secret) || k.CustomerID != acme.ID {
		t.Fatalf("key %+v of %q", k, secret)
	}
	for _, s := range []*govern.Service{w.Service, w.open()} {
		p, fault := s.Principal(secret, start)
		if fault != "" || p.Key.ID != k.ID || p.Customer.ID != acme.ID || !p.HasSubscription || p.Subscription.ID != sub.ID {
			t.Errorf("principal %+v, %q", p, fault)
		}
		if p, fault := s.Principal(secret, start.Add(-time.Second)); fault != "" || p.HasSubscription {
			t.Errorf("before the subscription: %+v, %q", p, fault)
		}
		if p, fault := s.Principal(secret, start.Add(time.Hour)); fault != govern.KeyExpired || p.Customer.ID != acme.ID {
			t.Errorf("expired: %+v, %q", p, fault)
		}
	}
	w.key(govern.NewKey{Customer: acme.ID, Name: "ci"})
	if _, _, err := w.CreateKey(t.Context(), "op", govern.NewKey{Customer: "acme", Name: "ci"}); !errors.Is(err, account.ErrState) || !strings.Contains(err.Error(), "two live keys") {
		t.Errorf("a third live key of a name: %v", err)
	}
	w.now = start.Add(time.Minute)
	revoked, err := w.RevokeKey(t.Context(), "op", k.ID)
	if err != nil || !revoked.RevokedAt.Equal(w.now) {
		t.Fatalf("revoke: %+v, %v", revoked, err)
	}
	for _, s := range []*govern.Service{w.Service, w.open()} {
		if p, fault := s.Principal(secret, start); fault != govern.KeyRevoked || p.Key.ID != k.ID {
			t.Errorf("revoked: %+v, %q", p, fault)
		}
	}
	w.now = start.Add(2 * time.Minute)
	if again, err := w.RevokeKey(t.Context(), "op", k.ID); err != nil || !again.RevokedAt.Equal(revoked.RevokedAt) {
		t.Errorf("revoked again: %+v, %v", again, err)
	}
	if _, err := w.RevokeKey(t.Context(), "op", "key_x"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("revoke no key: %v", err)
	}
	if got, err := w.Key(t.Context(), k.ID); err != nil || !got.RevokedAt.Equal(revoked.RevokedAt) {
		t.Errorf("read: %+v, %v", got, err)
	}
	if _, err := w.Key(t.Context(), secret); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("read by secret: %v", err)
	}
	if list, err := w.ListKeys(t.Context(), govern.Query{CustomerID: "acme"}); err != nil || len(list) != 2 || list[1].ID != k.ID {
		t.Errorf("list: %+v, %v", list, err)
	}
	if _, err := w.ListKeys(t.Context(), govern.Query{CustomerID: "acne"}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("list of nobody: %v", err)
	}
	_, _, err = w.CreateKey(t.Context(), "op", govern.NewKey{Customer: "acne"})
	w.wantInvalid(err, "/customer", `did you mean "acme"`)
	_, _, err = w.CreateKey(t.Context(), "op", govern.NewKey{Customer: "acme", ExpiresAt: w.now})
	w.wantInvalid(err, "/expires_at", "future")
}

func TestPrincipalRefusesGarbage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("acme")
	_, secret := w.key(govern.NewKey{Customer: "acme"})
	unknown, err := account.NewSecret(account.Test, w.random)
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]govern.KeyFault{
		"":                              govern.KeyMissing,
		"x":                             govern.KeyUnknown,
		"demo_free":                     govern.KeyUnknown,
		unknown:                         govern.KeyUnknown,
		secret + "x":                    govern.KeyUnknown,
		strings.Repeat("x", 1<<20):      govern.KeyUnknown,
		secret[:len(secret)-1] + "\x00": govern.KeyUnknown,
	} {
		if p, fault := w.Principal(s, start); fault != want || p.Key.ID != "" {
			t.Errorf("%.80q: %q, want %q", s, fault, want)
		}
	}
}

// TestGarbageAllocatesNothing is not parallel: other tests would be counted too.
func TestGarbageAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	garbage := strings.Repeat("x", len("tally_test_")+49)
	if n := testing.AllocsPerRun(100, func() { w.Principal(garbage, start) }); n != 0 {
		t.Errorf("garbage costs %v allocations", n)
	}
}

func TestFixedSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("bolt")
	k, secret := w.key(govern.NewKey{Customer: "bolt", Fixed: "demo_free"})
	if secret != "demo_free" || strings.Contains(k.Hint, "free") {
		t.Errorf("key %+v of %q", k, secret)
	}
	for _, s := range []*govern.Service{w.Service, w.open()} {
		if p, fault := s.Principal("demo_free", start); fault != "" || p.Customer.Key != "bolt" {
			t.Errorf("principal %+v, %q", p, fault)
		}
		if _, fault := s.Principal("demo_fre", start); fault != govern.KeyUnknown {
			t.Errorf("another: %q", fault)
		}
	}
	if _, _, err := w.CreateKey(t.Context(), "op", govern.NewKey{Customer: "bolt", Fixed: "demo_free"}); !errors.Is(err, account.ErrExists) {
		t.Errorf("twice: %v", err)
	}
	for _, fixed := range []string{strings.Repeat("x", 65), "a b", "a\n", "é"} {
		_, _, err := w.CreateKey(t.Context(), "op", govern.NewKey{Customer: "bolt", Fixed: fixed})
		w.wantInvalid(err, "/fixed", "64 visible")
	}
	formed, err := account.NewSecret(account.Live, w.random)
	if err != nil {
		t.Fatal(err)
	}
	w.key(govern.NewKey{Customer: "bolt", Fixed: formed})
	w.mode = account.Live
	live := w.open()
	for _, secret := range []string{"demo_free", formed} {
		if _, fault := live.Principal(secret, start); fault != govern.KeyUnknown {
			t.Errorf("%s of a demo's folder in live mode: %q", secret, fault)
		}
	}
	_, _, err = live.CreateKey(t.Context(), "op", govern.NewKey{Customer: "bolt", Fixed: "demo_pro"})
	w.wantInvalid(err, "/fixed", "test mode")
	for i := range 14 {
		name := "c" + string(rune('a'+i))
		w.customer(name)
		w.key(govern.NewKey{Customer: name, Fixed: "fixed_" + name})
	}
	_, _, err = w.CreateKey(t.Context(), "op", govern.NewKey{Customer: "ca", Fixed: "one_more"})
	w.wantInvalid(err, "/fixed", "16")
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	paris, err := w.CreateCustomer(t.Context(), "op", govern.NewCustomer{Key: "paris", Zone: "Asia/Tokyo"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.CreateSubscription(t.Context(), "op", govern.NewSubscription{Customer: "paris", Plan: "pro"})
	w.wantInvalid(err, "/plan", "apply a catalog")
	w.apply(plans)
	for _, tc := range []struct {
		n             govern.NewSubscription
		pointer, says string
	}{
		{govern.NewSubscription{Customer: "pariss", Plan: "pro"}, "/customer", `did you mean "paris"`},
		{govern.NewSubscription{Customer: "elephant", Plan: "pro"}, "/customer", "tally customers list"},
		{govern.NewSubscription{Customer: "paris", Plan: "pto"}, "/plan", `did you mean "pro"`},
		{govern.NewSubscription{Customer: "paris", Plan: "elephant"}, "/plan", "free, pro, euro"},
		{govern.NewSubscription{Customer: "paris", Plan: "euro"}, "/plan", "EUR"},
		{govern.NewSubscription{Customer: "paris", Plan: "pro", BillingDay: 32}, "/billing_day", "1 to 31"},
		{govern.NewSubscription{Customer: "paris", Plan: "pro", BillingDay: -1}, "/billing_day", "1 to 31"},
		{govern.NewSubscription{Customer: "paris", Plan: "pro", Start: start.Add(-400*24*time.Hour - time.Microsecond)}, "/start", "400 days"},
		{govern.NewSubscription{Customer: "paris", Plan: "pro", Start: start.Add(366*24*time.Hour + time.Microsecond)}, "/start", "366 days"},
	} {
		_, err := w.CreateSubscription(t.Context(), "op", tc.n)
		w.wantInvalid(err, tc.pointer, tc.says)
	}
	if len(w.cuts) != 0 {
		t.Errorf("refused ones cut %v", w.cuts)
	}
	w.cutting = errors.New("disk full")
	if _, err := w.CreateSubscription(t.Context(), "op", govern.NewSubscription{Customer: "paris", Plan: "pro"}); !errors.Is(err, w.cutting) {
		t.Errorf("the cut fails: %v", err)
	}
	if list, err := w.ListSubscriptions(t.Context(), govern.Query{}); err != nil || len(list) != 0 || len(w.SubscriptionsOf(paris.ID)) != 0 {
		t.Errorf("without its cut: %v, %v", list, err)
	}
	w.cutting = nil
	past := start.Add(-65 * 24 * time.Hour).Add(999 * time.Nanosecond)
	sub, err := w.CreateSubscription(t.Context(), "op", govern.NewSubscription{Customer: "paris", Plan: "pro", Start: past})
	if err != nil {
		t.Fatal(err)
	}
	want := account.Subscription{
		ID: sub.ID, CustomerID: paris.ID, Plan: "pro", CatalogVersion: 1, Start: past.Truncate(time.Microsecond), BillingDay: 5, CreatedAt: start,
		AnchorAt: past.Truncate(time.Microsecond), Every: period.EveryMonth(),
	}
	if sub != want { // 4 January, 22:30 is the 5th in Tokyo
		t.Errorf("subscription %+v, want %+v", sub, want)
	}
	if c := w.cuts[len(w.cuts)-1]; c != paris.ID+" 2026-01-04T22:30:00Z" {
		t.Errorf("cut %s", c)
	}
	for _, s := range []*govern.Service{w.Service, w.open()} {
		if got := s.SubscriptionsOf(paris.ID); !cmp.Equal(got, []account.Subscription{want}) {
			t.Errorf("directory: %+v", got)
		}
		if _, ok := s.ActiveSubscription(paris.ID, past.Add(-time.Microsecond)); ok {
			t.Error("active before its start")
		}
		if got, ok := s.ActiveSubscription(paris.ID, start); !ok || got != want {
			t.Errorf("active: %+v", got)
		}
	}
	_, err = w.CreateSubscription(t.Context(), "op", govern.NewSubscription{Customer: "paris", Plan: "free", Start: start.Add(time.Hour)})
	if !errors.Is(err, account.ErrState) || !strings.Contains(err.Error(), sub.ID) {
		t.Errorf("a second one: %v", err)
	}
	if got, err := w.Subscription(t.Context(), sub.ID); err != nil || got != want {
		t.Errorf("read: %+v, %v", got, err)
	}
	if _, err := w.Subscription(t.Context(), "sub_x"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("read none: %v", err)
	}
}

func TestAuditLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	acme := w.customer("acme")
	w.subscribe("acme", "pro")
	k, secret := w.key(govern.NewKey{Customer: "acme", Name: "ci"})
	if _, err := w.RevokeKey(t.Context(), "root", k.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.Audit(t.Context(), "root", "clock.advance", "clock", `{"to":"2027"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.Audit(t.Context(), "root", "clock.advance", "clock", `{`); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("broken detail: %v", err)
	}
	log, err := w.Audits(t.Context(), govern.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, a := range log {
		actions = append(actions, a.Action)
		if strings.Contains(a.Detail, secret) || !strings.HasPrefix(a.ID, "aud_") || !a.Time.Equal(start) || a.Actor == "" || a.Target == "" {
			t.Errorf("entry %+v", a)
		}
	}
	slices.Sort(actions) // all in one millisecond
	if !cmp.Equal(actions, []string{"catalog.apply", "clock.advance", "customer.create", "key.create", "key.revoke", "subscription.create"}) {
		t.Errorf("log %q", actions)
	}
	if log, err = w.Audits(t.Context(), govern.Query{CustomerID: "acme"}); err != nil || len(log) != 1 || log[0].Target != acme.ID || log[0].Detail != `{"currency":"USD","key":"acme","zone":"UTC"}` {
		t.Errorf("of acme: %+v, %v", log, err)
	}
}

// TestReadersWhileWriting runs under the race detector: the hot path reads while operators write.
func TestReadersWhileWriting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	acme := w.customer("acme")
	k, secret := w.key(govern.NewKey{Customer: "acme"})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			revoked := false
			for {
				select {
				case <-stop:
					return
				default:
				}
				p, fault := w.Principal(secret, start)
				if p.Customer.ID != acme.ID || revoked && fault != govern.KeyRevoked || !revoked && fault != "" && fault != govern.KeyRevoked {
					t.Errorf("principal %+v, %q (revoked %v)", p, fault, revoked)
					return
				}
				revoked = fault == govern.KeyRevoked
				w.Customers()
				w.SubscriptionsOf(acme.ID)
				w.Current().Plan("pro")
			}
		})
	}
	w.subscribe("acme", "pro")
	for i := range 5 {
		w.customer("c" + string(rune('a'+i)))
		w.apply(strings.Replace(plans, `"100"`, `"10`+string(rune('1'+i))+`"`, 1))
	}
	if _, err := w.RevokeKey(t.Context(), "op", k.ID); err != nil {
		t.Error(err)
	}
	if _, fault := w.Principal(secret, start); fault != govern.KeyRevoked {
		t.Errorf("after the answer: %q", fault)
	}
	close(stop)
	readers.Wait()
}

func BenchmarkPrincipal(b *testing.B) {
	w := newWorld(b)
	w.apply(plans)
	w.customer("acme")
	w.subscribe("acme", "pro")
	_, secret := w.key(govern.NewKey{Customer: "acme"})
	for name, s := range map[string]string{"known": secret, "garbage": strings.Repeat("x", len(secret))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.Principal(s, start)
			}
		})
	}
}
