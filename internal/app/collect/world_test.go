package collect_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var errCrash = errors.New("crash")

// tb is what a test and a rapid property share.
type tb interface {
	rapid.TB
	Cleanup(func())
	Context() context.Context
}

// records are the driver's, with invoices as they will be, and faults.
type records struct {
	*sqlite.Records
	invoices map[string]invoice.Invoice
	before   int // writes until one fails without effect; 0: none does
	behind   int // writes until one fails after it took effect
}

func (r *records) Invoice(ctx context.Context, id string) (invoice.Invoice, error) {
	if inv, ok := r.invoices[id]; ok {
		return inv, nil
	}
	return r.Records.Invoice(ctx, id)
}

// write does one, unless it is the one that fails.
func (r *records) write(do func() error) error {
	if r.before > 0 {
		if r.before--; r.before == 0 {
			return errCrash
		}
	}
	err := do()
	if r.behind > 0 {
		if r.behind--; r.behind == 0 {
			return errors.Join(err, errCrash)
		}
	}
	return err
}

func (r *records) Move(ctx context.Context, m store.Movement, a store.Audit) error {
	return r.write(func() error { return r.Records.Move(ctx, m, a) })
}

func (r *records) PutStep(ctx context.Context, s store.DunningStep) (added bool, err error) {
	err = r.write(func() error {
		added, err = r.Records.PutStep(ctx, s)
		return err
	})
	return added, err
}

// world is collecting for one customer, over a real store.
type world struct {
	*collect.Service
	t         tb
	r         *records
	now       time.Time
	rules     catalog.Dunning
	cust      account.Customer
	told      []string // kinds, each occasion once
	once      map[string]bool
	suspended map[string]bool
	provider  collect.Provider
	made      int
}

