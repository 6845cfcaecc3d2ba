package bill

import (
	"context"
	"errors"
	"fmt"
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

// Part narrows what is closed. Its zero value is everything that is due.
type Part struct {
	Until      time.Time // only what ends at or before it; zero: all
	CustomerID string    // empty: all
}

// Failure is a closing that did not come about.
type Failure struct {
	SubscriptionID string
	Customer       string // key
	Period         period.Interval
	Err            error
}

// Error implements error.
func (f *Failure) Error() string {
	return fmt.Sprintf("close period %s of customer %s, subscription %s: %v", period.Format(f.Period.Start), f.Customer, f.SubscriptionID, f.Err)
}

// Unwrap is the reason.
func (f *Failure) Unwrap() error { return f.Err }

// Step is what a part of a run did.
type Step struct {
	Closed, Invoices int
	Found            int // closings that became the next of their subscription, and are due: after a long pause there are several
	Failures         []*Failure
	More             bool // more is due
}

// Tick closes at most MaxCloses due periods, in (period end, customer key) order, and says whether more is due. The
// invoice at a subscription's start (in-advance prices of the first period) is a close with an empty period, as are those of
// changes that bill at once. It is safe to repeat after a crash at any point. A subscription that cannot be closed is skipped and
// named in the error; the others go on.
func (s *Service) Tick(ctx context.Context) (more bool, err error) {
	step, err := s.Step(ctx, Part{})
	var all []error
	for _, f := range step.Failures {
		all = append(all, f)
	}
	return step.More, errors.Join(append(all, err)...)
}

// Step is Tick of a part. Its failures are no error of it.
func (s *Service) Step(ctx context.Context, part Part) (step Step, err error) {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	now := s.cfg.Now()
	q := &s.queue
	if part.CustomerID != "" {
		q = &queue{only: part.CustomerID}
	}
	var settled time.Time
	for step.Closed < MaxCloses {
		batch, err := s.batch(ctx, q, part, now, MaxCloses-step.Closed)
		if err != nil || len(batch) == 0 {
			return step, err
		}
		if last := batch[len(batch)-1].in.End; last.After(settled) {
			if err := s.settle(ctx, last); err != nil {
				q.clear()
				step.More = true
				return step, err
			}
			settled = last
		}
		s.closeAll(ctx, batch, now)
		step.take(ctx, s, q, batch, now)
	}
	head, err := q.head(ctx, s, now)
	step.More = head != nil && part.has(head)
	return step, err
}

// has says whether a closing belongs to a part.
func (p *Part) has(d *due) bool { return p.Until.IsZero() || !d.in.End.After(p.Until) }

// take counts what became of a batch.
func (step *Step) take(ctx context.Context, s *Service, q *queue, batch []*work, now time.Time) {
	for _, w := range batch {
		if w.err != nil {
			q.fail(w.subscriptionID)
			step.Failures = append(step.Failures, &Failure{w.subscriptionID, w.customer.Key, w.in, w.err})
			continue
		}
		step.Closed++
		if w.invoiced {
			step.Invoices++
		}
		if q.closed(ctx, s, &w.due, &w.begun, now) {
			step.Found++
		}
	}
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
		kinds[g.ID] = ledger.Bears(&g)
	}
	posted := draft
	posted.Status, posted.FinalizedAt = invoice.Finalized, period.Truncate(now)
	issue := store.Issue{Invoice: &draft}
	issue.Entries, err = ledger.OfInvoice(posted, kinds)
	return issue, err
}

// lastBefore finds the done close that another one goes on from.
func lastBefore(closes []store.Close, in period.Interval) *closing {
	var last *closing
	for i := range closes {
		c := &closes[i]
		if c.Done && !c.Period.Equal(in) && !c.Period.End.After(in.End) && (last == nil || !c.Period.End.Before(last.in.End)) {
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
