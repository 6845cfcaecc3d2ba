package bill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// Trace is a line's way back: windows, and a page of the events (each with its decision) behind them, oldest first. The
// windows' values add up to the line's quantity and Late. A flat line has neither; of a meter that does not add up there are
// no windows, and Late is by how much it measures more, or less, since.
type Trace struct {
	Invoice invoice.Invoice
	Line    invoice.Line
	Windows []store.Window
	Late    money.Decimal // usage of the line's period that came after its close; it is in Windows, not in Events
	Events  []store.Record
	Next    string // cursor of the next page; empty: no more
}

// Trace takes a 1-based line number or an iln_ id of a finalized invoice; with the id, invoiceID may be empty. limit 0 is
// 100, at most 1000. A page may hold fewer events than limit where late ones were left out; only Next says whether it is
// the last. account.ErrNotFound; account.ErrInvalid for a bad line or cursor.
func (s *Service) Trace(ctx context.Context, invoiceID, line, cursor string, limit int) (Trace, error) {
	out, err := s.findLine(ctx, invoiceID, line)
	if err != nil || out.Line.Meter == "" {
		return out, err
	}
	of := series{SeriesKey: store.SeriesKey{CustomerID: out.Invoice.CustomerID, Meter: out.Line.Meter}, filter: filterOf(&out.Line)}
	if of.kind, err = s.kindOf(ctx, of.Meter); err != nil {
		return Trace{}, fmt.Errorf("trace line %s: %w", out.Line.ID, err)
	}
	after, err := s.adjusted(ctx, &out)
	if err != nil {
		return Trace{}, fmt.Errorf("trace line %s: %w", out.Line.ID, err)
	}
	err = s.cfg.Journal.View(ctx, func(v store.View) (err error) {
		if of.plain() && after == 0 {
			if out.Windows, err = v.Windows(of.SeriesKey, out.Line.Period); err != nil {
				return err
			}
		}
		now, err := of.read(v, out.Line.Period, all)
		if err != nil {
			return err
		}
		then, err := of.read(v, out.Line.Period, out.Invoice.Position)
		if err != nil {
			return err
		}
		out.Late, err = now.quantity.Sub(then.quantity)
		return err
	})
	if err != nil {
		return Trace{}, fmt.Errorf("trace line %s: windows: %w", out.Line.ID, err)
	}
	page, err := s.cfg.Journal.Scan(ctx, store.Scan{SeriesKey: of.SeriesKey, In: out.Line.Period, Cursor: cursor, Limit: pageLimit(limit), After: after})
	if cursor != "" && errors.Is(err, store.ErrInvalid) {
		return Trace{}, fmt.Errorf("trace line %s: %w: %w", out.Line.ID, account.ErrInvalid, err)
	}
	if err != nil {
		return Trace{}, fmt.Errorf("trace line %s: events: %w", out.Line.ID, err)
	}
	out.Events = slices.DeleteFunc(page.Records, func(r store.Record) bool {
		return r.Position > out.Invoice.Position || !slices.ContainsFunc(r.Resolutions, func(x meter.Resolution) bool {
			return x.CustomerID == of.CustomerID && x.Meter == of.Meter && fits(x.Dimensions, of.filter)
		})
	})
	out.Next = page.Next
	return out, nil
}

// adjusted is the position after which lies what an adjustment is about: that of the close before. 0 for another line.
func (s *Service) adjusted(ctx context.Context, t *Trace) (uint64, error) {
	if t.Line.Kind != invoice.AdjustmentLine {
		return 0, nil
	}
	closes, err := s.cfg.Invoices.Closes(ctx, t.Invoice.SubscriptionID)
	if err != nil {
		return 0, fmt.Errorf("read closes of subscription %s: %w", t.Invoice.SubscriptionID, err)
	}
	if before := lastBefore(closes, t.Invoice.Period); before != nil {
		return before.position, nil
	}
	return 0, nil
}

