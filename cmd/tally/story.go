package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/story"
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/store"
)

//go:embed year.yaml
var yearCatalog []byte

// storyTold is a setting of a folder with a story: storyBegun until all of it is there, then storyWhole.
const (
	storyTold  = "demo.story"
	storyBegun = "begun"
	storyWhole = "told"
)

// errDifference says that figures that must agree do not.
var errDifference = errors.New("the story does not add up: a difference is not 0")

// tell runs the story, unless the folder has it already, and prints what came of it. Nothing else runs meanwhile, so that all of
// it is in one order.
func (d *demoCmd) tell(e *cli.Env) error {
	s := &server{ports: ports{listen: d.listen, log: logger(io.Discard)}, dir: e.DataDir(), mode: "test", grace: 0, demo: true}
	s.endpoint.API, s.endpoint.Gateway = "http://"+d.API, "http://"+d.Gateway // where commands find it once it is served
	r, err := s.tell(e.Ctx, cmp.Or(d.Out, filepath.Join(s.dir, "invoices")))
	if err != nil {
		return fmt.Errorf("story: %w", err)
	}
	if e.JSON {
		err = cli.PrintJSON(e.Stdout, r.json())
	} else {
		err = r.print(e.Stdout)
	}
	if err != nil {
		return err
	}
	if r.differs() {
		return errDifference
	}
	if !d.Serve {
		return nil
	}
	return d.serve(e)
}

// serve stays up over the story's folder.
func (d *demoCmd) serve(e *cli.Env) error {
	s := &server{ports: ports{listen: d.listen, log: logger(e.Stderr)}, dir: e.DataDir(), mode: "test", grace: 0, demo: true}
	return s.run(e.Ctx, func(context.Context) error {
		s.billing.Store(true)
		_, err := fmt.Fprintf(e.Stderr, "\n  Console   %s            token %s\n  Stop with Ctrl-C.\n", s.endpoint.API, s.endpoint.Token)
		return err
	})
}

// tell opens the folder, runs the story, adds it up and writes its documents to a folder.
func (s *server) tell(ctx context.Context, documents string) (r *report, err error) {
	began := realNow()
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)
	if s.folder, err = openFolder(s.dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.folder.close()) }()
	if err := s.setClock(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	r = &report{}
	if err := s.story(ctx, r); err != nil {
		return nil, err
	}
	if err := s.addUp(ctx, r); err != nil {
		return nil, err
	}
	if r.documents, err = s.storyDocuments(ctx, documents, r.told.Steps > 0); err != nil {
		return nil, err
	}
	r.took = realNow().Sub(began)
	return r, nil
}

// storyDocuments writes them after a story that was just told, or into a folder that is not there yet.
func (s *server) storyDocuments(ctx context.Context, dir string, fresh bool) (written, error) {
	if list, err := filepath.Glob(filepath.Join(dir, "*.pdf")); err != nil || !fresh && len(list) > 0 {
		return written{Dir: dir, Files: len(list)}, err
	}
	return s.writeDocuments(ctx, dir)
}

// setClock lets a new folder's clock stand at the story's beginning.
func (s *server) setClock() error {
	if _, err := os.Stat(s.folder.path("clock.json")); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(s.folder.path("records.db")); !errors.Is(err, os.ErrNotExist) {
		return err // its clock is the machine's
	}
	return s.folder.saveClock(clock.State{Offset: story.Begin().Sub(realNow())})
}

// story tells the year, once.
func (s *server) story(ctx context.Context, r *report) error {
	told, err := s.records.Setting(ctx, storyTold)
	switch {
	case err != nil || told == storyWhole:
		return err
	case told == storyBegun:
		return fmt.Errorf("the folder %s has a part of a story that was broken off: delete it with `tally demo reset --dir %s`", s.dir, s.dir)
	case s.govern.Current().Version > 0:
		return fmt.Errorf("the folder %s is in use: name another one with --dir", s.dir)
	}
	if err := s.records.PutSetting(ctx, storyTold, storyBegun); err != nil {
		return err
	}
	if r.told, err = story.Run(ctx, story.Config{
		Catalog: yearCatalog, Govern: s.govern, Credits: s.credits, Ingest: s.ingest, Correct: s.correct, Bill: s.bill, Collect: s.collect,
		Advance: s.advanceStory,
	}); err != nil {
		return err
	}
	return s.records.PutSetting(ctx, storyTold, storyWhole)
}

// advanceStory moves the clock, has meanwhile report, and does what became due.
func (s *server) advanceStory(ctx context.Context, to time.Time, meanwhile func(context.Context) error) error {
	s.billing.Store(false)
	if _, err := s.clock.Advance(ctx, to); err != nil {
		return err
	}
	if err := meanwhile(ctx); err != nil {
		return err
	}
	s.billing.Store(true)
	for _, due := range []func(context.Context) error{s.flush, s.journal.Tick, s.billAll, s.collectAll, s.dueNotices} {
		if err := due(ctx); err != nil {
			return err
		}
	}
	return nil
}

// report is what is printed of a story.
type report struct {
	told      story.Told
	table     story.Table
	books     bill.Books
	ledger    []store.Conservation
	documents written
	took      time.Duration
}

// addUp reads what came of it.
func (s *server) addUp(ctx context.Context, r *report) (err error) {
	if r.table, err = story.Sum(ctx, story.Books{Govern: s.govern, Bill: s.bill, Collect: s.collect}); err != nil {
		return err
	}
	if r.books, err = s.bill.Books(ctx, ""); err != nil {
		return err
	}
	r.told.Customers = len(s.govern.Customers())
	r.ledger, err = s.collect.Check(ctx)
	return err
}

