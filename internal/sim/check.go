package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/sim/audit"
	"github.com/tallystick/tallystick/internal/store"
)

// check is the audit of the safety phase: after every step that can have changed journal, books or invoices, or let much time pass.
// What a gateway answered has been checked with each answer.
func (w *World) check(ctx context.Context) error {
	if !w.touched || !w.server.alive {
		return nil
	}
	w.touched = false
	return w.audit(ctx, false)
}

// audit compares what is stored with the auditor's log.
func (w *World) audit(ctx context.Context, final bool) (err error) {
	quiet := w.server.fuse // an audit is no load
	w.server.fuse = 0
	defer func() { w.server.fuse = quiet }()
	all, err := w.stored(ctx)
	if err != nil {
		return err
	}
	if err := w.log.Journal(all, final); err != nil {
		return err
	}
	rows, err := w.books(ctx)
	if err != nil {
		return err
	}
	if err := w.log.Balance(rows, all); err != nil {
		return err
	}
	invoices, err := w.invoices(ctx)
	if err != nil {
		return err
	}
	if err := w.log.Invoices(invoices); err != nil || !final {
		return err
	}
	for _, c := range w.customers {
		if !c.steady {
			continue
		}
		closes, err := w.server.store.Closes(ctx, c.sub)
		if err != nil {
			return err
		}
		var closed []audit.Period
		for _, x := range closes {
			if !x.Done {
				return fmt.Errorf("convergence: the period of %s from %s is not closed", c.Key, period.Format(x.Period.Start))
			}
			if !x.Period.Empty() {
				closed = append(closed, audit.Period{From: x.Period.Start.UnixMicro(), To: x.Period.End.UnixMicro()})
			}
		}
		if err := w.log.Rated(c.ID, tariffs()[c.plan], closed, all, invoices); err != nil {
			return err
		}
	}
	return nil
}

// stored reads the whole journal.
func (w *World) stored(ctx context.Context) (all []audit.Stored, err error) {
	for scan := (store.Scan{Limit: 1000}); ; {
		page, err := w.server.journal.Scan(ctx, scan)
		if err != nil {
			return nil, fmt.Errorf("read the journal: %w", err)
		}
		for i := range page.Records {
			r := &page.Records[i]
			if len(r.Resolutions) != 1 {
				return nil, fmt.Errorf("P3: %s %s has %d resolutions", r.Event.Source, r.Event.ID, len(r.Resolutions))
			}
			value, err := strconv.ParseInt(r.Resolutions[0].Value.String(), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("P3: %s %s has the value %s", r.Event.Source, r.Event.ID, r.Resolutions[0].Value)
			}
			all = append(all, audit.Stored{
				Source: r.Event.Source, ID: r.Event.ID, Customer: r.Resolutions[0].CustomerID, At: r.Event.Time.UnixMicro(), Value: value,
			})
		}
		if scan.Cursor = page.Next; scan.Cursor == "" {
			return all, nil
		}
	}
}

