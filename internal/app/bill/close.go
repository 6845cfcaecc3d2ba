package bill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// MaxCloses bounds the closes of one Tick. Failed attempts do not count, at most one for each subscription: however many
// cannot be closed, the others' turn comes.
const MaxCloses = 100

// due is a billing period to close. The one at a subscription's start is empty.
type due struct {
	term   term
	period period.Interval
}

// Tick closes at most MaxCloses due periods, in (period end, customer key) order, and says whether more is due. The
// invoice at a subscription's start (in-advance prices of the first period) is a close with an empty period. It is safe
// to repeat after a crash at any point. A subscription that cannot be closed is skipped and named in the error; the
// others go on.
func (s *Service) Tick(ctx context.Context) (more bool, err error) {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	now := s.cfg.Now()
	list, err := s.due(ctx, now)
	if err != nil {
		return false, err
	}
	closed := 0
	failed := map[string]bool{} // a period waits for the one before it
	var failures []error
	var settled time.Time
	for _, d := range list {
		if failed[d.term.ID] {
			continue
		}
		if more = closed == MaxCloses; more {
			break
		}
		if d.period.End.After(settled) {
			if err := s.settle(ctx, d.period.End); err != nil {
				return more, errors.Join(append(failures, err)...)
			}
			settled = d.period.End
		}
		if err := s.close(ctx, d, now); err != nil {
			failed[d.term.ID] = true
			failures = append(failures, fmt.Errorf("close period %s of customer %s, subscription %s: %w", period.Format(d.period.Start), d.term.customer.Key, d.term.ID, err))
			continue
		}
		s.closed[d.term.ID] = d.period.End
		closed++
	}
	return more, errors.Join(failures...)
}

// settle waits for the gateways' usage before an instant. Where it fails, later periods would wait as long.
func (s *Service) settle(ctx context.Context, before time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.cfg.Settled == nil {
		return nil
	}
	if err := s.cfg.Settled(ctx, before); err != nil {
		return fmt.Errorf("close periods: wait for the gateways' usage before %s: %w", period.Format(before), err)
	}
	return nil
}

// due lists what is to be closed by now, at most one more than MaxCloses of each subscription.
func (s *Service) due(ctx context.Context, now time.Time) ([]due, error) {
	var list []due
	for _, customer := range s.cfg.Directory.Customers() {
		for _, sub := range s.cfg.Directory.SubscriptionsOf(customer.ID) {
			t := term{sub, customer}
			if now.Before(t.Start) {
				continue
			}
			last, err := s.lastClosed(ctx, t.ID)
			if err != nil {
				return nil, err
			}
			list = append(list, s.dueOf(t, last, now)...)
		}
	}
	slices.SortStableFunc(list, func(a, b due) int {
		return cmp.Or(a.period.End.Compare(b.period.End), cmp.Compare(a.term.customer.Key, b.term.customer.Key),
			a.period.Start.Compare(b.period.Start), cmp.Compare(a.term.ID, b.term.ID))
	})
	return list, nil
}

// dueOf lists a started subscription's due periods after the last closed one's end (zero: none), in order.
func (s *Service) dueOf(t term, last, now time.Time) []due {
	var list []due
	if last.IsZero() {
		list = append(list, due{t, period.Interval{Start: t.Start, End: t.Start}})
		last = t.Start
	}
	for len(list) <= MaxCloses {
		p, ok := t.period(last)
		if !ok || now.Before(p.End.Add(s.cfg.Grace)) {
			break
		}
		list = append(list, due{t, p})
		last = p.End
	}
	return list
}

// lastClosed is the end of the subscription's last done close; zero without one. The caller holds ticking.
func (s *Service) lastClosed(ctx context.Context, subscriptionID string) (time.Time, error) {
	if end, ok := s.closed[subscriptionID]; ok {
		return end, nil
	}
	closes, err := s.cfg.Invoices.Closes(ctx, subscriptionID)
	if err != nil {
		return time.Time{}, fmt.Errorf("read closes of subscription %s: %w", subscriptionID, err)
	}
	var end time.Time
	for _, c := range closes {
		if c.Done {
			end = c.Period.End
		}
	}
	s.closed[subscriptionID] = end
	return end, nil
}

// close takes one period from open to finalized. First it fixes the journal position in the records, then it rates the
// usage up to there: whatever follows is late, also for a later attempt. Nil where another process has done it.
func (s *Service) close(ctx context.Context, d due, now time.Time) error {
	c, err := s.contract(ctx, d.term)
	if err != nil {
		return err
	}
	var position uint64
	err = s.cfg.Journal.View(ctx, func(v store.View) error {
		position = v.Position()
		return nil
	})
	if err != nil {
		return fmt.Errorf("read journal position: %w", err)
	}
	begun, err := s.cfg.Invoices.BeginClose(ctx, store.Close{SubscriptionID: c.ID, Period: d.period, Position: position, ClosedAt: now})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if !sameInterval(begun.Period, d.period) {
		return fmt.Errorf("begin: the records hold a close of %s to %s instead", period.Format(begun.Period.Start), period.Format(begun.Period.End))
	}
	if begun.Done {
		return nil
	}
	return s.finish(ctx, c, begun, now)
}

func (s *Service) finish(ctx context.Context, c contract, begun store.Close, now time.Time) error {
	var usage []invoice.Usage
	err := s.cfg.Journal.View(ctx, func(v store.View) (err error) {
		if v.Position() < begun.Position {
			return fmt.Errorf("the journal is at %d, before the close's position %d: %w", v.Position(), begun.Position, store.ErrCorrupt)
		}
		usage, err = c.usage(v, begun.Period, &begun)
		return err
	})
	if err != nil {
		return fmt.Errorf("read usage: %w", err)
	}
	draft, err := c.draft(begun.Period, usage, begun.Position, false)
	if err != nil {
		return err
	}
	if s.cfg.Seal != nil {
		if err := s.cfg.Seal(ctx, begun, usage, draft); err != nil {
			return err
		}
	}
	var issue *invoice.Invoice
	if len(draft.Lines) > 0 {
		issue = &draft
	}
	final, err := s.cfg.Invoices.FinishClose(ctx, begun, issue, now)
	if errors.Is(err, store.ErrConflict) {
		if stored, again := s.cfg.Invoices.BeginClose(ctx, begun); again == nil && stored.Done {
			return nil // another process was faster
		}
	}
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	if final != nil {
		s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "invoice finalized",
			slog.String("invoice", final.ID), slog.Int64("number", final.Number), slog.String("customer", c.customer.Key),
			slog.String("total", final.Total.String()), slog.String("currency", final.Currency.Code()))
	}
	return nil
}

func sameInterval(a, b period.Interval) bool { return a.Start.Equal(b.Start) && a.End.Equal(b.End) }
