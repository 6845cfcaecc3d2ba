package enforce

import (
	"context"
	"errors"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/store"
)

// local stands in for the authority where records and journal are in this process.
type local struct{ e *Enforcer }

func (e *Enforcer) closer() closer { return local{e} }

func (e *Enforcer) past() past { return local{e} }

// Return closes leases in the records.
func (l local) Return(ctx context.Context, node uint16, _ uint32, backs []authority.Back) error {
	ls := make([]store.Lease, len(backs))
	for i, b := range backs {
		ls[i] = store.Lease{CounterKey: b.Counter, Node: node, Epoch: b.Epoch, Charged: b.Spent + b.WrittenOff, WrittenOff: b.WrittenOff, Closed: true}
	}
	return l.e.cfg.Leases.CloseLeases(ctx, ls)
}

// Known looks events up in the journal.
func (l local) Known(ctx context.Context, source string, ids []string) ([]bool, error) {
	known := make([]bool, len(ids))
	for i, id := range ids {
		switch _, err := l.e.cfg.Journal.Event(ctx, source, id); {
		case err == nil:
			known[i] = true
		case !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
	}
	return known, nil
}
