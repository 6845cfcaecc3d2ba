package statement

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Trace is an invoice line's way back to the requests, readable.
type Trace struct {
	bill.Trace
	Zone   period.Zone // of the customer
	Cursor string      // of this page
	days   []traceDay
	events []traceEvent
}

// traceEvent is one event behind a line. decisionID is empty for usage reported from outside.
type traceEvent struct {
	time               time.Time
	source, decisionID string
	id                 string
	value              money.Decimal
}

// Trace reads a page of a line's events. Errors are those of bill.Service.Trace.
func (s Sources) Trace(ctx context.Context, invoiceID string, line int, cursor string) (Trace, error) {
	s.Flush(ctx)
	t, err := s.Bill.Trace(ctx, invoiceID, strconv.Itoa(line), cursor, eventsShown)
	if err != nil {
		return Trace{}, err
	}
	out := Trace{Trace: t, Cursor: cursor}
	if c, ok := s.Govern.Customer(t.Invoice.CustomerID); ok {
		out.Zone = c.Zone
	}
	if out.days, err = traceDays(t, out.Zone); err != nil {
		return Trace{}, err
	}
	for _, r := range t.Events {
		e := traceEvent{time: r.Event.Time, source: r.Event.Source, id: r.Event.ID}
		for _, res := range r.Resolutions {
			if res.Meter == t.Line.Meter && res.CustomerID == t.Invoice.CustomerID {
				e.value = res.Value
			}
		}
		if len(r.Receipt) > 0 {
			if e.decisionID, _, err = s.Enforce.DecisionID(r.Receipt); err != nil {
				return Trace{}, fmt.Errorf("decision of event %s: %w", r.Event.ID, err)
			}
		}
		out.events = append(out.events, e)
	}
	return out, nil
}
