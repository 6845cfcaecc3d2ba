package enforce

import (
	"context"
	"fmt"

	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/core/account"
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
	return e.lessee.Lines(ctx, &p, 1)
}

// LimitsOf is Limits for the caller of a gateway key, with the state of the key's own counters; fault as in Admit.
func (e *Enforcer) LimitsOf(ctx context.Context, secret string) (ls []LimitStatus, p account.Principal, fault account.KeyFault, err error) {
	p, fault = e.cfg.Directory.Principal(secret, e.cfg.Now())
	if fault != "" || !p.HasSubscription {
		return nil, p, fault, nil
	}
	ls, err = e.lessee.Lines(ctx, &p, 1)
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