func newWorld(t tb, dir string) *world {
	t.Helper()
	db, err := sqlite.Scratch(t.Context(), filepath.Join(dir, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{
		t: t, r: &records{Records: db, invoices: map[string]invoice.Invoice{}}, now: start, once: map[string]bool{}, suspended: map[string]bool{},
		cust: account.Customer{ID: "cus_1", Key: "acme", Zone: period.MustZone("Europe/Berlin"), Currency: money.MustCurrency("EUR"), CreatedAt: start},
	}
	w.ok(db.PutCustomer(t.Context(), w.cust, store.Audit{ID: "aud_1", Time: start}))
	w.ok(db.PutSubscription(t.Context(), account.Subscription{ID: "sub_1", CustomerID: "cus_1", Plan: "pro", Start: start, BillingDay: 1, CreatedAt: start}, store.Audit{ID: "aud_2", Time: start}))
	w.restart()
	return w
}

// restart is a new service over the same store, as after a crash.
func (w *world) restart() {
	w.t.Helper()
	w.r.before, w.r.behind, w.suspended = 0, 0, map[string]bool{}
	w.made++
	var err error
	w.Service, err = collect.New(collect.Config{
		Directory: w, Records: w.r, Now: func() time.Time { return w.now }, Random: rand.NewChaCha8([32]byte{byte(w.made), byte(w.made >> 8)}),
		Post: w.post, Suspend: func(id string, on bool) { w.suspended[id] = on }, Provider: w.provider, Log: slog.New(slog.DiscardHandler),
	})
	w.ok(err)
}

func (w *world) post(_ context.Context, m notify.Message) error {
	return w.r.write(func() error {
		if !w.once[m.Once] {
			w.once[m.Once] = true
			text := m.Kind
			if m.Invoice.Days > 0 {
				text += fmt.Sprint(" ", m.Invoice.Days)
			}
			w.told = append(w.told, text)
		}
		return nil
	})
}

func (w *world) Current() *catalog.Compiled {
	return &catalog.Compiled{Catalog: &catalog.Catalog{Billing: catalog.Billing{Dunning: w.rules}}}
}

func (w *world) Customer(ref string) (account.Customer, bool) {
	return w.cust, ref == w.cust.ID || ref == w.cust.Key
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) refused(what string, err, want error) {
	w.t.Helper()
	if !errors.Is(err, want) {
		w.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func eur(minor int64) money.Amount { return money.NewAmount(minor, money.MustCurrency("EUR")) }

// finalize stores an invoice of these lines with a tax of so many percent on top, due after so many days.
func (w *world) finalize(dueDays int, percent int64, lines ...int64) invoice.Invoice {
	w.t.Helper()
	w.made++
	n := w.made
	c := store.Close{SubscriptionID: "sub_1", Period: period.Interval{Start: start.AddDate(0, 0, n), End: start.AddDate(0, 0, n+1)}, ClosedAt: w.now}
	_, err := w.r.BeginClose(w.t.Context(), c)
	w.ok(err)
	full := invoice.Invoice{
		ID: fmt.Sprintf("inv_%03d", n), CustomerID: "cus_1", SubscriptionID: "sub_1", Plan: "pro", Status: invoice.Draft, Currency: w.cust.Currency,
		Period: c.Period, DueAt: w.now.AddDate(0, 0, dueDays),
	}
	sum := int64(0)
	for i, minor := range lines {
		sum += minor
		full.Lines = append(full.Lines, invoice.Line{
			ID: fmt.Sprintf("iln_%03d_%d", n, i+1), Number: i + 1, Kind: invoice.UsageLine, Price: "p", Period: c.Period, Rounded: eur(minor), Taxes: []string{"vat"},
		})
	}
	full.Subtotal, full.Tax = eur(sum), eur(sum*percent/100)
	full.Taxes = []invoice.Tax{{Key: "vat", Base: full.Subtotal, Amount: full.Tax}}
	full.Total = eur(sum + full.Tax.Minor())
	bare := full
	bare.Taxes, bare.Tax, bare.Subtotal = nil, money.Amount{}, money.Amount{}
	bare.Lines = []invoice.Line{{ID: full.ID, Number: 1, Kind: invoice.UsageLine, Price: "p", Period: c.Period, Rounded: full.Total}}
	posted := full
	posted.FinalizedAt = w.now
	entries, err := ledger.OfInvoice(posted, nil)
	w.ok(err)
	_, err = w.r.FinishClose(w.t.Context(), c, store.Issue{Invoice: &bare, Entries: entries}, w.now)
	w.ok(err)
	full.Status, full.FinalizedAt = invoice.Finalized, w.now
	w.r.invoices[full.ID] = full
	return full
}

func (w *world) view(inv invoice.Invoice) collect.View {
	w.t.Helper()
	views, err := w.Views(w.t.Context(), []invoice.Invoice{inv})
	w.ok(err)
	return views[0]
}

// stands checks how an invoice is shown, what is left, and that the ledger adds up.
func (w *world) stands(inv invoice.Invoice, status invoice.Status, remaining int64) {
	w.t.Helper()
	if v := w.view(inv); v.Shown != status || v.Remaining != eur(remaining) {
		w.t.Errorf("%s is %s with %s left, want %s with %s", inv.ID, v.Shown, v.Remaining, status, eur(remaining))
	}
	w.conserved()
}

func (w *world) conserved() {
	w.t.Helper()
	all, err := w.Check(w.t.Context())
	w.ok(err)
	for _, c := range all {
		if c.Difference.Minor() != 0 || c.Sum.Minor() != 0 {
			w.t.Fatalf("the ledger is off by %s: %+v", c.Difference, c)
		}
	}
}

func (w *world) balanceIs(want int64) {
	w.t.Helper()
	got, err := w.BalanceOf(w.t.Context(), "cus_1")
	w.ok(err)
	if got != eur(want) {
		w.t.Errorf("balance %s, want %s", got, eur(want))
	}
}

// tick does all that is due.
func (w *world) tick() error {
	for {
		more, err := w.Tick(w.t.Context())
		if err != nil || !more {
			return err
		}
	}
}

// days passes so many and does what is due.
func (w *world) days(n int) {
	w.t.Helper()
	w.now = w.now.AddDate(0, 0, n)
	w.ok(w.tick())
}

func (w *world) toldIs(want ...string) {
	w.t.Helper()
	if !slices.Equal(w.told, want) {
		w.t.Errorf("told %q, want %q", w.told, want)
	}
	w.told = nil
}

func paid(minor int64) collect.NewPayment { return collect.NewPayment{Amount: eur(minor)} }
