package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	coreseal "github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/file/tree"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const customer = "cus_00000000000000000000000001"

// world is a sealer over the real stores in a folder that outlives it.
type world struct {
	t        testing.TB
	dir      string
	now      time.Time
	signer   string
	verifier string
	segments int64 // bytes of a segment; 0: the default
	cfg      seal.Config
	records  *sqlite.Records
	journal  *file.Journal
	tiles    *tree.Tree
	seal     *seal.Service
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: start.AddDate(0, 1, 0)}
	var err error
	w.signer, w.verifier, err = coreseal.NewKey(rand.NewChaCha8([32]byte{1}), coreseal.Origin("d1"))
	ok(t, err)
	w.open()
	t.Cleanup(func() { w.close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	w.records, err = sqlite.Scratch(w.t.Context(), filepath.Join(w.dir, "records.db"))
	ok(w.t, err)
	w.journal, err = file.Open(file.Config{Dir: w.journalDir(), Checkpoint: 100, SegmentBytes: w.segments})
	ok(w.t, err)
	w.tiles, err = tree.Open(tree.Config{Dir: filepath.Join(w.journalDir(), "tree")})
	ok(w.t, err)
	w.cfg = seal.Config{
		Seals: w.records, Keys: w.records, Invoices: w.records, Journal: w.journal, Tiles: w.tiles, Signer: w.signer, Verifier: w.verifier,
		Now: func() time.Time { return w.now }, Random: rand.NewChaCha8([32]byte{byte(w.now.Minute()), 2}),
	}
	w.seal, err = seal.Open(w.t.Context(), w.cfg)
	ok(w.t, err)
}

func (w *world) journalDir() string { return filepath.Join(w.dir, "journal") }

func (w *world) close() {
	w.t.Helper()
	if w.records == nil {
		return
	}
	err := errors.Join(w.tiles.Close(), w.journal.Close(), w.records.Close())
	w.records = nil
	ok(w.t, err)
}

// restart closes the folder, lets something be done to it, and opens it again.
func (w *world) restart(between func()) {
	w.t.Helper()
	w.close()
	if between != nil {
		between()
	}
	w.open()
}

func event(id string, at time.Time, value int64) store.Entry {
	return store.Entry{
		Event: meter.Event{
			Source: "api", ID: id, Type: "request", Subject: "user 7 of acme", Time: at, Data: fmt.Appendf(nil, `{"n":%d}`, value),
		},
		Origin:      meter.Reported,
		Resolutions: []meter.Resolution{{CustomerID: customer, Meter: "calls", CatalogVersion: 1, Value: money.FromInt(value)}},
	}
}

// report appends n events of one call each, an hour apart.
func (w *world) report(prefix string, n int) {
	w.t.Helper()
	b := store.Batch{Producer: "api", ReceivedAt: w.now}
	for i := range n {
		b.Entries = append(b.Entries, event(fmt.Sprintf("%s%d", prefix, i), start.Add(time.Duration(i%700)*time.Hour), 1))
	}
	_, err := w.journal.Append(w.t.Context(), b)
	ok(w.t, err)
}

// tick lets a minute pass.
func (w *world) tick() store.Checkpoint {
	w.t.Helper()
	w.now = w.now.Add(time.Minute)
	ok(w.t, w.seal.Tick(w.t.Context()))
	c, err := w.seal.Latest(w.t.Context())
	ok(w.t, err)
	return c
}

func (w *world) revise(kind store.RevisionKind, id string, value int64) {
	w.t.Helper()
	r := store.Revision{Source: "api", ID: id, Kind: kind, If: store.AnyRevision}
	if kind != store.Void {
		e := event(id, start, value)
		r.Resolutions = e.Resolutions
		if kind == store.Amend {
			r.Event = e.Event
		}
	}
	_, err := w.journal.Revise(w.t.Context(), store.Revisions{Actor: "op", Reason: "test", At: w.now, List: []store.Revision{r}})
	ok(w.t, err)
}

var month = period.Interval{Start: start, End: start.AddDate(0, 1, 0)}

// closeMonth closes January as bill does, and returns the invoice's id.
func (w *world) closeMonth() string {
	w.t.Helper()
	ctx := w.t.Context()
	subscription := "sub_00000000000000000000000001"
	zone, err := period.LoadZone("UTC")
	ok(w.t, err)
	usd, err := money.ParseCurrency("USD")
	ok(w.t, err)
	audit := func(n int) store.Audit {
		return store.Audit{ID: fmt.Sprint("aud_", n), Time: w.now, Actor: "op", Action: "x"}
	}
	ok(w.t, w.records.PutCustomer(ctx, account.Customer{ID: customer, Key: "acme", Zone: zone, Currency: usd, CreatedAt: start}, audit(1)))
	ok(w.t, w.records.PutSubscription(ctx, account.Subscription{ID: subscription, CustomerID: customer, Plan: "pro", CatalogVersion: 1, Start: start, BillingDay: 1, CreatedAt: start}, audit(2)))
	var used meter.Rollup
	var position uint64
	ok(w.t, w.journal.View(ctx, func(v store.View) (err error) {
		position = v.Position()
		used, err = v.Usage(store.SeriesKey{CustomerID: customer, Meter: "calls"}, month)
		return err
	}))
	c, err := w.records.BeginClose(ctx, store.Close{SubscriptionID: subscription, Period: month, Position: position, ClosedAt: w.now})
	ok(w.t, err)
	draft := invoice.Invoice{
		ID: "inv_1", CustomerID: customer, SubscriptionID: subscription, Plan: "pro", Status: invoice.Draft, Currency: usd, Period: month,
		Lines: []invoice.Line{{
			ID: "iln_1", Number: 1, Kind: invoice.UsageLine, Price: "calls", Meter: "calls", Period: month, Quantity: used.Sum, Exact: used.Sum,
			Rounded: money.NewAmount(7, usd),
		}},
		Total: money.NewAmount(7, usd), CatalogVersion: 1, Position: position,
	}
	usage := []invoice.Usage{{Meter: "calls", Quantity: used.Sum}}
	w.revise(store.Void, "a5", 0) // late: after the close's position, before it is sealed
	for range 2 {                 // again after a crash: nothing more
		ok(w.t, w.seal.SealCloses(ctx, []store.Sealing{{Close: c, Usage: usage, Draft: draft}}))
	}
	_, err = w.records.FinishClose(ctx, c, store.Issue{Invoice: &draft}, w.now)
	ok(w.t, err)
	return draft.ID
}

// audit returns what is found, against a checkpoint that was kept elsewhere or none.
func (w *world) audit(against []byte) seal.Report {
	w.t.Helper()
	r, err := w.seal.Audit(context.WithoutCancel(w.t.Context()), bytes.Clone(against), "")
	ok(w.t, err)
	return r
}

// altered are records in which an invoice was changed.
type altered struct {
	store.Invoices
	lines   func([]invoice.Line)
	missing bool
	more    []invoice.Invoice
}

func (a altered) Invoice(ctx context.Context, id string) (invoice.Invoice, error) {
	if a.missing {
		return invoice.Invoice{}, store.ErrNotFound
	}
	inv, err := a.Invoices.Invoice(ctx, id)
	if a.lines != nil {
		a.lines(inv.Lines)
	}
	return inv, err
}

func (a altered) ListInvoices(ctx context.Context, q store.Query) ([]invoice.Invoice, error) {
	list, err := a.Invoices.ListInvoices(ctx, q)
	return append(list, a.more...), err
}
