package enforce

import (
	"context"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// LimitStatus is one limit of a customer now, or one entitlement.
type LimitStatus = lessee.Line

// Limits lists every limit of a customer's plan with its present state, in the plan's order, then its entitlements. Of limits
// with a scope it tells the numbers only. Without an active subscription the list is empty.
func (e *Enforcer) Limits(ctx context.Context, customerRef string) ([]LimitStatus, error) {
	cust, ok := e.cfg.Directory.Customer(customerRef)
	if !ok {
		return nil, fmt.Errorf("customer %q: %w", customerRef, account.ErrNotFound)
	}
	p, ok := e.cfg.Directory.PrincipalOf(cust.ID, e.cfg.Now())
	if !ok || !p.HasSubscription {
		return nil, nil
	}
	return e.lines(ctx, &p)
}

// Spending is what a customer's usage costs in money, exactly.
type Spending struct {
	Charged               money.Rational // in the billing period, before credits
	Left, Burned, Granted money.Rational // of credits in money
}

// lines are a principal's, with what usage costs by the prices of its invoice.
func (e *Enforcer) lines(ctx context.Context, p *account.Principal) ([]LimitStatus, error) {
	list, err := e.lessee.Lines(ctx, p, 1)
	if err != nil || e.cfg.Spending == nil || !slices.ContainsFunc(list, func(l LimitStatus) bool { return l.Kind == quota.SpendCap && l.Currency != "" }) {
		return list, err
	}
	if err := e.Flush(ctx); err != nil {
		return nil, err
	}
	sp, err := e.cfg.Spending(ctx, p.Customer.ID)
	if err != nil {
		return nil, fmt.Errorf("what usage costs: %w", err)
	}
	for i := range list {
		l := &list[i]
		if l.Kind != quota.SpendCap || l.Currency == "" {
			continue
		}
		if l.Credits {
			l.Quota, l.Consumed, l.Remaining = shown(sp.Granted), shown(sp.Burned), shown(sp.Left)
			continue
		}
		l.Consumed = shown(sp.Charged)
		if l.Remaining, err = l.Quota.Sub(l.Consumed); err != nil || l.Remaining.Sign() < 0 {
			l.Remaining = money.Decimal{}
		}
	}
	return list, nil
}

// shown is an amount of money as a decimal: exact, unless it has more digits than one.
func shown(r money.Rational) money.Decimal {
	d, _, err := r.Decimal()
	if err != nil {
		return money.Decimal{}
	}
	return d
}

// LimitsOf is Limits for the caller of a gateway key, with the state of the key's own counters; fault as in Admit.
func (e *Enforcer) LimitsOf(ctx context.Context, secret string) (ls []LimitStatus, p account.Principal, fault account.KeyFault, err error) {
	p, fault = e.cfg.Directory.Principal(secret, e.cfg.Now())
	if fault != "" || !p.HasSubscription {
		return nil, p, fault, nil
	}
	ls, err = e.lines(ctx, &p)
	return ls, p, "", err
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
