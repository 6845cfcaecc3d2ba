package authority

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

func isRolling(limits []rule) bool {
	for i := range limits {
		if limits[i].Kind == quota.Rolling {
			return true
		}
	}
	return false
}

// slots are the counters that count for one under its rolling limits, itself left out.
func (w *draw) slots(c *counter, limits []rule) (out []*counter) {
	for i := range limits {
		if limits[i].Kind != quota.Rolling || c.id.Length <= 0 {
			continue
		}
		slot := c.id
		for slot.Start = sub(c.id.Start, limits[i].Length); slot.Start <= add(c.id.Start, limits[i].Length); slot.Start += c.id.Length {
			if o := w.c.counters[slot]; o != nil && o != c && !slices.Contains(out, o) {
				out = append(out, o)
			}
		}
	}
	return out
}

// uses is what each slot of a counter's family is charged with; the counter's own among them.
func (w *draw) uses(c *counter, l *rule) []quota.SlotUse {
	others := w.slots(c, []rule{*l})
	out := make([]quota.SlotUse, 0, len(others)+1)
	for _, o := range append(others, c) {
		out = append(out, quota.SlotUse{Start: o.id.Start, Used: o.total()})
	}
	return out
}

// family takes up all slots that count for one, and reads again what was reported in them.
func (w *draw) family(ctx context.Context, id counterID, l *rule) error {
	s, c, scale := w.s, w.c, w.rules.scale(id.Meter)
	from, to := sub(id.Start, l.Length), add(add(id.Start, l.Length), id.Length)
	if !id.durable() {
		return s.familyShort(ctx, c, id, from, scale)
	}
	key := familyKey(id)
	if f := c.families[key]; f == nil || from < f.from {
		rows, err := s.cfg.Leases.LeasesFrom(ctx, id.CounterKey, from, to)
		if err != nil {
			return fmt.Errorf("read leases: %w", err)
		}
		bySlot := map[int64][]store.Lease{}
		for _, r := range rows {
			bySlot[r.Start] = append(bySlot[r.Start], r)
		}
		for start, rows := range bySlot {
			slot := id
			slot.Start = start
			if c.counters[slot] == nil {
				ctr := &counter{id: slot, end: add(start, id.Length), used: s.cfg.Mono()}
				ctr.fill(rows)
				c.counters[slot] = ctr
			}
		}
		c.families[key] = &family{from: from}
	}
	if id.Scope != "" || w.fresh[key] {
		return nil
	}
	w.fresh[key] = true
	return s.reread(ctx, c, id, from, to, scale)
}

// family is the slots of one rolling window. Slots from an instant on were looked for in the records.
type family struct {
	from int64
}

func familyKey(id counterID) counterID {
	id.Start = 0
	return id
}

// reread takes from the journal what was used in each slot. What is reported is read each time; what was used without a lease
// counts when the slot comes into use.
func (s *Service) reread(ctx context.Context, c *customer, id counterID, from, to int64, scale int) error {
	var windows []store.Window
	in := period.Interval{Start: period.BucketStart(time.UnixMicro(from)), End: period.BucketStart(time.UnixMicro(to)).Add(period.BucketLength)}
	err := s.cfg.Journal.View(ctx, func(v store.View) (err error) {
		windows, err = v.Windows(store.SeriesKey{CustomerID: id.CustomerID, Meter: id.Meter}, in)
		return err
	})
	if err != nil {
		return fmt.Errorf("read usage: %w", err)
	}
	type use struct{ used, reported int64 }
	slots := map[int64]use{}
	for i := range windows { // a bucket that two slots share counts for the later one: usage leaves late, never early
		at := windows[i].End.UnixMicro() - 1
		start := at - at%id.Length
		u := slots[start]
		slots[start] = use{add(u.used, scaled(windows[i].Sum, scale)), add(u.reported, max(0, scaled(windows[i].Reported, scale)))}
	}
	for start, u := range slots {
		slot := id
		slot.Start = start
		ctr := c.counters[slot]
		if ctr == nil {
			ctr = &counter{id: slot, end: add(start, id.Length), used: s.cfg.Mono()}
			ctr.unleased = max(0, sub(u.used, u.reported))
			c.counters[slot] = ctr
		} else if !ctr.begun {
			leased := sub(ctr.total(), add(ctr.reported, ctr.unleased))
			ctr.unleased = max(0, sub(sub(u.used, u.reported), leased))
		}
		ctr.begun, ctr.reported = true, u.reported
	}
	return nil
}

// familyShort takes up the slots of a window that lives in memory, as far as they began before this start.
func (s *Service) familyShort(ctx context.Context, c *customer, id counterID, from int64, scale int) error {
	for start := id.Start - id.Length; start >= from && start >= sub(s.started, id.Length); start -= id.Length {
		slot := id
		slot.Start = start
		if _, err := s.counter(ctx, c, slot, add(start, id.Length), scale); err != nil {
			return err
		}
	}
	return nil
}