// differs says whether something that must be 0 is not.
func (r *report) differs() bool {
	for i := range r.table.Totals {
		if r.table.Totals[i].Difference() != 0 {
			return true
		}
	}
	for _, c := range r.ledger {
		if c.Difference.Minor() != 0 || c.Sum.Minor() != 0 || len(c.Wrong) > 0 {
			return true
		}
	}
	return !r.books.Difference.IsZero()
}

// revenueHeads are the columns of a row, in the order of its figures.
var revenueHeads = []string{"invoices", "invoiced", "discounts", "credits", "tax", "credit_notes", "voided", "net"} //nolint:gochecknoglobals // a table

// figures are a row's, as text.
func figures(r *story.Revenue) []string {
	out := []string{fmt.Sprint(r.Invoices)}
	for _, minor := range []int64{r.Invoiced, r.Discounts, r.Credits, r.Tax, r.CreditNotes, r.Voided, r.Net} {
		out = append(out, r.Amount(minor).String())
	}
	return out
}

// sparse are a row's figures with a dash for what is 0.
func sparse(r *story.Revenue) string {
	list := figures(r)
	for i, text := range list {
		if strings.Trim(text, "0.") == "" {
			list[i] = "–"
		}
	}
	return strings.Join(list, "\t")
}

// json is the report as one document.
func (r *report) json() map[string]any {
	row := func(x *story.Revenue) map[string]any {
		m := map[string]any{"currency": x.Currency.Code(), "invoices": x.Invoices}
		for i, text := range figures(x)[1:] {
			m[revenueHeads[i+1]] = text
		}
		return m
	}
	months, totals, checks := []map[string]any{}, []map[string]any{}, []map[string]any{}
	for i := range r.table.Months {
		m := row(&r.table.Months[i])
		m["month"] = r.table.Months[i].Month
		months = append(months, m)
	}
	for i := range r.table.Totals {
		t := &r.table.Totals[i]
		m := row(&t.Revenue)
		m["ledger"], m["difference"] = t.Amount(t.Ledger).String(), t.Amount(t.Difference()).String()
		totals = append(totals, m)
	}
	for _, c := range r.ledger {
		checks = append(checks, map[string]any{
			"currency": c.Currency.Code(), "sum": c.Sum.String(), "receivable": c.Receivable.String(), "open": c.Open.String(),
			"balance": c.Balance.String(), "difference": c.Difference.String(),
		})
	}
	b := &r.books
	return map[string]any{
		"year": story.Year, "customers": r.told.Customers, "revenue": months, "totals": totals, "ledger": checks, "documents": r.documents,
		"books": map[string]string{
			"admitted": b.Admitted.String(), "reported": b.Reported.String(), "voided": b.Voided.String(), "metered": b.Metered.String(),
			"rated": b.Rated.String(), "unpriced": b.Unpriced.String(), "difference": b.Difference.String(),
		},
		"adds_up": !r.differs(),
	}
}

// print writes the report for people.
func (r *report) print(out io.Writer) error {
	w := &bytes.Buffer{}
	fmt.Fprintf(w, "\n  %d: %d customers, 12 months\n\n", story.Year, r.told.Customers)
	if err := r.printRevenue(w); err != nil {
		return err
	}
	r.printChecks(w)
	for line := range bytes.Lines(w.Bytes()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(string(line), " \n")); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) printRevenue(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	heads := strings.ToUpper(strings.ReplaceAll(strings.Join(revenueHeads, "\t"), "_", " "))
	for i := range r.table.Totals {
		t := &r.table.Totals[i]
		fmt.Fprintf(tw, "  %s\t%s\t\n", t.Currency, heads)
		for j := range r.table.Months {
			if m := &r.table.Months[j]; m.Currency == t.Currency {
				fmt.Fprintf(tw, "  %s\t%s\t\n", m.Month, sparse(m))
			}
		}
		fmt.Fprintf(tw, "  %d\t%s\t\n\t\t\t\t\t\t\t\t\t\n", story.Year, sparse(&t.Revenue))
	}
	return tw.Flush()
}

func (r *report) printChecks(w io.Writer) {
	for i := range r.table.Totals {
		t := &r.table.Totals[i]
		fmt.Fprintf(w, "  revenue    net %s = ledger %s %s, difference %s\n", t.Amount(t.Net).String(), t.Amount(t.Ledger).String(), t.Currency, t.Amount(t.Difference()).String())
	}
	for _, c := range r.ledger {
		fmt.Fprintf(w, "  ledger     sums to %s, receivable %s = open %s %s, difference %s\n", c.Sum.String(), c.Receivable.String(), c.Open.String(), c.Currency, c.Difference.String())
	}
	b := &r.books
	fmt.Fprintf(w, `  books      admitted %s + reported %s − voided %s = metered %s = rated %s + unpriced %s, difference %s
  documents  %d PDFs in %s
`, b.Admitted, b.Reported, b.Voided, b.Metered, b.Rated, b.Unpriced, b.Difference, r.documents.Files, r.documents.Dir)
	if r.told.Steps > 0 {
		fmt.Fprintf(w, "  told       %d events in %d steps of the clock, %.1f s\n", r.told.Events, r.told.Steps, r.took.Seconds())
	}
}