// filterOf is the filter of a line's price.
func filterOf(l *invoice.Line) []meter.Dimension {
	var out []meter.Dimension
	for name, value := range l.Filter {
		out = append(out, meter.Dimension{Name: name, Value: value})
	}
	slices.SortFunc(out, func(a, b meter.Dimension) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// findLine is a Trace with its invoice and line.
func (s *Service) findLine(ctx context.Context, invoiceID, line string) (out Trace, err error) {
	if invoiceID == "" {
		out.Invoice, _, err = s.cfg.Invoices.InvoiceByLine(ctx, line)
		if errors.Is(err, store.ErrNotFound) {
			return Trace{}, absent(fmt.Sprintf("there is no invoice line %q", line))
		}
	} else {
		out.Invoice, err = s.Invoice(ctx, invoiceID)
	}
	if err != nil {
		return Trace{}, fmt.Errorf("trace line %q: %w", line, err)
	}
	number := 0
	if !strings.HasPrefix(line, "iln_") {
		if number, err = strconv.Atoi(line); err != nil {
			return Trace{}, fmt.Errorf("invoice line %q is neither a number nor an iln_ id: %w", line, account.ErrInvalid)
		}
	}
	for _, l := range out.Invoice.Lines {
		if l.ID == line || (number != 0 && l.Number == number) {
			out.Line = l
			return out, nil
		}
	}
	return Trace{}, absent(fmt.Sprintf("invoice %s has no line %q; its lines are 1 to %d", out.Invoice.ID, line, len(out.Invoice.Lines)))
}

// LineOf finds the invoice lines that an event stands on, each with its invoice: a finalized one, or the preview of an
// open period, which has late events of earlier ones too. The record is returned also with account.ErrNotFound, when no line holds
// the event: no price on its meters, or no subscription at its time.
func (s *Service) LineOf(ctx context.Context, source, id string) (store.Record, []invoice.Invoice, []invoice.Line, error) {
	record, err := s.cfg.Journal.Event(ctx, source, id)
	if errors.Is(err, store.ErrNotFound) {
		return store.Record{}, nil, nil, absent(fmt.Sprintf("there is no event %q of source %q", id, source))
	}
	if err != nil {
		return store.Record{}, nil, nil, fmt.Errorf("find event: %w", err)
	}
	var invoices []invoice.Invoice
	var lines []invoice.Line
	for _, r := range record.Resolutions {
		inv, err := s.invoiceOf(ctx, record, r)
		if err != nil {
			return record, nil, nil, fmt.Errorf("line of event %q: %w", id, err)
		}
		for _, l := range inv.Lines {
			if holds(&l, &record, &r) {
				invoices, lines = append(invoices, inv), append(lines, l)
			}
		}
	}
	if len(lines) == 0 {
		return record, nil, nil, absent(fmt.Sprintf("event %q is on no invoice line: its meters have no price, or there was no subscription at its time", id))
	}
	return record, invoices, lines, nil
}

// holds says that an event is part of a line's quantity, if it was there when the line was made.
func holds(l *invoice.Line, record *store.Record, r *meter.Resolution) bool {
	metered := l.Kind == invoice.UsageLine || l.Kind == invoice.AdjustmentLine
	return metered && l.Meter == r.Meter && l.Period.Contains(record.Event.Time) && fits(r.Dimensions, filterOf(l))
}

// invoiceOf is the invoice or preview that counts one reading of an event; without lines where none does.
func (s *Service) invoiceOf(ctx context.Context, record store.Record, r meter.Resolution) (invoice.Invoice, error) {
	customer, ok := s.cfg.Directory.Customer(r.CustomerID)
	if !ok {
		return invoice.Invoice{}, nil
	}
	now := s.cfg.Now()
	terms, err := s.terms(ctx, customer, now)
	if err != nil {
		return invoice.Invoice{}, err
	}
	for i := range terms {
		t := &terms[i]
		if _, ok := t.period(record.Event.Time); !ok {
			continue
		}
		b, err := s.billed(ctx, t)
		if err != nil {
			return invoice.Invoice{}, err
		}
		list, err := s.cfg.Invoices.InvoicesOf(ctx, t.ID, record.Event.Time)
		if err != nil {
			return invoice.Invoice{}, fmt.Errorf("read invoices of subscription %s: %w", t.ID, err)
		}
		position, err := s.position(ctx)
		if err != nil {
			return invoice.Invoice{}, err
		}
		later, err := s.ahead(ctx, t, b, position, now)
		if err != nil {
			return invoice.Invoice{}, fmt.Errorf("preview of subscription %s: %w", t.ID, err)
		}
		for _, inv := range append(list, later...) {
			if record.Position > inv.Position {
				continue
			}
			if slices.ContainsFunc(inv.Lines, func(l invoice.Line) bool { return holds(&l, &record, &r) }) {
				return inv, nil
			}
		}
	}
	return invoice.Invoice{}, nil
}
