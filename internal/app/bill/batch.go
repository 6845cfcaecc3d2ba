package bill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// work is a closing on its way from open to finalized.
type work struct {
	due
	term     term // as it was known when the batch began
	begun    store.Close
	draft    invoice.Invoice
	usage    []invoice.Usage // of a seal
	finish   store.Finish
	invoiced bool
	err      error // why it was not closed
}

// batch takes the first closings that can be closed together, at most so many: one of a customer, since what was billed decides on
// what follows, and only as far as the order of all closings is known.
func (s *Service) batch(ctx context.Context, q *queue, part Part, now time.Time, most int) (list []*work, err error) {
	customers := map[string]bool{}
	var bound *due // the first closing that follows from one of the list
	for len(list) < most && (len(list) == 0 || len(q.page) > 0) {
		head, err := q.head(ctx, s, now)
		if err != nil {
			return nil, err
		}
		if head == nil || !part.has(head) {
			break
		}
		if len(list) > 0 && (head.alone || customers[head.customer.ID] || bound != nil && bound.before(head) < 0) {
			break
		}
		w := &work{due: q.pop()}
		list = append(list, w)
		customers[w.customer.ID] = true
		if w.err = w.failed; w.err != nil {
			break
		}
		if w.term, w.err = s.term(ctx, w.subscriptionID, w.customer, now); w.err != nil || w.alone {
			break
		}
		next := due{subscriptionID: w.subscriptionID, customer: w.customer}
		if in, _, ok := w.term.next(&closing{in: w.in, changes: len(w.term.history.Changes)}); ok {
			if next.in = in; bound == nil || next.before(bound) < 0 {
				bound = &next
			}
		}
	}
	return list, nil //nolint:nilerr // errors of single ones are in their work
}

// closeAll takes periods from open to finalized. First it fixes the journal position in the records, then it rates the usage up to
// there: whatever follows is late, also for a later attempt. What fails has its error; the others go on.
func (s *Service) closeAll(ctx context.Context, batch []*work, now time.Time) {
	s.begin(ctx, unfinished(batch), now)
	for _, w := range unfinished(batch) {
		w.err = s.rateClose(ctx, w, now)
	}
	s.seal(ctx, unfinished(batch))
	for _, w := range unfinished(batch) {
		w.finish = store.Finish{Close: w.begun}
		w.finish.Issue, w.err = s.issue(ctx, w.draft, now)
	}
	s.finish(ctx, unfinished(batch), now)
}

// unfinished are those that are neither failed nor done.
func unfinished(batch []*work) (list []*work) {
	for _, w := range batch {
		if w.err == nil && !w.begun.Done {
			list = append(list, w)
		}
	}
	return list
}

// singly does each by itself, after it failed for all: one that cannot be must not stop the others.
func singly(ctx context.Context, batch []*work, err error, do func([]*work)) {
	if len(batch) == 1 || ctx.Err() != nil {
		for _, w := range batch {
			w.err = err
		}
		return
	}
	for i := range batch {
		do(batch[i : i+1])
	}
}

// begin writes down that closes have begun, and where the journal is.
func (s *Service) begin(ctx context.Context, batch []*work, now time.Time) {
	var list []store.Close
	position, err := s.position(ctx)
	for _, w := range batch {
		if w.err = err; w.err != nil {
			continue
		}
		if _, _, w.err = w.term.plan(w.in.Start); w.err != nil {
			continue
		}
		list = append(list, store.Close{
			SubscriptionID: w.subscriptionID, Period: w.in, Position: position, ClosedAt: now,
			Changes: len(w.term.history.Changes), Progressive: w.progressive, CatalogVersion: s.cfg.Directory.Current().Version,
		})
	}
	if batch = unfinished(batch); len(batch) == 0 {
		return
	}
	begun, err := s.cfg.Invoices.BeginCloses(ctx, list)
	if err != nil {
		singly(ctx, batch, fmt.Errorf("begin: %w", err), func(one []*work) { s.begin(ctx, one, now) })
		return
	}
	for i, w := range batch {
		if w.begun = begun[i]; !w.begun.Period.Equal(w.in) {
			w.err = fmt.Errorf("begin: the records hold a close of %s to %s instead", period.Format(w.begun.Period.Start), period.Format(w.begun.Period.End))
		}
	}
}

// rateClose makes the draft of a close that was begun. It depends on what was known when it was.
func (s *Service) rateClose(ctx context.Context, w *work, now time.Time) (err error) {
	if !w.begun.ClosedAt.Equal(period.Truncate(now)) { // before a crash, or by another process
		if w.term, err = s.term(ctx, w.subscriptionID, w.customer, w.begun.ClosedAt); err != nil {
			return err
		}
	}
	closes, err := s.cfg.Invoices.Closes(ctx, w.subscriptionID)
	if err != nil {
		return fmt.Errorf("read closes of subscription %s: %w", w.subscriptionID, err)
	}
	st, err := s.statement(ctx, &w.term, closingOf(&w.begun), lastBefore(closes, w.begun.Period), nil, false)
	if err != nil {
		return err
	}
	if w.draft, err = st.draft(ctx); err == nil && s.cfg.Seal != nil {
		w.usage, err = st.usage(ctx)
	}
	return err
}

// seal commits to closes before they are finalized.
func (s *Service) seal(ctx context.Context, batch []*work) {
	if s.cfg.Seal == nil || len(batch) == 0 {
		return
	}
	list := make([]store.Sealing, len(batch))
	for i, w := range batch {
		list[i] = store.Sealing{Close: w.begun, Usage: w.usage, Draft: w.draft}
	}
	if err := s.cfg.Seal(ctx, list); err != nil {
		singly(ctx, batch, err, func(one []*work) { s.seal(ctx, one) })
	}
}

// finish finalizes the invoices, in order.
func (s *Service) finish(ctx context.Context, batch []*work, now time.Time) {
	if len(batch) == 0 {
		return
	}
	list := make([]store.Finish, len(batch))
	for i, w := range batch {
		list[i] = w.finish
	}
	finals, err := s.cfg.Invoices.FinishCloses(ctx, list, now)
	if len(batch) == 1 && errors.Is(err, store.ErrConflict) {
		stored, again := s.cfg.Invoices.BeginClose(ctx, batch[0].begun)
		if again == nil && stored.Done { // another process was faster
			batch[0].begun = stored
			return
		}
	}
	if err != nil {
		singly(ctx, batch, fmt.Errorf("finish: %w", err), func(one []*work) { s.finish(ctx, one, now) })
		return
	}
	for i, w := range batch {
		w.begun.Done = true
		if final := finals[i]; final != nil {
			w.invoiced = true
			s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "invoice finalized",
				slog.String("invoice", final.ID), slog.Int64("number", final.Number), slog.String("customer", w.customer.Key),
				slog.String("total", final.Total.String()), slog.String("currency", final.Currency.Code()))
		}
	}
}
