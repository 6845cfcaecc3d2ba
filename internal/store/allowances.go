package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/ledger"
)

// Allowances keeps what a single customer is allowed apart from the plan. Every write carries its audit entry and is stored with
// it in one transaction.
type Allowances interface {
	// PutOverride only adds: a taken id is ErrExists, an unknown customer ErrNotFound.
	PutOverride(ctx context.Context, o account.Override, a Audit) error
	// EndOverride takes one back; doing it twice keeps the first time. ErrNotFound.
	EndOverride(ctx context.Context, id string, at time.Time, a Audit) (account.Override, error)
	ListOverrides(ctx context.Context, q Query) ([]account.Override, error)
	// PutGrant only adds. A second correction of the same grant is ErrExists, and so is a second grant with the same Once.
	// What was paid for it is posted in the same transaction.
	PutGrant(ctx context.Context, g account.Grant, posted []ledger.Entry, a Audit) error
	// VoidGrant notes that what is left of a grant is lost from an instant on; doing it twice keeps the first time. ErrNotFound;
	// ErrConflict for the correction of a grant.
	VoidGrant(ctx context.Context, id string, at time.Time, reason string, a Audit) (account.Grant, error)
	ListGrants(ctx context.Context, q Query) ([]account.Grant, error)
}
