package collect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	postedAtOnce = 100         // invoices of older versions that one Tick posts
	dunnedAtOnce = 100         // invoices that one Tick looks at
	roundEvery   = time.Minute // of the business clock
)

// The steps of dunning, as they are kept. A reminder's or try's has its day behind it.
const (
	stepPastDue = "past_due"
	stepRemind  = "reminder/%d"
	stepCharge  = "charge/%d"
	stepSuspend = "suspend"
	stepGiveUp  = "uncollectible"
)

// What Dunning.Then may say.
const (
	thenSuspend = "suspend"
	thenGiveUp  = "uncollectible"
)

// Tick does one bounded part of what is due: invoices of older versions are posted, and open ones are dunned as the newest
// catalog says. Each step is done once, and it may stop after any. more says that there is something left.
func (s *Service) Tick(ctx context.Context) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return false, err
	}
	ids, next, err := s.cfg.Records.Unposted(ctx, s.unposted, postedAtOnce)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		if err := s.post(ctx, id); err != nil {
			return false, err
		}
	}
	s.unposted = next
	if len(ids) > 0 {
		return true, nil
	}
	return s.dun(ctx)
}

// Load tells who is suspended, before the first request.
func (s *Service) Load(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load(ctx)
}

func (s *Service) load(ctx context.Context) error {
	if s.loaded {
		return nil
	}
	err := s.suspensions(ctx)
	s.loaded = err == nil
	return err
}

// dun looks at a page of the invoices that are past due. A round over all of them is begun once a minute.
func (s *Service) dun(ctx context.Context) (more bool, err error) {
	now := s.now()
	if s.round.IsZero() {
		if !s.rounds.IsZero() && !now.Before(s.rounds) && now.Sub(s.rounds) < roundEvery {
			return false, nil
		}
		s.round, s.after = now, nil
	}
	due, err := s.cfg.Records.OpenInvoices(ctx, store.OpenQuery{DueBefore: s.round, After: s.after, Limit: dunnedAtOnce})
	if err != nil {
		return false, err
	}
	var faults []error // of an invoice: the others go on
	for i := range due {
		s.after = &due[i]
		if err := s.dunOne(ctx, due[i], now); err != nil {
			faults = append(faults, fmt.Errorf("dun invoice %s: %w", due[i].InvoiceID, err))
		}
	}
	if len(due) == dunnedAtOnce {
		return true, errors.Join(faults...)
	}
	s.rounds, s.round = s.round, time.Time{}
	return false, errors.Join(faults...)
}

// dunOne does the steps of one invoice that are due. What happens outside of the records has a name of its own, so that a step
// that was done and not noted is not done twice.
func (s *Service) dunOne(ctx context.Context, st invoice.Standing, now time.Time) error {
	rules := s.cfg.Directory.Current().Billing.Dunning
	list, err := s.cfg.Records.Steps(ctx, st.InvoiceID)
	if err != nil {
		return err
	}
	done := make(map[string]bool, len(list))
	for _, d := range list {
		done[d.Step] = true
	}
	if !done[stepPastDue] {
		if err := s.step(ctx, st, stepPastDue, now, func() error { return s.tell(ctx, notify.InvoicePastDue, st, 0) }); err != nil {
			return err
		}
	}
	days := s.daysPast(st, rules, now)
	if paid, err := s.charge(ctx, st, days, done, now); err != nil || paid {
		return err
	}
	if err := s.remind(ctx, st, days, done, now); err != nil {
		return err
	}
	if rules.After <= 0 || now.Before(s.dayAfter(st, rules.After)) {
		return nil
	}
	switch {
	case rules.Then == thenSuspend && !done[stepSuspend]:
		err := s.step(ctx, st, stepSuspend, now, func() error { return s.tell(ctx, notify.CustomerSuspended, st, 0) })
		if err != nil {
			return err
		}
		return s.suspensions(ctx)
	case rules.Then == thenGiveUp && !done[stepGiveUp]:
		return s.giveUp(ctx, st, rules, now)
	}
	return nil
}

// step does one and notes it.
func (s *Service) step(ctx context.Context, st invoice.Standing, name string, now time.Time, do func() error) error {
	if err := do(); err != nil {
		return err
	}
	_, err := s.cfg.Records.PutStep(ctx, store.DunningStep{InvoiceID: st.InvoiceID, Step: name, At: now})
	return err
}

