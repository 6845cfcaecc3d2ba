package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/file/tree"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

// sold has a plan of five lines: four of usage, one that is flat.
const sold = `tallystick: 1
meters:
  - {key: m0, event: e0, aggregation: sum, value: data.n}
  - {key: m1, event: e1, aggregation: sum, value: data.n}
  - {key: m2, event: e2, aggregation: sum, value: data.n}
  - {key: m3, event: e3, aggregation: sum, value: data.n}
plans:
  - key: pro
    currency: USD
    prices:
      - {key: platform, model: flat, amount: "20.00", every: month, charge: in_advance}
      - {key: p0, meter: m0, model: graduated, every: month, tiers: [{up_to: "100", unit_amount: "0"}, {up_to: "1000", unit_amount: "0.01"}, {unit_amount: "0.004"}]}
      - {key: p1, meter: m1, model: unit, every: month, unit_amount: "0.0125"}
      - {key: p2, meter: m2, model: graduated, every: month, tiers: [{up_to: "50", unit_amount: "0.2"}, {unit_amount: "0.1"}]}
      - {key: p3, meter: m3, model: unit, every: month, unit_amount: "0.3"}
`

const metersCount = 4

// lines on each invoice.
const lines = metersCount + 1

func start() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func end() time.Time { return start().AddDate(0, 1, 0) }

func customerID(i int) string { return fmt.Sprintf("cus_%026d", i) }

