package authority

import (
	"context"
)

// capShared says whether another node may spend under the same cap on another meter.
func (w *draw) capShared(i int) bool {
	for meterKey := range w.caps[i].Scales {
		if c := w.c.counters[idOf(other(w.Asks[i].Counter, meterKey), w.Asks[i].Kind)]; c != nil {
			if shared, _ := c.shared(w.Node); shared {
				return true
			}
		}
	}
	return false
}

// capCeiling is what a spend cap leaves to the ask's meter. The other meters count with all that they may reach on their leases.
func (w *draw) capCeiling(ctx context.Context, i int) (int64, error) {
	a, sc := &w.Asks[i], w.caps[i]
	left := sc.Amount
	for meterKey, scale := range sc.Scales {
		if meterKey == a.Counter.Meter {
			continue
		}
		o, err := w.current(ctx, idOf(other(a.Counter, meterKey), a.Kind), a.WindowEnd, scale, 0)
		if err != nil {
			return 0, err
		}
		amount, err := sc.Charge(meterKey, o.total())
		if err != nil {
			return 0, err
		}
		if left, err = left.Sub(amount); err != nil {
			return 0, err
		}
	}
	return sc.Ceiling(a.Counter.Meter, left)
}
