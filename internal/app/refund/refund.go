// Package refund brings what gateways gave back into the records, where it is listed.
package refund

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	kept    = 400 * 24 * time.Hour // business time
	atOnce  = 500                  // lines of one transaction
	waiting = 1 << 17              // lines that wait to be stored, at most
)

// Records keep what was given back.
type Records interface {
	AddRefunds(ctx context.Context, list []store.Refund) error
	ListRefunds(ctx context.Context, q store.Query) ([]store.Refund, error)
	PruneRefunds(ctx context.Context, before time.Time) error
}

// Book is safe for concurrent use. mu owns waiting.
type Book struct {
	records Records
	own     func() ([]enforce.Refund, int64)

	mu      sync.Mutex
	waiting []store.Refund
	lost    atomic.Int64
}

// New has a book that also takes what this process gave back: see enforce.Enforcer.Refunds.
func New(records Records, own func() ([]enforce.Refund, int64)) *Book {
	return &Book{records: records, own: own}
}

// add takes sums in that wait to be stored; mu is held.
func (b *Book) add(list []enforce.Refund, lost int64) {
	b.lost.Add(lost)
	for _, f := range list {
		if len(b.waiting) >= waiting {
			b.lost.Add(f.Count)
			continue
		}
		b.waiting = append(b.waiting, store.Refund{
			CustomerID: f.CustomerID, Day: f.Day, Route: f.Route, Meter: f.Meter, Reason: f.Reason.String(), Refused: f.Refused, Count: f.Count, Cost: f.Cost,
		})
	}
}

// Take takes sums of a gateway in a process of its own; they are stored when it returns.
func (b *Book) Take(ctx context.Context, _ uint16, list []enforce.Refund, lost int64) error {
	b.mu.Lock()
	b.add(list, lost)
	b.mu.Unlock()
	return b.Keep(ctx)
}

// Keep stores what was given back since the last call. After an error the rest waits for the next one.
func (b *Book) Keep(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(b.own())
	for len(b.waiting) > 0 {
		n := min(len(b.waiting), atOnce)
		if err := b.records.AddRefunds(ctx, b.waiting[:n]); err != nil {
			return err
		}
		b.waiting = b.waiting[n:]
	}
	b.waiting = nil
	return nil
}

// List lists them, those of a moment ago too.
func (b *Book) List(ctx context.Context, q store.Query) ([]store.Refund, error) {
	if err := b.Keep(ctx); err != nil {
		return nil, err
	}
	return b.records.ListRefunds(ctx, q)
}

// Prune drops those of days that are long past at an instant of the business clock.
func (b *Book) Prune(ctx context.Context, now time.Time) error {
	return b.records.PruneRefunds(ctx, now.Add(-kept))
}

// Lost counts refunds that were given and stand in no list.
func (b *Book) Lost() int64 { return b.lost.Load() }
