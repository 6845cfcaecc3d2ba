package authority

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
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

// slotsMax bounds the slots of a rolling window, where a limit has no more of them.
const slotsMax = 1 << 16

// cut says whether a rolling limit can have slots of a length. They are its own, or those that it had in another catalog version.
func (l *rule) cut(length int64) bool {
	return length > 0 && length <= grid && l.Length/length <= max(slotsMax, l.Length/max(1, l.Slot))
}

// slots are the counters that count for one under its rolling limits, itself left out.
func (w *draw) slots(c *counter, limits []rule) (out []*counter) {
	if near, ok := w.near[c.id]; ok {
		return near
	}
	defer func() { w.near[c.id] = out }()
	for i := range limits {
		if limits[i].Kind != quota.Rolling || c.id.Length <= 0 {
			continue
		}
		slot := c.id
		for slot.Start = arith.Sub(c.id.Start, limits[i].Length); slot.Start <= arith.Add(c.id.Start, limits[i].Length); slot.Start = arith.Add(slot.Start, c.id.Length) {
			if o := w.c.counters[slot]; o != nil && o != c && !slices.Contains(out, o) {
				out = append(out, o)
			}
		}
	}
	return out
}

// uses is what each slot of a counter's family is charged with; the counter's own among them. Of several rolling limits on one
// counter each takes what counts for it.
func (w *draw) uses(i int, c *counter) []quota.SlotUse {
	others := w.slots(c, w.limits[i])
	out := make([]quota.SlotUse, 0, len(others)+1)
	out = append(out, quota.SlotUse{Start: c.id.Start, Used: c.total()})
	for _, o := range others {
		out = append(out, quota.SlotUse{Start: o.id.Start, Used: o.total()})
	}
	return out
}

// family takes up all slots that count for one, and reads again what was reported in them.
func (w *draw) family(ctx context.Context, id counterID, l *rule) error {
	s, c, scale := w.s, w.c, w.rules.scale(id.Meter)
	from, to := arith.Sub(id.Start, l.Length), arith.Add(arith.Add(id.Start, l.Length), id.Length)
	if !id.durable() {
		return w.familyShort(ctx, id, l)
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
				ctr := &counter{id: slot, end: arith.Add(start, id.Length), used: s.cfg.Mono()}
				ctr.fill(rows)
				c.counters[slot] = ctr
			}
		}
		c.families[key] = &family{from: from}
	}
	f := c.families[key]
	if id.Scope != "" || w.fresh[key] || f.read && s.cfg.Mono()-f.readAt < rereadAfter && !w.refreshes() {
		return nil
	}
	w.fresh[key], f.read, f.readAt = true, true, s.cfg.Mono()
	return s.reread(ctx, c, id, from, to, scale)
}

// family is the slots of one rolling window. Slots from an instant on were looked for in the records.
type family struct {
	from   int64
	read   bool
	readAt time.Duration // monotonic, of the last look into the journal
}

// rereadAfter is how long what the journal says of a rolling window's slots is good enough: there are up to thousands of them.
const rereadAfter = 200 * time.Millisecond

// refreshes says that the holder only asks how things stand, as after usage was reported.
func (w *draw) refreshes() bool {
	return !slices.ContainsFunc(w.Asks, func(a Ask) bool { return a.Need > 0 })
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
		slots[start] = use{arith.Add(u.used, arith.Scaled(windows[i].Sum, scale)), arith.Add(u.reported, max(0, arith.Scaled(windows[i].Reported, scale)))}
	}
	for start, u := range slots {
		slot := id
		slot.Start = start
		ctr := c.counters[slot]
		if ctr == nil {
			ctr = &counter{id: slot, end: arith.Add(start, id.Length), used: s.cfg.Mono()}
			ctr.unleased = max(0, arith.Sub(u.used, u.reported))
			c.counters[slot] = ctr
		} else if !ctr.begun {
			leased := arith.Sub(ctr.total(), arith.Add(ctr.reported, ctr.unleased))
			ctr.unleased = max(0, arith.Sub(arith.Sub(u.used, u.reported), leased))
		}
		ctr.begun, ctr.reported = true, u.reported
	}
	return nil
}

// familyShort takes up the slot that stands for what was used before this start, in a window that lives in memory.
func (w *draw) familyShort(ctx context.Context, id counterID, l *rule) error {
	slot := id
	slot.Start, _, _ = l.WindowAt(w.s.before())
	if slot.Start >= id.Start || !l.Counts(slot.Start, id.Start) {
		return nil
	}
	_, err := w.s.counter(ctx, w.c, slot, arith.Add(slot.Start, id.Length), w.rules.scale(id.Meter), l.Length)
	return err
}

// clears is when a cost fits that does not now, when nothing else is used until then; 0 for never.
func (l *rule) clears(uses []quota.SlotUse, cost, at int64) int64 {
	slot, _, ok := l.WindowAt(at)
	free := arith.Add(l.Quota, l.Extra)
	if !ok || cost > free {
		return 0
	}
	slices.SortFunc(uses, func(a, b quota.SlotUse) int { return cmp.Compare(a.Start, b.Start) })
	uses = slices.DeleteFunc(uses, func(u quota.SlotUse) bool { return u.Start < arith.Sub(slot, l.Length) })
	for _, u := range uses {
		free = arith.Sub(free, u.Used)
	}
	clears := at
	for _, u := range uses {
		if free >= cost {
			break
		}
		free, clears = arith.Add(free, u.Used), arith.Add(u.Start, arith.Add(l.Length, l.Slot))
	}
	return clears
}
