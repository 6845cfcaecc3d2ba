package bill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// MaxCloses bounds the closes of one Tick. Failed attempts do not count, at most one for each subscription: however many
// cannot be closed, the others' turn comes.
const MaxCloses = 100

// Tick closes at most MaxCloses due periods, in (period end, customer key) order, and says whether more is due. The
// invoice at a subscription's start (in-advance prices of the first period) is a close with an empty period, as are those of
// changes that bill at once. It is safe to repeat after a crash at any point. A subscription that cannot be closed is skipped and
// named in the error; the others go on.
func (s *Service) Tick(ctx context.Context) (more bool, err error) {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	now := s.cfg.Now()
	var failures []error
	var settled time.Time
	for closed := 0; closed < MaxCloses; {
		d, ok, err := s.queue.next(ctx, s, now)
		if err != nil {
			return false, errors.Join(append(failures, err)...)
		}
		if !ok {
			return false, errors.Join(failures...)
		}
		if d.failed == nil && d.in.End.After(settled) {
			if err := s.settle(ctx, d.in.End); err != nil {
				s.queue.clear()
				return true, errors.Join(append(failures, err)...)
			}
			settled = d.in.End
		}
		err = d.failed
		if err == nil {
			err = s.close(ctx, d, now)
		}
		if err != nil {
			s.queue.fail(d.subscriptionID)
			failures = append(failures, fmt.Errorf("close period %s of customer %s, subscription %s: %w", period.Format(d.in.Start), d.customer.Key, d.subscriptionID, err))
			continue
		}
		closed++
		s.queue.closed(ctx, s, d, now)
	}
	return s.queue.more(), errors.Join(failures...)
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

// close takes one period from open to finalized. First it fixes the journal position in the records, then it rates the
// usage up to there: whatever follows is late, also for a later attempt. Nil where another process has done it.
func (s *Service) close(ctx context.Context, d due, now time.Time) error {
	t, err := s.term(ctx, d.subscriptionID, d.customer, now)
	if err != nil {
		return err
	}
	if _, _, err := t.plan(d.in.Start); err != nil {
		return err
	}
	position, err := s.position(ctx)
	if err != nil {
		return err
	}
	begun, err := s.cfg.Invoices.BeginClose(ctx, store.Close{
		SubscriptionID: d.subscriptionID, Period: d.in, Position: position, ClosedAt: now,
		Changes: len(t.history.Changes), Progressive: d.progressive, CatalogVersion: s.cfg.Directory.Current().Version,
	})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if !sameInterval(begun.Period, d.in) {
		return fmt.Errorf("begin: the records hold a close of %s to %s instead", period.Format(begun.Period.Start), period.Format(begun.Period.End))
	}
	if begun.Done {
		return nil
	}
	return s.finish(ctx, &begun, d.customer, now)
}

// finish makes the invoice of a close that was begun. It depends on what was known when it was.
func (s *Service) finish(ctx context.Context, begun *store.Close, customer account.Customer, now time.Time) error {
	t, err := s.term(ctx, begun.SubscriptionID, customer, begun.ClosedAt)
	if err != nil {
		return err
	}
	before, err := s.closeBefore(ctx, begun)
	if err != nil {
		return err
	}
	st, err := s.statement(ctx, &t, closingOf(begun), before, nil, false)
	if err != nil {
		return err
	}
	draft, err := st.draft(ctx)
	if err != nil {
		return err
	}
	if s.cfg.Seal != nil {
		usage, err := st.usage(ctx)
		if err != nil {
			return err
		}
		if err := s.cfg.Seal(ctx, *begun, usage, draft); err != nil {
			return err
		}
	}
	issue, err := s.issue(ctx, draft, now)
	if err != nil {
		return err
	}
	final, err := s.cfg.Invoices.FinishClose(ctx, *begun, issue, now)
	if errors.Is(err, store.ErrConflict) {
		if stored, again := s.cfg.Invoices.BeginClose(ctx, *begun); again == nil && stored.Done {
			return nil // another process was faster
		}
	}
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	if final != nil {
		s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "invoice finalized",
			slog.String("invoice", final.ID), slog.Int64("number", final.Number), slog.String("customer", customer.Key),
			slog.String("total", final.Total.String()), slog.String("currency", final.Currency.Code()))
	}
	return nil
}

// issue lets the customer's balance pay, and writes down what moves. Without lines no invoice is due.
func (s *Service) issue(ctx context.Context, draft invoice.Invoice, now time.Time) (store.Issue, error) {
	if len(draft.Lines) == 0 {
		return store.Issue{}, nil
	}
	var err error
	if s.cfg.Balances != nil {
		held, err := s.cfg.Balances.Balance(ctx, draft.CustomerID, ledger.Balance)
		if err != nil {
			return store.Issue{}, fmt.Errorf("balance: %w", err)
		}
		if held.Minor() < 0 { // a credit: it is the customer's
			if draft, err = invoice.Pay(draft, money.NewAmount(-held.Minor(), held.Currency())); err != nil {
				return store.Issue{}, err
			}
		}
	}
	kinds := map[string]account.GrantKind{}
	for _, g := range s.cfg.Directory.Grants(draft.CustomerID) {
		if kinds[g.ID] = g.Kind; g.Kind == "" {
			kinds[g.ID] = account.Promotional
		}
	}
	posted := draft
	posted.Status, posted.FinalizedAt = invoice.Finalized, period.Truncate(now)
	issue := store.Issue{Invoice: &draft}
	issue.Entries, err = ledger.OfInvoice(posted, kinds)
	return issue, err
}

// closeBefore is the last done close of a subscription before another one; nil: there is none.
func (s *Service) closeBefore(ctx context.Context, c *store.Close) (*closing, error) {
	closes, err := s.cfg.Invoices.Closes(ctx, c.SubscriptionID)
	if err != nil {
		return nil, fmt.Errorf("read closes of subscription %s: %w", c.SubscriptionID, err)
	}
	return lastBefore(closes, c.Period), nil
}

// lastBefore finds the done close that another one goes on from.
func lastBefore(closes []store.Close, in period.Interval) *closing {
	var last *closing
	for i := range closes {
		c := &closes[i]
		if c.Done && !sameInterval(c.Period, in) && !c.Period.End.After(in.End) && (last == nil || !c.Period.End.Before(last.in.End)) {
			last = new(closingOf(c))
		}
	}
	return last
}

// bookOf is what was billed to a subscription from an instant on (zero: from the start) and by another (zero: by now). Credits and
// coupons are the customer's: of those, all invoices count.
func (s *Service) bookOf(ctx context.Context, t *term, from, until time.Time) (*invoice.Book, error) {
	shared := len(s.cfg.Directory.Grants(t.CustomerID)) > 0
	if s.cfg.Coupons != nil {
		shared = shared || len(s.cfg.Coupons.Redemptions(t.CustomerID)) > 0
	}
	subscriptions := []string{t.ID}
	if shared {
		from = time.Time{}
		for _, sub := range s.cfg.Directory.SubscriptionsOf(t.CustomerID) {
			if !slices.Contains(subscriptions, sub.ID) {
				subscriptions = append(subscriptions, sub.ID)
			}
		}
	}
	book := invoice.NewBook(t.ID)
	for _, id := range subscriptions {
		list, err := s.cfg.Invoices.InvoicesOf(ctx, id, from)
		if err != nil {
			return nil, fmt.Errorf("read what was billed: %w", err)
		}
		for i := range list {
			if !until.IsZero() && list[i].Period.End.After(until) {
				continue
			}
			if err := book.Add(&list[i]); err != nil {
				return nil, err
			}
		}
	}
	return book, nil
}
