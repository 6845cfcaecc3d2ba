package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
)

// Allowances keeps what a single customer is allowed apart from the plan. Every write carries its audit entry and is stored with
// it in one transaction.
type Allowances interface {
	// PutOverride only adds: a taken id is ErrExists, an unknown customer ErrNotFound.
	PutOverride(ctx context.Context, o account.Override, a Audit) error
	// EndOverride takes one back; doing it twice keeps the first time. ErrNotFound.
	EndOverride(ctx context.Context, id string, at time.Time, a Audit) (account.Override, error)
	ListOverrides(ctx context.Context, q Query) ([]account.Override, error)
	// PutGrant only adds. A second correction of the same grant is ErrExists, so that nothing expires twice.
	PutGrant(ctx context.Context, g account.Grant, a Audit) error
	ListGrants(ctx context.Context, q Query) ([]account.Grant, error)
}
