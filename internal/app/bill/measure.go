package bill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/store"
)

// quantityDecimals bounds the decimals of a quantity that is rated, so that a price of 18 decimals charges it exactly. Only
// the average of a level can be longer; it is rounded once, half away from zero.
const quantityDecimals = 18

// series is a part of a journal's series as a price reads it.
type series struct {
	store.SeriesKey
	filter []meter.Dimension
	kind   meter.Aggregation
	by     []string // a matrix price: the dimensions that it looks at
}

// reading is what a series says of an interval.
type reading struct {
	quantity money.Decimal
	events   []price.Event // of a matrix: a group each
	late     bool          // it says something else than it did at the closing before
}

// apart says that a meter does not add up, so that a period's quantity is measured and not summed. A meter that no version of
// the catalog knows adds up, as all did once.
func apart(kind meter.Aggregation) bool { return kind != 0 && !kind.Additive() }

// plain says that the sums of the journal's buckets are what the series says.
func (s *series) plain() bool { return !apart(s.kind) && len(s.filter) == 0 && len(s.by) == 0 }

// groupBy are the dimensions that a matrix looks at, sorted; of any other model none.
func groupBy(p *price.Price) []string {
	var names []string
	for i := range p.Cells {
		for _, d := range p.Cells[i].When {
			names = append(names, d.Name)
		}
	}
	if p.Model != price.Matrix {
		return nil
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// filterText is a filter as one text; equal filters are equal texts.
func filterText(filter []meter.Dimension) string {
	list := slices.Clone(filter)
	slices.SortFunc(list, func(a, b meter.Dimension) int { return cmp.Compare(a.Name, b.Name) })
	parts := make([]string, len(list))
	for i, d := range list {
		parts[i] = d.Name + "\x00" + d.Value
	}
	return strings.Join(parts, "\x01")
}

// all reads everything that is there.
const all = ^uint64(0)

// read is what the series says of an interval by what was appended up to a position.
func (s *series) read(v store.View, in period.Interval, upTo uint64) (r reading, err error) {
	if upTo == 0 || in.Empty() {
		return reading{}, nil // the journal was empty; 0 would read all
	}
	if s.plain() {
		r.quantity, err = s.sum(v, in, upTo)
		return r, err
	}
	m := store.Measure{Aggregation: s.kind, Where: s.filter, GroupBy: s.by, UpTo: upTo}
	if upTo == all {
		m.UpTo = 0
	}
	if m.Aggregation == 0 {
		m.Aggregation = meter.Sum
	}
	groups, err := v.Measure(s.SeriesKey, in, m)
	if err != nil {
		return r, fmt.Errorf("measure %s of meter %q: %w", m.Aggregation, s.Meter, err)
	}
	if len(s.by) == 0 && len(groups) != 1 {
		return r, fmt.Errorf("measure %s of meter %q: %d groups instead of 1: %w", m.Aggregation, s.Meter, len(groups), store.ErrCorrupt)
	}
	for _, g := range groups {
		value, err := g.Value.RoundTo(quantityDecimals)
		if err == nil {
			r.quantity, err = r.quantity.Add(value)
		}
		if err != nil {
			return r, fmt.Errorf("measure %s of meter %q: %w", m.Aggregation, s.Meter, err)
		}
		if len(s.by) > 0 && !value.IsZero() {
			r.events = append(r.events, price.Event{Quantity: value, Dimensions: g.Dimensions})
		}
	}
	slices.SortFunc(r.events, func(a, b price.Event) int { return compareDimensions(a.Dimensions, b.Dimensions) })
	return r, nil
}

func compareDimensions(a, b []meter.Dimension) int {
	return slices.CompareFunc(a, b, func(a, b meter.Dimension) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
}

// sum adds up the buckets, less what came after the position.
func (s *series) sum(v store.View, in period.Interval, upTo uint64) (money.Decimal, error) {
	used, err := v.Usage(s.SeriesKey, in)
	if err != nil {
		return money.Decimal{}, fmt.Errorf("usage of meter %q: %w", s.Meter, err)
	}
	if upTo >= v.Position() {
		return used.Sum, nil
	}
	late, err := v.Late(s.SeriesKey, in, upTo)
	if err != nil {
		return money.Decimal{}, fmt.Errorf("late usage of meter %q: %w", s.Meter, err)
	}
	return used.Sum.Sub(late)
}

// moved says whether the series says something else of an interval at one position than at an earlier one.
func (s *series) moved(v store.View, in period.Interval, from, to uint64) (bool, error) {
	if from == to {
		return false, nil
	}
	if s.plain() {
		before, err := v.Late(s.SeriesKey, in, from)
		if err != nil {
			return false, fmt.Errorf("late usage of meter %q: %w", s.Meter, err)
		}
		if to >= v.Position() {
			return !before.IsZero(), nil
		}
		after, err := v.Late(s.SeriesKey, in, to)
		if err != nil {
			return false, fmt.Errorf("late usage of meter %q: %w", s.Meter, err)
		}
		return before.Cmp(after) != 0, nil
	}
	was, err := s.read(v, in, from)
	if err != nil {
		return false, err
	}
	now, err := s.read(v, in, to)
	if err != nil {
		return false, err
	}
	same := was.quantity.Cmp(now.quantity) == 0 && slices.EqualFunc(was.events, now.events, func(a, b price.Event) bool {
		return a.Quantity.Cmp(b.Quantity) == 0 && slices.Equal(a.Dimensions, b.Dimensions)
	})
	return !same, nil
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
