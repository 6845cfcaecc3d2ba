package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// SubscriptionChanges keeps what became of subscriptions, and what invoices need to know of customers. Every write carries its
// audit entry and is stored with it in one transaction.
type SubscriptionChanges interface {
	// Subscribe is Accounts.PutSubscription with the first changes. end is the end that follows from them, zero: open.
	Subscribe(ctx context.Context, h subscription.History, end time.Time, a Audit) error
	// PutChanges only adds, all or none; end is the subscription's with all its changes, zero: open. ErrExists: a taken id;
	// ErrNotFound: an unknown subscription; ErrConflict: with that end it overlaps another of the customer's.
	PutChanges(ctx context.Context, subscriptionID string, changes []subscription.Change, end time.Time, a Audit) error
	// ListChanges pages them, by id from the newest. CustomerID leaves those of a customer's subscriptions.
	ListChanges(ctx context.Context, q Query) ([]subscription.Change, error)
	// SetCustomer replaces name and billing details. ErrNotFound.
	SetCustomer(ctx context.Context, id, name string, details account.BillingDetails, a Audit) error
}