// seed writes the records as a deployment in the middle of its life has them: the invoice at each subscription's start is closed.
func seed(ctx context.Context, path string, n int) (err error) {
	r, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	if err := r.PutCatalog(ctx, store.CatalogVersion{Version: 1, Source: []byte(sold), AppliedAt: start(), AppliedBy: "bench"}, 0); err != nil {
		return errors.Join(err, r.Close())
	}
	if err := r.Close(); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	at := start().UnixMicro()
	for i := range n {
		sub := fmt.Sprintf("sub_%026d", i)
		for _, x := range []struct {
			query string
			args  []any
		}{
			{"INSERT INTO customers (id, key, name, zone, currency, created_at) VALUES (?, ?, ?, 'UTC', 'USD', ?)", []any{customerID(i), fmt.Sprintf("c%06d", i), "Customer", at}},
			{"INSERT INTO subscriptions (id, customer_id, plan, catalog_version, start_at, billing_day, created_at) VALUES (?, ?, 'pro', 1, ?, 1, ?)", []any{sub, customerID(i), at, at}},
			{"INSERT INTO closes (subscription_id, period_start, period_end, position, closed_at, catalog_version, done) VALUES (?, ?, ?, 0, ?, 1, 1)", []any{sub, at, at, at}},
		} {
			if _, err := tx.ExecContext(ctx, x.query, x.args...); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
	}
	return tx.Commit()
}

// use appends events of the month, spread over customers, meters and days.
func use(ctx context.Context, j *file.Journal, customers, events int) error {
	const batch = 10_000
	for from := 0; from < events; from += batch {
		b := store.Batch{Producer: "api/bench", ReceivedAt: end()}
		for i := from; i < min(events, from+batch); i++ {
			m := i / customers % metersCount
			at := start().Add(time.Duration(i%2_591_999) * time.Second)
			b.Entries = append(b.Entries, store.Entry{
				Event:  meter.Event{Source: "bench", ID: fmt.Sprint(i), Type: fmt.Sprint("e", m), Subject: customerID(i % customers), Time: at},
				Origin: meter.Reported,
				Resolutions: []meter.Resolution{{
					CustomerID: customerID(i % customers), Meter: fmt.Sprint("m", m), CatalogVersion: 1, Value: money.FromInt(int64(i%977 + 1)),
				}},
			})
		}
		if _, err := j.Append(ctx, b); err != nil {
			return err
		}
		if err := j.Tick(ctx); err != nil {
			return err
		}
	}
	return nil
}

// world is billing with all that a server gives it, over its stores in a folder.
type world struct {
	records *sqlite.Records
	journal *file.Journal
	tiles   *tree.Tree
	sealer  *seal.Service
	govern  *govern.Service
	bill    *bill.Service
}

func open(ctx context.Context, dir string, now func() time.Time) (w *world, err error) {
	w = &world{}
	if w.records, err = sqlite.Open(ctx, filepath.Join(dir, "records.db")); err != nil {
		return nil, err
	}
	if w.journal, err = file.Open(file.Config{Dir: filepath.Join(dir, "journal")}); err != nil {
		return nil, err
	}
	if w.tiles, err = tree.Open(tree.Config{Dir: filepath.Join(dir, "tree")}); err != nil {
		return nil, err
	}
	signer, verifier, err := note.GenerateKey(rand.Reader, "bench")
	if err != nil {
		return nil, err
	}
	if w.sealer, err = seal.Open(ctx, seal.Config{
		Seals: w.records, Keys: w.records, Invoices: w.records, Journal: w.journal, Tiles: w.tiles, Signer: signer, Verifier: verifier, Now: now, Random: rand.Reader,
	}); err != nil {
		return nil, err
	}
	if w.govern, err = govern.New(ctx, govern.Config{
		Records: w.records, Journal: w.journal, Now: now, Random: rand.Reader, Pepper: bytes.Repeat([]byte{1}, 32), Mode: account.Test,
	}); err != nil {
		return nil, err
	}
	w.bill, err = bill.New(bill.Config{
		Directory: w.govern, Journal: w.journal, Invoices: w.records, Coupons: w.govern, Balances: w.records, Now: now, Seal: w.sealer.SealCloses,
	})
	return w, err
}

func (w *world) close() error {
	return errors.Join(w.tiles.Close(), w.journal.Close(), w.records.Close())
}

type measured struct {
	subscriptions, invoices, lines int
	took                           time.Duration
	heapBefore, heapAfter, peak    uint64
	floor                          time.Duration
	floorRows                      int
}

// runOf bills a month of so many subscriptions.
func (c *config) runOf(ctx context.Context, out io.Writer, n int) (m measured, err error) {
	dir := filepath.Join(c.dir, fmt.Sprint("run", n))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintf(out, "%d subscriptions: seeding\n", n)
	if err := seed(ctx, filepath.Join(dir, "records.db"), n); err != nil {
		return m, err
	}
	w, err := open(ctx, dir, func() time.Time { return end() })
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := use(ctx, w.journal, n, metersCount*n); err != nil {
		return m, err
	}
	if err := w.sealer.Tick(ctx); err != nil { // a server's does so each second
		return m, err
	}
	m.subscriptions, m.heapBefore = n, heap()
	began := time.Now()
	for more := true; more; {
		step, err := w.bill.Step(ctx, bill.Part{})
		if err != nil || len(step.Failures) > 0 {
			return m, fmt.Errorf("%d failures: %w", len(step.Failures), errors.Join(err, firstOf(step.Failures)))
		}
		m.invoices += step.Invoices
		more = step.More
		m.peak = max(m.peak, fromSystem())
	}
	m.took, m.lines = time.Since(began), lines*m.invoices
	m.heapAfter = heap()
	if m.invoices != n {
		return m, fmt.Errorf("%d invoices of %d subscriptions", m.invoices, n)
	}
	last, err := w.bill.Invoices(ctx, store.Query{Limit: 1})
	if err != nil || len(last) != 1 || len(last[0].Lines) != lines || last[0].Number != int64(n) {
		return m, fmt.Errorf("the last invoice is not as expected: %+v, %w", last, err)
	}
	m.floorRows = n / 5
	m.floor, err = floor(ctx, filepath.Join(dir, "floor.db"), m.floorRows, last[0])
	return m, err
}

func firstOf(list []*bill.Failure) error {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func fromSystem() uint64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.Sys - s.HeapReleased
}