// dayAfter is so many local days after an invoice was due, at the same time of day.
func (s *Service) dayAfter(st invoice.Standing, days int) time.Time {
	zone := period.Zone{}
	if c, ok := s.cfg.Directory.Customer(st.CustomerID); ok {
		zone = c.Zone
	}
	return st.DueAt.In(zone.Location()).AddDate(0, 0, days)
}

// daysPast are the days of the rules that have come, rising, 0 for the due date itself first.
func (s *Service) daysPast(st invoice.Standing, rules catalog.Dunning, now time.Time) []int {
	days := []int{0}
	for _, d := range rules.Reminders {
		if d > 0 && !now.Before(s.dayAfter(st, d)) {
			days = append(days, d)
		}
	}
	return days
}

// remind sends the last reminder that is due; those before it that were missed are noted alone.
func (s *Service) remind(ctx context.Context, st invoice.Standing, days []int, done map[string]bool, now time.Time) error {
	for i, day := range slices.Backward(days[1:]) {
		name := fmt.Sprintf(stepRemind, day)
		if done[name] {
			return nil
		}
		if err := s.step(ctx, st, name, now, func() error {
			if i < len(days)-2 {
				return nil
			}
			return s.tell(ctx, notify.InvoiceReminder, st, day)
		}); err != nil {
			return err
		}
	}
	return nil
}

// charge lets the provider try to collect: once at the due date and once with each reminder; of tries that were missed the last
// one. paid: it did.
func (s *Service) charge(ctx context.Context, st invoice.Standing, days []int, done map[string]bool, now time.Time) (paid bool, err error) {
	if s.cfg.Provider == nil {
		return false, nil
	}
	day := days[len(days)-1]
	name := fmt.Sprintf(stepCharge, day)
	if done[name] {
		return false, nil
	}
	key := fmt.Sprintf("%s/%d", st.InvoiceID, day)
	reference, declined := s.cfg.Provider.Charge(ctx, Charge{Key: key, CustomerID: st.CustomerID, InvoiceID: st.InvoiceID, Amount: st.Remaining()})
	if declined != nil && !errors.Is(declined, ErrDeclined) {
		return false, fmt.Errorf("charge %s: %w", key, declined)
	}
	err = s.step(ctx, st, name, now, func() error {
		if declined != nil {
			return nil //nolint:nilerr // it was tried, and that is what is noted
		}
		if reference == "" {
			reference = key
		}
		paid = true
		_, _, err := s.pay(ctx, "provider", st.InvoiceID, NewPayment{Amount: st.Remaining(), Method: "provider", Reference: reference})
		return err
	})
	return paid, err
}

// giveUp is the end of dunning.
func (s *Service) giveUp(ctx context.Context, st invoice.Standing, rules catalog.Dunning, now time.Time) error {
	next, entries, err := givenUp(st, now, "system", fmt.Sprintf("not paid %d days after it was due", rules.After))
	if err != nil {
		return err
	}
	a, err := s.audit(now, "system", "invoice.uncollectible", st.InvoiceID, map[string]string{"reason": next.Reason})
	if err != nil {
		return err
	}
	if err := s.tell(ctx, notify.InvoiceUncollectible, st, 0); err != nil {
		return err
	}
	return s.step(ctx, st, stepGiveUp, now, func() error { return s.move(ctx, store.Movement{Standing: &next, Entries: entries}, a) })
}

// tell posts a notice about an invoice, once for each occasion.
func (s *Service) tell(ctx context.Context, kind string, st invoice.Standing, day int) error {
	once := fmt.Sprintf("%s|%s|%d", kind, st.InvoiceID, day)
	if kind == notify.InvoicePaid || kind == notify.InvoiceUncollectible {
		once = fmt.Sprintf("%s|%s|%d", kind, st.InvoiceID, st.Turn)
	}
	return s.cfg.Post(ctx, notify.Message{
		Kind: kind, CustomerID: st.CustomerID, Once: once, At: s.now(),
		Invoice: &notify.Invoice{ID: st.InvoiceID, Remaining: st.Remaining(), DueAt: st.DueAt, Days: day},
	})
}

// suspensions reads who is suspended and tells what changed; mu is held.
func (s *Service) suspensions(ctx context.Context) error {
	list, err := s.cfg.Records.Suspended(ctx, stepSuspend)
	if err != nil {
		return fmt.Errorf("read suspended customers: %w", err)
	}
	now := make(map[string]bool, len(list))
	for _, id := range list {
		now[id] = true
		if !s.suspended[id] {
			s.cfg.Suspend(id, true)
		}
	}
	for id := range s.suspended {
		if !now[id] {
			s.cfg.Suspend(id, false)
		}
	}
	s.suspended = now
	return nil
}