// books are the engine's own.
func (w *World) books(ctx context.Context) (rows []audit.Row, err error) {
	b, err := w.server.bill.Books(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("read the books: %w", err)
	}
	for i := range b.Rows {
		r := &b.Rows[i]
		row := audit.Row{Customer: r.CustomerID, Metered: r.Metered.String(), Difference: r.Difference.String()}
		if !r.Period.Start.IsZero() {
			row.From, row.To = r.Period.Start.UnixMicro(), r.Period.End.UnixMicro()
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// invoices are all finalized ones.
func (w *World) invoices(ctx context.Context) (list []audit.Invoice, err error) {
	for q := (store.Query{Limit: 1000}); ; {
		page, err := w.server.store.ListInvoices(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("list invoices: %w", err)
		}
		for i := range page {
			list = append(list, w.invoice(&page[i]))
		}
		if len(page) < q.Limit {
			return list, nil
		}
		q.Cursor = page[len(page)-1].ID
	}
}

func (w *World) invoice(v *invoice.Invoice) audit.Invoice {
	text, err := json.Marshal(v)
	w.must("encode an invoice", err)
	if w.cfg.Break == ChangeInvoice && w.dice.IntN(10) == 0 {
		text = append(text, ' ')
	}
	out := audit.Invoice{ID: v.ID, Number: v.Number, Text: string(text), Customer: v.CustomerID}
	for k := range v.Lines {
		if v.Lines[k].Meter == unitsMeter {
			out.Usage += v.Lines[k].Rounded.Minor()
		}
	}
	return out
}

// heal ends all faults, lets everything run to its end, and checks that the world has converged.
func (w *World) heal(ctx context.Context) error {
	w.note("all faults end")
	w.healing = true
	w.server.fuse, w.disk.Fuse, w.disk.Full = 0, 0, false
	for _, g := range w.gateways {
		g.cut, g.lossy, g.slow, g.full, g.fuse, g.skew = false, 0, 0, false, 0, 0
	}
	w.passes(10 * time.Minute)
	w.startServer(ctx)
	for len(w.late) > 0 && w.failed == nil {
		w.deliverLate()
	}
	for _, g := range w.gateways {
		w.restart(ctx, g)
		g.join(ctx)
		if w.failed != nil {
			return w.failed
		}
		if g.e == nil {
			return fmt.Errorf("convergence: %s does not begin", g.name)
		}
		for len(g.open) > 0 {
			n := len(g.open)
			if w.finish(g, n-1); len(g.open) == n {
				return fmt.Errorf("convergence: %s cannot end %s", g.name, g.open[n-1].id)
			}
		}
		err := g.e.Flush(ctx)
		if replaced(err) { // by a late call of its own
			w.note("%s was replaced", g.name)
			g.stop(false)
			if err = g.start(ctx); err == nil && g.e == nil {
				return fmt.Errorf("convergence: %s does not begin again", g.name)
			} else if err == nil {
				err = g.e.Flush(ctx)
			}
		}
		if err != nil {
			return fmt.Errorf("convergence: %s does not ship: %w", g.name, err)
		}
	}
	if err := w.admits(ctx); err != nil {
		return err
	}
	if err := w.closePeriods(ctx); err != nil {
		return err
	}
	if err := w.part(ctx); err != nil {
		return err
	}
	if err := w.returned(ctx); err != nil {
		return err
	}
	if err := errors.Join(w.failed, w.audit(ctx, true)); err != nil {
		return err
	}
	return w.sound(ctx)
}

// admits checks that every gateway lets customers with rate limits through again before long.
func (w *World) admits(ctx context.Context) error {
	if !w.cfg.Rates {
		return nil
	}
	for _, g := range w.gateways { // a late call may have begun another run of one
		g.stop(false)
		if err := g.start(ctx); err != nil {
			return err
		}
		if g.e == nil {
			return fmt.Errorf("convergence: %s does not begin again", g.name)
		}
	}
	const seconds = 600 // by which clocks differ, a run of the server begins to give, and a rolling limit of a minute is free again
	for _, c := range w.customers[len(w.customers)-2:] {
		for _, g := range w.gateways {
			before := w.did["admitted"]
			for n := 0; w.did["admitted"] == before && w.failed == nil; n++ {
				if n == seconds {
					return fmt.Errorf("convergence: %s does not admit %s, whose plan is %s", g.name, c.Key, c.plan)
				}
				w.passes(time.Second)
				_, err := g.e.Tick(ctx)
				if replaced(err) { // by a late call of its own
					g.stop(false)
					err = g.start(ctx)
				}
				if err != nil || g.e == nil {
					return fmt.Errorf("convergence: %s does not ship: %w", g.name, err)
				}
				w.ask(ctx, g, c, 1)
			}
			for len(g.open) > 0 && w.failed == nil {
				w.finish(g, len(g.open)-1)
			}
		}
	}
	return w.failed
}

// part ends each gateway, twice: what a late call of its drew it hears of only when it begins again.
func (w *World) part(ctx context.Context) error {
	for range 2 {
		for _, g := range w.gateways {
			if err := g.e.Close(ctx); err != nil && !errors.Is(err, authority.ErrEpoch) {
				return fmt.Errorf("convergence: %s does not end: %w", g.name, err)
			}
			g.stop(false)
			if err := g.start(ctx); err != nil {
				return err
			}
			if g.e == nil {
				return fmt.Errorf("convergence: %s does not begin again", g.name)
			}
		}
	}
	return nil
}

// closePeriods moves behind the end of the billing period of each, and bills.
func (w *World) closePeriods(ctx context.Context) error {
	end, err := w.server.bill.PeriodEnd(ctx)
	if err != nil {
		return err
	}
	w.passes(max(0, end.Sub(w.now)) + 24*time.Hour)
	for range 10 {
		more, err := w.server.bill.Tick(ctx)
		if err != nil {
			return fmt.Errorf("convergence: billing: %w", err)
		}
		if !more {
			return nil
		}
	}
	return errors.New("convergence: billing does not come to an end")
}

// returned checks that no lease is open any more.
func (w *World) returned(ctx context.Context) error {
	for _, g := range w.gateways {
		open, err := w.server.store.OpenLeases(ctx, g.node, 1<<31)
		if err != nil {
			return err
		}
		if len(open) > 0 {
			return fmt.Errorf("convergence: %s holds %d leases after its end, such as %+v", g.name, len(open), open[0])
		}
	}
	return nil
}

// sound checks that no batch was refused as forged, foreign or missing: everything that a gateway sent was its own.
func (w *World) sound(ctx context.Context) error {
	found, err := w.server.receive.Findings(ctx)
	if err != nil {
		return err
	}
	for _, f := range found {
		w.did["findings "+fmt.Sprint(f.Reason)]++
	}
	return nil
}
