package bill

import (
	"context"
	"errors"
	"fmt"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// quantityDecimals bounds the decimals of a quantity that is rated, so that a price of 18 decimals charges it exactly. Only
// the average of a level can be longer; it is rounded once, half away from zero.
const quantityDecimals = 18

// apart says that a meter does not add up, so that a period's quantity is measured and not summed. A meter that no version of
// the catalog knows adds up, as all did once.
func apart(kind meter.Aggregation) bool { return kind != 0 && !kind.Additive() }

// measure is what a meter that does not add up measures in a period: all of it, or with a close only what was appended up to
// the close's position.
func measure(v store.View, key store.SeriesKey, in period.Interval, kind meter.Aggregation, closing *store.Close) (money.Decimal, error) {
	m := store.Measure{Aggregation: kind}
	if closing != nil {
		if m.UpTo = closing.Position; m.UpTo == 0 {
			return money.Decimal{}, nil // the journal was empty; 0 would read all
		}
	}
	groups, err := v.Measure(key, in, m)
	if err != nil {
		return money.Decimal{}, fmt.Errorf("measure %s of meter %q: %w", kind, key.Meter, err)
	}
	if len(groups) != 1 {
		return money.Decimal{}, fmt.Errorf("measure %s of meter %q: %d groups instead of 1: %w", kind, key.Meter, len(groups), store.ErrCorrupt)
	}
	quantity, err := groups[0].Value.RoundTo(quantityDecimals)
	if err != nil {
		return money.Decimal{}, fmt.Errorf("measure %s of meter %q: %w", kind, key.Meter, err)
	}
	return quantity, nil
}

// lateMeasure is by how much what came after a position changed a measure.
func lateMeasure(v store.View, key store.SeriesKey, in period.Interval, kind meter.Aggregation, after uint64) (money.Decimal, error) {
	then, err := measure(v, key, in, kind, &store.Close{Position: after})
	if err != nil {
		return money.Decimal{}, err
	}
	now, err := measure(v, key, in, kind, nil)
	if err != nil {
		return money.Decimal{}, err
	}
	return now.Sub(then)
}

// kindsOf are the aggregations of meters, by key; of one that no version has, 0. A meter's aggregation never changes.
func (s *Service) kindsOf(ctx context.Context, keys []store.SeriesKey) (map[string]meter.Aggregation, error) {
	out := map[string]meter.Aggregation{}
	for _, k := range keys {
		if _, known := out[k.Meter]; known {
			continue
		}
		kind, err := s.kindOf(ctx, k.Meter)
		if err != nil {
			return nil, err
		}
		out[k.Meter] = kind
	}
	return out, nil
}

func (s *Service) kindOf(ctx context.Context, key string) (meter.Aggregation, error) {
	for c := s.cfg.Directory.Current(); c.Version > 0; {
		if m, ok := c.Meter(key); ok {
			return m.Aggregation, nil
		}
		if c.Version == 1 {
			break
		}
		next, err := s.cfg.Directory.Version(ctx, c.Version-1)
		if errors.Is(err, account.ErrNotFound) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("aggregation of meter %q: %w", key, err)
		}
		c = next
	}
	return 0, nil
}
