package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
)

// Producers keeps producers and their tokens without secrets. A ref is an id or a key. Every write carries its audit entry and
// is stored with it in one transaction.
type Producers interface {
	// PutProducer adds one with its first token. ErrExists on id, key or digest; ErrConflict when a source overlaps one of a
	// producer that is not revoked, with that one's key.
	PutProducer(ctx context.Context, p account.Producer, t account.ProducerToken, a Audit) error
	// PutProducerToken adds a token. ErrNotFound; ErrConflict: two live tokens already, or the producer is revoked.
	PutProducerToken(ctx context.Context, t account.ProducerToken, a Audit) error
	// RevokeProducer frees its sources; RevokeProducerToken ends one token. Doing it twice keeps the first time. ErrNotFound.
	RevokeProducer(ctx context.Context, id string, at time.Time, a Audit) (account.Producer, error)
	RevokeProducerToken(ctx context.Context, id string, at time.Time, a Audit) (account.ProducerToken, error)
	Producer(ctx context.Context, ref string) (account.Producer, error)
	ListProducers(ctx context.Context, q Query) ([]account.Producer, error)
	ListProducerTokens(ctx context.Context, q Query) ([]account.ProducerToken, error) // of all producers
}
