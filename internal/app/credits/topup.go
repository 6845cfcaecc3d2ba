package credits

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// NewTopUp is what an operator says of a rule.
type NewTopUp struct {
	Meter     string // empty: money
	Below     string // of the balance
	Amount    string // of each grant
	Paid      string // for each, in the customer's currency; empty: nothing
	Most      int    // in each Every; 0: 1
	Every     string // empty: month
	ValidDays int    // 0: a grant does not expire
}

const (
	topUpsMax    = 100 // of one rule in its period
	validDaysMax = 3660
	customersMax = 500 // that one Tick looks at
	systemActor  = "system"
)

// SetTopUp has credits granted by themselves while few are left. govern.Invalid, account.ErrNotFound.
func (s *Service) SetTopUp(ctx context.Context, actor, ref string, n NewTopUp) (r account.TopUpRule, err error) {
	c, err := s.customer(ref)
	if err != nil {
		return r, err
	}
	if n.Every == "" {
		n.Every = "month"
	}
	r = account.TopUpRule{CustomerID: c.ID, Meter: n.Meter, Most: max(n.Most, 1), ValidDays: n.ValidDays, SetAt: s.now(), Actor: actor}
	if r.Below, err = s.amount("/below", n.Below, n.Meter); err != nil {
		return r, err
	}
	if r.Amount, err = s.amount("/amount", n.Amount, n.Meter); err != nil {
		return r, err
	}
	if r.Amount.IsZero() {
		return r, invalid("/amount", `"0" is not a number above 0`, `such as "1000"`)
	}
	if n.Paid != "" {
		if r.Paid, err = s.amount("/paid", n.Paid, ""); err != nil {
			return r, err
		}
	}
	if r.Every, err = period.ParseEvery(n.Every); err != nil {
		return r, invalid("/every", err.Error(), "day, week, month, quarter, year, or a multiple")
	}
	if n.Most < 0 || n.Most > topUpsMax {
		return r, invalid("/most", fmt.Sprintf("%d is out of range", n.Most), fmt.Sprintf("1 to %d", topUpsMax))
	}
	if n.ValidDays < 0 || n.ValidDays > validDaysMax {
		return r, invalid("/valid_days", fmt.Sprintf("%d is out of range", n.ValidDays), fmt.Sprintf("0 to %d; 0: for ever", validDaysMax))
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	a, err := s.audit(r.SetAt, actor, "top_up.set", c.ID, map[string]string{
		"meter": r.Meter, "below": r.Below.String(), "amount": r.Amount.String(), "paid": r.Paid.String(), "most": fmt.Sprint(r.Most), "every": r.Every.String(),
	})
	if err != nil {
		return r, err
	}
	return r, s.cfg.Records.PutTopUp(ctx, r, a)
}

// DropTopUp takes a rule away; what it granted stays. account.ErrNotFound.
func (s *Service) DropTopUp(ctx context.Context, actor, ref, meterKey string) error {
	c, err := s.customer(ref)
	if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	a, err := s.audit(s.now(), actor, "top_up.drop", c.ID, map[string]string{"meter": meterKey})
	if err != nil {
		return err
	}
	if err := s.cfg.Records.DropTopUp(ctx, c.ID, meterKey, a); err != nil {
		return absent("top-up rule of", c.Key, err)
	}
	return nil
}

// TopUps are a customer's rules, by meter. account.ErrNotFound.
func (s *Service) TopUps(ctx context.Context, ref string) ([]account.TopUpRule, error) {
	c, err := s.customer(ref)
	if err != nil {
		return nil, err
	}
	all, err := s.cfg.Records.TopUps(ctx)
	return slices.DeleteFunc(all, func(r account.TopUpRule) bool { return r.CustomerID != c.ID }), err
}

// Tick looks at some customers' credits: tells of those that run low, once each time, and tops up what is to be. It may die at any
// point: what was done is not done again. more says that others wait.
func (s *Service) Tick(ctx context.Context) (more bool, err error) {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	rules, err := s.cfg.Records.TopUps(ctx)
	if err != nil {
		return false, err
	}
	customers := s.cfg.Directory.Customers()
	if s.next >= len(customers) {
		s.next = 0
	}
	end, flushed := min(len(customers), s.next+customersMax), false
	for _, c := range customers[s.next:end] {
		own := slices.DeleteFunc(slices.Clone(rules), func(r account.TopUpRule) bool { return r.CustomerID != c.ID })
		if len(own) == 0 && len(s.cfg.Directory.Grants(c.ID)) == 0 {
			continue
		}
		if !flushed {
			if err := s.cfg.Flush(ctx); err != nil {
				return false, err
			}
			flushed = true
		}
		if err := s.look(ctx, c, own); err != nil {
			return false, fmt.Errorf("credits of customer %s: %w", c.Key, err)
		}
	}
	if s.next = end; end >= len(customers) {
		s.next = 0
		return false, nil
	}
	return true, nil
}

// look does what is due for one customer.
func (s *Service) look(ctx context.Context, c account.Customer, rules []account.TopUpRule) error {
	now := s.now()
	keys := s.purses(c.ID)
	for i := range rules {
		keys = append(keys, rules[i].Meter)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		b, err := s.balance(ctx, c, key, now)
		if err != nil {
			return err
		}
		// First what is low is told, then it is topped up: both are known to whoever reads the notices.
		if err := s.mark(ctx, c, &b, now); err != nil {
			return err
		}
		if i := slices.IndexFunc(rules, func(r account.TopUpRule) bool { return r.Meter == key }); i >= 0 {
			if err := s.topUp(ctx, c, &rules[i], &b, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// The thresholds, in percent of what was granted.
const (
	full    = 100
	low     = 20
	usedUp  = 0
	percent = 100
)

// level is the lowest threshold that a balance is at or below.
func level(b *Balance) (int, error) {
	if b.Left.Sign() <= 0 {
		return usedUp, nil
	}
	left, err := b.Left.Mul(money.FromInt(percent).Rational())
	if err != nil {
		return 0, err
	}
	bound, err := b.Granted.Mul(money.FromInt(low))
	if err != nil {
		return 0, err
	}
	if left.Cmp(bound.Rational()) <= 0 {
		return low, nil
	}
	return full, nil
}

// mark tells that credits run low or are used up. The notice is stored first, under a name that is the same when this is repeated.
func (s *Service) mark(ctx context.Context, c account.Customer, b *Balance, now time.Time) error {
	p := purse{c.ID, b.Meter}
	m, known := s.marks[p]
	if !known {
		if b.Granted.IsZero() {
			return nil // nothing was in force since anybody looks
		}
		m = account.CreditMark{CustomerID: c.ID, Meter: b.Meter, Percent: full}
	}
	at, err := level(b)
	if err != nil {
		return err
	}
	if known && at == m.Percent {
		return nil
	}
	if at < m.Percent {
		m.Crossings++
		kind := notify.BalanceLow
		if at == usedUp {
			kind = notify.BalanceEmpty
		}
		left, _, err := b.Left.Decimal()
		if err != nil {
			return err
		}
		if err := s.cfg.Tell(ctx, notify.Message{
			Kind: kind, CustomerID: c.ID, Once: fmt.Sprintf("%s|%s|%s|%d", kind, c.ID, b.Meter, m.Crossings), At: now, Meter: b.Meter,
			Percent: at, Left: left, Quota: b.Granted,
		}); err != nil {
			return err
		}
	}
	m.Percent = at
	if err := s.cfg.Records.PutCreditMark(ctx, m); err != nil {
		return err
	}
	s.marks[p] = m
	return nil
}

// topUp grants until the balance is not below the rule's bound, or as often as it may. Each grant has a name of its own, so that it
// is made once, whatever dies in between.
func (s *Service) topUp(ctx context.Context, c account.Customer, r *account.TopUpRule, b *Balance, now time.Time) error {
	calendar := period.Anchor{Start: time.Unix(0, 0).UTC(), Zone: c.Zone, Every: r.Every, Calendar: true}
	window, ok := calendar.Period(now)
	if !ok {
		return nil
	}
	name := fmt.Sprintf("top-up|%s|%s|", r.Meter, period.Format(window.Start))
	var made []account.Grant
	for _, g := range s.cfg.Directory.Grants(c.ID) {
		if strings.HasPrefix(g.Once, name) {
			made = append(made, g)
		}
	}
	net, err := b.Left.Sub(b.Overage)
	if err != nil {
		return err
	}
	for len(made) < r.Most && net.Cmp(r.Below.Rational()) < 0 {
		g, err := s.grantTopUp(ctx, c, r, fmt.Sprint(name, len(made)), now)
		if err != nil {
			return err
		}
		made = append(made, g)
		if net, err = net.Add(r.Amount.Rational()); err != nil {
			return err
		}
	}
	for _, g := range made {
		if s.told[g.ID] {
			continue
		}
		if err := s.cfg.Tell(ctx, notify.Message{
			Kind: notify.BalanceToppedUp, CustomerID: c.ID, Once: notify.BalanceToppedUp + "|" + g.ID, At: g.CreatedAt, Meter: g.Meter, Quota: g.Amount,
		}); err != nil {
			return err
		}
		if len(s.told) >= toldMax {
			clear(s.told)
		}
		s.told[g.ID] = true
	}
	return nil
}

// toldMax bounds the memory of top-ups that were told; the records know the rest.
const toldMax = 50_000

func (s *Service) grantTopUp(ctx context.Context, c account.Customer, r *account.TopUpRule, once string, now time.Time) (account.Grant, error) {
	g := account.Grant{
		CustomerID: c.ID, Meter: r.Meter, Amount: r.Amount, Kind: account.TopUp, Paid: r.Paid, Once: once, CreatedAt: now, EffectiveAt: now,
		Reason: fmt.Sprintf("the balance fell below %s", r.Below),
	}
	if r.ValidDays > 0 {
		y, m, d := c.Zone.Date(now)
		g.ExpiresAt = c.Zone.StartOfDay(y, m, d+r.ValidDays)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.putGrant(ctx, systemActor, g)
}
