package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
)

// RedemptionLimits bound the redemptions of one coupon, ended ones among them; 0: no bound.
type RedemptionLimits struct {
	InAll, PerCustomer int
}

// Redemptions keeps which customers use which coupons. Every write carries its audit entry and is stored with it in one transaction.
type Redemptions interface {
	// Redeem only adds. A taken id is ErrExists, an unknown customer ErrNotFound, one more than the limits allow ErrFull, and a
	// second one of the customer and coupon while the first is not ended ErrConflict; all is judged in the same transaction.
	Redeem(ctx context.Context, r account.Redemption, limits RedemptionLimits, a Audit) error
	// EndRedemption ends one; doing it twice keeps the first time. ErrNotFound.
	EndRedemption(ctx context.Context, id string, at time.Time, a Audit) (account.Redemption, error)
	ListRedemptions(ctx context.Context, q Query) ([]account.Redemption, error)
}

// TopUps keeps what is granted by itself, and what was told of credits that run low.
type TopUps interface {
	// PutTopUp adds a customer's rule for a meter, or replaces it. ErrNotFound: no such customer.
	PutTopUp(ctx context.Context, r account.TopUpRule, a Audit) error
	// DropTopUp takes a rule away. ErrNotFound.
	DropTopUp(ctx context.Context, customerID, meter string, a Audit) error
	TopUps(ctx context.Context) ([]account.TopUpRule, error) // all, by customer and meter
	// PutCreditMark adds a mark, or replaces it.
	PutCreditMark(ctx context.Context, m account.CreditMark) error
	CreditMarks(ctx context.Context) ([]account.CreditMark, error) // all, by customer and meter
}

// Credits keeps what belongs to usage credits and coupons beside the grants themselves.
type Credits interface {
	Redemptions
	TopUps
}

// Allowed keeps what customers are allowed and what is taken off their invoices.
type Allowed interface {
	Allowances
	Redemptions
}
