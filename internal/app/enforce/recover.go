package enforce

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// leasesKept is how long closed leases of past windows are kept for questions.
const leasesKept = 40 * 24 * time.Hour

// recover brings an earlier epoch to its end: what it settled is shipped, what it left open is settled and flagged, since
// its request may have been answered, and its leases are closed with what was really spent.
func (e *Enforcer) recover(ctx context.Context) error {
	e.ship.recovering = true
	defer func() { e.ship.recovering, e.ship.ended = false, map[requestKey]bool{} }()
	if e.cfg.Torn {
		e.cfg.Log.WarnContext(ctx, "the spool's end was torn; leases of the earlier run stay charged")
	}
	if err := e.Flush(ctx); err != nil {
		return fmt.Errorf("ship the spool of an earlier run: %w", err)
	}
	left := make([]*openRequest, 0, len(e.ship.open))
	for _, o := range e.ship.open {
		left = append(left, o)
	}
	slices.SortFunc(left, func(a, b *openRequest) int { return cmp.Compare(a.offset, b.offset) })
	settled := 0
	for i := range left {
		r := &left[i].reservation
		known, err := e.shipped(ctx, r.requestKey)
		if err != nil {
			return err
		}
		if known {
			continue
		}
		settled++
		total := e.customer(r.customerID).total(r.meter, r.periodStart)
		_, err = e.cfg.Spool.Append(0, func(b []byte) []byte {
			total.value = addSat(total.value, r.cost)
			st := settlement{requestKey: r.requestKey, totalEpoch: e.epoch, total: total.value, flags: uint16(store.Recovered)}
			return st.append(b)
		})
		if err != nil {
			return fmt.Errorf("settle a request that a crash left open: %w", err)
		}
	}
	if settled > 0 {
		e.stats.recovered.Add(int64(settled))
		e.cfg.Log.WarnContext(ctx, "requests that an earlier run left open were settled", slog.Int("requests", settled))
		if err := e.cfg.Spool.Sync(ctx); err != nil {
			return fmt.Errorf("sync the spool: %w", err)
		}
		if err := e.Flush(ctx); err != nil {
			return fmt.Errorf("ship recovered requests: %w", err)
		}
	}
	if err := e.closeEarlier(ctx); err != nil {
		return err
	}
	return e.cfg.Leases.PruneLeases(ctx, e.cfg.Now().Add(-leasesKept).UnixMicro())
}

// shipped says whether an open reservation is in the journal already: a power cut took the settlement from the spool after
// the journal had it. Then it only looks open, and is put to rest.
func (e *Enforcer) shipped(ctx context.Context, k requestKey) (bool, error) {
	_, err := e.cfg.Journal.Event(ctx, e.source, e.shortID(k).String())
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for an open request in the journal: %w", err)
	}
	if _, err := e.cfg.Spool.Append(0, func(b []byte) []byte { return appendRelease(b, k) }); err != nil {
		return false, fmt.Errorf("put a shipped request to rest: %w", err)
	}
	return true, nil
}

// closeEarlier closes the leases of this node's earlier epochs. On the same boot the spool was complete, so the journal now
// knows what was spent. After a power cut the tail of the spool may be lost: then the lease stays charged in full and the
// part without a request is written off, so that nothing can be admitted twice.
func (e *Enforcer) closeEarlier(ctx context.Context) error {
	open, err := e.cfg.Leases.OpenLeases(ctx, e.cfg.Node, e.epoch)
	if err != nil {
		return fmt.Errorf("read open leases: %w", err)
	}
	slices.SortFunc(open, func(a, b store.Lease) int { return cmp.Compare(a.Epoch, b.Epoch) })
	unspent := map[store.CounterKey]int64{} // admitted usage of a counter that no closed lease accounts for
	var closed []store.Lease
	for _, l := range open {
		known, ok := unspent[l.CounterKey]
		if !ok {
			if known, err = e.unaccounted(ctx, l); err != nil {
				return err
			}
		}
		spent := max(0, min(known, l.Charged))
		unspent[l.CounterKey] = known - spent
		if l.Boot != "" && l.Boot == e.cfg.Boot && !e.cfg.Torn {
			l.Charged = spent
		} else {
			l.WrittenOff = l.Charged - spent
			e.stats.writtenOff.Add(l.WrittenOff)
		}
		l.Closed = true
		closed = append(closed, l)
	}
	if len(closed) == 0 {
		return nil
	}
	if err := e.cfg.Leases.CloseLeases(ctx, closed); err != nil {
		return fmt.Errorf("close leases of an earlier run: %w", err)
	}
	return nil
}

// unaccounted is the admitted usage of a counter's window less what its closed leases were spent on.
func (e *Enforcer) unaccounted(ctx context.Context, l store.Lease) (int64, error) {
	m, ok := e.cfg.Directory.Current().Meter(l.Meter)
	if !ok {
		return 0, nil // the meter left the catalog: nothing is known to be spent
	}
	r, err := e.rollup(ctx, l.CustomerID, l.Meter, interval(l.Start, l.WindowEnd))
	if err != nil {
		return 0, err
	}
	admitted, err := r.Sum.Sub(r.Reported)
	if err != nil {
		return 0, err
	}
	all, err := e.cfg.Leases.LeasesOf(ctx, l.CounterKey)
	if err != nil {
		return 0, fmt.Errorf("read leases: %w", err)
	}
	known := scaled(admitted, m.Scale)
	for _, o := range all {
		if o.Closed {
			known -= o.Charged - o.WrittenOff
		}
	}
	return known, nil
}

// admittedSince is what was admitted on a set's meter from an instant on, in its scale.
func (e *Enforcer) admittedSince(ctx context.Context, s *limitSet, from int64) (int64, error) {
	r, err := e.rollup(ctx, s.customer.id, s.meter, period.Interval{Start: time.UnixMicro(from).UTC()})
	if err != nil {
		return 0, err
	}
	admitted, err := r.Sum.Sub(r.Reported)
	if err != nil {
		return 0, err
	}
	return scaled(admitted, s.scale), nil
}

// usageOf is a counter's usage from the journal, in the meter's scale.
func (e *Enforcer) usageOf(ctx context.Context, customerID, meterKey string, start, end int64, scale int) (int64, error) {
	r, err := e.rollup(ctx, customerID, meterKey, interval(start, end))
	return scaled(r.Sum, scale), err
}

func (e *Enforcer) rollup(ctx context.Context, customerID, meterKey string, in period.Interval) (r meter.Rollup, err error) {
	err = e.cfg.Journal.View(ctx, func(v store.View) (err error) {
		r, err = v.Usage(store.SeriesKey{CustomerID: customerID, Meter: meterKey}, in)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("read usage: %w", err)
	}
	return r, nil
}
