package bill

import (
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
	"github.com/tallystick/tallystick/internal/core/period"
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
	if err != nil || out.Line.Kind != invoice.UsageLine {
		return out, err
	}
	key := store.SeriesKey{CustomerID: out.Invoice.CustomerID, Meter: out.Line.Meter}
	kind, err := s.kindOf(ctx, key.Meter)
	if err != nil {
		return Trace{}, fmt.Errorf("trace line %s: %w", out.Line.ID, err)
	}
	err = s.cfg.Journal.View(ctx, func(v store.View) (err error) {
		if apart(kind) {
			out.Late, err = lateMeasure(v, key, out.Line.Period, kind, out.Invoice.Position)
			return err
		}
		if out.Windows, err = v.Windows(key, out.Line.Period); err != nil {
			return err
		}
		out.Late, err = v.Late(key, out.Line.Period, out.Invoice.Position)
		return err
	})
	if err != nil {
		return Trace{}, fmt.Errorf("trace line %s: windows: %w", out.Line.ID, err)
	}
	page, err := s.cfg.Journal.Scan(ctx, store.Scan{SeriesKey: key, In: out.Line.Period, Cursor: cursor, Limit: pageLimit(limit)})
	if cursor != "" && errors.Is(err, store.ErrInvalid) {
		return Trace{}, fmt.Errorf("trace line %s: %w: %w", out.Line.ID, account.ErrInvalid, err)
	}
	if err != nil {
		return Trace{}, fmt.Errorf("trace line %s: events: %w", out.Line.ID, err)
	}
	out.Events = slices.DeleteFunc(page.Records, func(r store.Record) bool { return r.Position > out.Invoice.Position })
	out.Next = page.Next
	return out, nil
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
// open period. The record is returned also with account.ErrNotFound, when no line holds the event: no price on its
// meters, no subscription at its time, or it came after its period was closed.
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
			if l.Kind == invoice.UsageLine && l.Meter == r.Meter {
				invoices, lines = append(invoices, inv), append(lines, l)
			}
		}
	}
	if len(lines) == 0 {
		return record, nil, nil, absent(fmt.Sprintf("event %q is on no invoice line: its meters have no price, there was no subscription at its time, or it came after its period was closed", id))
	}
	return record, invoices, lines, nil
}

// invoiceOf is the invoice or preview that counts one reading of an event; without lines where none does.
func (s *Service) invoiceOf(ctx context.Context, record store.Record, r meter.Resolution) (invoice.Invoice, error) {
	customer, ok := s.cfg.Directory.Customer(r.CustomerID)
	if !ok {
		return invoice.Invoice{}, nil
	}
	for _, sub := range s.cfg.Directory.SubscriptionsOf(customer.ID) {
		t := term{sub, customer}
		p, ok := t.period(record.Event.Time)
		if !ok {
			continue
		}
		closing, err := s.closeOf(ctx, t, p)
		if err != nil {
			return invoice.Invoice{}, err
		}
		switch {
		case closing == nil:
		case record.Position > closing.Position, closing.Done && closing.InvoiceID == "":
			return invoice.Invoice{}, nil
		case closing.Done:
			return s.Invoice(ctx, closing.InvoiceID)
		}
		return s.previewOf(ctx, t, p, closing)
	}
	return invoice.Invoice{}, nil
}

// closeOf is the close of a billing period; nil while none has begun.
func (s *Service) closeOf(ctx context.Context, t term, p period.Interval) (*store.Close, error) {
	closes, err := s.cfg.Invoices.Closes(ctx, t.ID)
	if err != nil {
		return nil, fmt.Errorf("read closes of subscription %s: %w", t.ID, err)
	}
	for _, c := range closes {
		if sameInterval(c.Period, p) {
			return &c, nil
		}
	}
	return nil, nil
}

// previewOf builds the invoice of a period that is not closed yet.
func (s *Service) previewOf(ctx context.Context, t term, p period.Interval, closing *store.Close) (invoice.Invoice, error) {
	c, err := s.contract(ctx, t)
	if err != nil {
		return invoice.Invoice{}, err
	}
	var usage []invoice.Usage
	var position uint64
	err = s.cfg.Journal.View(ctx, func(v store.View) (err error) {
		position = v.Position()
		usage, err = c.usage(v, p, closing)
		return err
	})
	if err != nil {
		return invoice.Invoice{}, fmt.Errorf("preview of subscription %s: %w", t.ID, err)
	}
	if closing != nil {
		position = closing.Position
	}
	return c.draft(p, usage, position, true)
}
