package enforce

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// LimitStatus is one limit of a customer now. Quantities are decimals in the meter's unit, a spend cap's in its currency.
type LimitStatus struct {
	Key, Meter, Window         string
	Kind                       quota.Kind
	Consumed, Quota, Remaining money.Decimal
	WindowStart, ResetsAt      time.Time
	Currency                   string // spend caps only
	Enforcement                string // "hard"
	Bound                      string // how far it can be passed: "0"
	CatalogVersion             int64
}

// Limits lists every limit of a customer's plan with its present state, in the plan's order. Without an active
// subscription the list is empty.
func (e *Enforcer) Limits(ctx context.Context, customerRef string) ([]LimitStatus, error) {
	cust, ok := e.cfg.Directory.Customer(customerRef)
	if !ok {
		return nil, fmt.Errorf("customer %q: %w", customerRef, account.ErrNotFound)
	}
	sub, ok := e.cfg.Directory.ActiveSubscription(cust.ID, e.cfg.Now())
	if !ok {
		return nil, nil
	}
	return e.limitsOf(ctx, &account.Principal{Customer: cust, Subscription: sub, HasSubscription: true})
}

// LimitsOf is Limits for the caller of a gateway key; fault as in Admit.
func (e *Enforcer) LimitsOf(ctx context.Context, secret string) (ls []LimitStatus, p account.Principal, fault account.KeyFault, err error) {
	p, fault = e.cfg.Directory.Principal(secret, e.cfg.Now())
	if fault != "" || !p.HasSubscription {
		return nil, p, fault, nil
	}
	ls, err = e.limitsOf(ctx, &p)
	return ls, p, "", err
}

func (e *Enforcer) limitsOf(ctx context.Context, p *account.Principal) ([]LimitStatus, error) {
	cat := e.cfg.Directory.Current()
	c := e.customer(p.Customer.ID)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := e.cfg.Now().UnixMicro()
	if c.refresh.Swap(false) {
		if err := e.refreshReported(ctx, c); err != nil {
			c.refresh.Store(true)
			return nil, err
		}
	}
	byKey := map[string]LimitStatus{}
	for _, m := range cat.Meters {
		s, err := e.set(ctx, c, cat, p, m.Key, now)
		if err != nil {
			return nil, err
		}
		if err := e.rollStale(ctx, s, p.Customer, now); err != nil {
			return nil, err
		}
		for i := range s.limits {
			l, err := s.status(i, now)
			if err != nil {
				return nil, err
			}
			if have, ok := byKey[l.Key]; ok { // a spend cap stands with each priced meter: its spend is the sum
				if l.Consumed, err = l.Consumed.Add(have.Consumed); err != nil {
					return nil, err
				}
				if l.Remaining, err = remainingMoney(l.Quota, l.Consumed); err != nil {
					return nil, err
				}
			}
			byKey[l.Key] = l
		}
	}
	return inOrder(cat, p.Subscription.Plan, byKey), nil
}

func inOrder(cat *catalog.Compiled, planKey string, byKey map[string]LimitStatus) []LimitStatus {
	var out []LimitStatus
	if plan, ok := cat.Plan(planKey); ok {
		for _, l := range plan.Limits {
			if st, ok := byKey[l.Key]; ok {
				out = append(out, st)
				delete(byKey, l.Key)
			}
		}
	}
	for _, st := range byKey { // limits of a plan that has left the catalog
		out = append(out, st)
	}
	return out
}

func remainingMoney(limit, consumed money.Decimal) (money.Decimal, error) {
	left, err := limit.Sub(consumed)
	if err != nil || left.Sign() < 0 {
		return money.Decimal{}, err
	}
	return left, nil
}

func (s *limitSet) status(i int, now int64) (LimitStatus, error) {
	l, st := &s.limits[i], s.states[i]
	remaining, resetAt := quota.Remaining(l, st, now)
	out := LimitStatus{
		Key: l.Key, Meter: l.Meter, Kind: l.Kind, Enforcement: "hard", Bound: "0", CatalogVersion: s.version,
		ResetsAt: time.UnixMicro(resetAt).UTC(), Remaining: money.FromScaled(remaining, s.scale),
	}
	switch l.Kind {
	case quota.TokenBucket:
		out.Quota, out.Consumed = money.FromScaled(l.Burst, s.scale), money.FromScaled(l.Burst-remaining, s.scale)
		out.Window = "token_bucket"
		return out, nil
	case quota.Quota:
		out.Quota, out.Consumed = money.FromScaled(l.Quota, s.scale), money.FromScaled(st.Consumed, s.scale)
	case quota.SpendCap:
		spent, err := s.caps[i].charge(s.meter, st.Consumed)
		if err != nil {
			return out, err
		}
		out.Meter, out.Currency = "", s.caps[i].currency.Code()
		out.Quota, out.Consumed = s.caps[i].cap, spent
		if out.Remaining, err = remainingMoney(s.caps[i].cap, spent); err != nil {
			return out, err
		}
	}
	out.Window = l.Window.String()
	out.WindowStart, out.ResetsAt = time.UnixMicro(st.WindowStart).UTC(), time.UnixMicro(st.WindowEnd).UTC()
	return out, nil
}

// Explain opens a decision id with the key file alone. receipt.ErrToken.
func (e *Enforcer) Explain(decisionID string) (receipt.Receipt, error) {
	return e.cfg.Keyring.Open(decisionID)
}

// DecisionID rebuilds the full decision id from the receipt stored with an event. The same bytes were sent to the client.
func (e *Enforcer) DecisionID(encoded []byte) (string, receipt.Receipt, error) {
	rec, err := receipt.Decode(encoded)
	if err != nil {
		return "", rec, err
	}
	sealer := e.sealer
	if rec.ID.Node != e.cfg.Node || rec.ID.Epoch != e.epoch {
		if sealer, err = e.cfg.Keyring.Sealer(rec.ID.Node, rec.ID.Epoch); err != nil {
			return "", rec, err
		}
	}
	return string(sealer.Seal(nil, rec.ID, encoded)), rec, nil
}
