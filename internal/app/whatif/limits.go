package whatif

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// Refusal is what one limit would have refused of recorded usage in some windows, and the other catalog's limits would not.
type Refusal struct {
	Customer, Plan, Limit, Meter string        // keys
	Windows                      int           // in which the limit would have been passed
	Over                         money.Decimal // units above it, in all of them
	First                        time.Time     // start of the first such window
}

// limits compares what both catalogs would have refused of one customer's recorded usage. Only what was admitted is recorded: a
// higher limit might have admitted more.
func (s *Service) limits(ctx context.Context, out *Report, notes map[string]bool, c account.Customer, proposed *catalog.Compiled) error {
	sub, ok := s.cfg.Directory.ActiveSubscription(c.ID, out.Span.End)
	if !ok {
		return nil
	}
	for _, m := range proposed.Meters {
		before, err := s.passed(ctx, c, sub, s.cfg.Directory.Current(), m.Key, out.Span, nil)
		if err != nil {
			return err
		}
		after, err := s.passed(ctx, c, sub, proposed, m.Key, out.Span, notes)
		if err != nil {
			return err
		}
		out.Refused = append(out.Refused, without(after, before)...)
		out.Relieved = append(out.Relieved, without(before, after)...)
	}
	return nil
}

// without leaves what the other catalog does not refuse as much of: by the units of all its limits on the meter.
func without(list, other []Refusal) []Refusal {
	var most money.Decimal
	for _, r := range other {
		if r.Over.Cmp(most) > 0 {
			most = r.Over
		}
	}
	return slices.DeleteFunc(list, func(r Refusal) bool { return r.Over.Cmp(most) <= 0 })
}

// passed are the limits of a catalog on one meter that recorded usage would have passed.
func (s *Service) passed(ctx context.Context, c account.Customer, sub account.Subscription, of *catalog.Compiled, meterKey string, in period.Interval, notes map[string]bool) ([]Refusal, error) {
	var list []Refusal
	for _, b := range of.Bounds(sub.Plan, meterKey) {
		if why := unreplayed(&b); why != "" {
			if notes != nil {
				notes[fmt.Sprintf("%s.%s: %s", sub.Plan, b.Limit.Key, why)] = true
			}
			continue
		}
		meter, _ := of.Meter(meterKey)
		r, err := s.refusal(ctx, c, sub, &b, meter, in)
		if err != nil {
			return nil, fmt.Errorf("customer %s, limit %s: %w", c.Key, b.Limit.Key, err)
		}
		if r.Windows > 0 {
			list = append(list, r)
		}
	}
	return list, nil
}

// unreplayed says why a limit cannot be replayed from what the journal keeps by quarters of an hour; empty: it can.
func unreplayed(b *catalog.Bound) string {
	l := &b.Limit
	switch {
	case l.Mode == quota.Soft || l.Mode == quota.Shadow:
		return "it refuses nothing"
	case l.Kind == quota.TokenBucket || l.Kind == quota.Concurrency:
		return "usage is kept by quarters of an hour, and it looks at shorter times"
	case l.Kind == quota.SpendCap || l.Kind == quota.Credits:
		return "caps and credits are not replayed"
	case len(b.Declared.Per) > 0 || len(b.Routes) > 0:
		return "usage is kept by customer, and it counts for parts of one"
	case l.Length != 0 && (l.Length%period.BucketLength.Microseconds() != 0 || l.Slot%period.BucketLength.Microseconds() != 0):
		return "its window is no multiple of a quarter of an hour"
	}
	return ""
}

// refusal measures one limit against recorded usage.
func (s *Service) refusal(ctx context.Context, c account.Customer, sub account.Subscription, b *catalog.Bound, m catalog.Meter, in period.Interval) (Refusal, error) {
	r := Refusal{Customer: c.Key, Plan: sub.Plan, Limit: b.Limit.Key, Meter: m.Key}
	ceiling, err := money.FromScaled(b.Limit.Quota, m.Scale).Add(money.FromScaled(b.Limit.Extra, m.Scale))
	if err != nil {
		return r, err
	}
	from := in.Start
	windowOf := func(t time.Time) (period.Interval, bool) {
		return b.Limit.Window.Containing(t, c.Zone, sub.Anchor(c.Zone))
	}
	if b.Limit.Length != 0 {
		windowOf = fixed(b.Limit.Length)
	}
	if first, ok := windowOf(in.Start); ok && first.Start.Before(from) {
		from = first.Start
	}
	if b.Limit.Kind == quota.Rolling {
		from = in.Start.Add(-time.Duration(b.Limit.Length) * time.Microsecond)
	}
	var buckets []store.Window
	err = s.cfg.Journal.View(ctx, func(v store.View) (err error) {
		buckets, err = v.Windows(store.SeriesKey{CustomerID: c.ID, Meter: m.Key}, period.Interval{Start: period.BucketStart(from), End: in.End})
		return err
	})
	if err != nil {
		return r, err
	}
	if b.Limit.Kind == quota.Rolling {
		return rolling(r, buckets, time.Duration(b.Limit.Length)*time.Microsecond, ceiling, in.Start)
	}
	return windows(r, buckets, windowOf, ceiling, in.Start)
}

// fixed places windows of one length, one after the other from 1970 on.
func fixed(length int64) func(time.Time) (period.Interval, bool) {
	return func(t time.Time) (period.Interval, bool) {
		at := t.UnixMicro()
		start := at - at%length
		return period.Interval{Start: time.UnixMicro(start).UTC(), End: time.UnixMicro(start + length).UTC()}, true
	}
}

// windows adds buckets up by window.
func windows(r Refusal, buckets []store.Window, windowOf func(time.Time) (period.Interval, bool), ceiling money.Decimal, since time.Time) (Refusal, error) {
	for len(buckets) > 0 {
		in, ok := windowOf(buckets[0].Start)
		if !ok {
			buckets = buckets[1:]
			continue
		}
		var sum money.Decimal
		for len(buckets) > 0 && in.Contains(buckets[0].Start) {
			var err error
			if sum, err = sum.Add(buckets[0].Sum); err != nil {
				return r, err
			}
			buckets = buckets[1:]
		}
		if !in.End.After(since) {
			continue
		}
		if err := r.add(in.Start, sum, ceiling); err != nil {
			return r, err
		}
	}
	return r, nil
}

// rolling looks at each bucket's end: what the last length consumed. What is above is counted once, where it came in.
func rolling(r Refusal, buckets []store.Window, length time.Duration, ceiling money.Decimal, since time.Time) (Refusal, error) {
	var sum money.Decimal
	first := 0
	for _, b := range buckets {
		var err error
		if sum, err = sum.Add(b.Sum); err != nil {
			return r, err
		}
		for b.End.Sub(buckets[first].Start) > length {
			if sum, err = sum.Sub(buckets[first].Sum); err != nil {
				return r, err
			}
			first++
		}
		if b.Start.Before(since) {
			continue
		}
		over, err := sum.Sub(ceiling)
		if err != nil {
			return r, err
		}
		if over.Sign() <= 0 {
			continue
		}
		if over.Cmp(b.Sum) > 0 {
			over = b.Sum
		}
		if err := r.count(b.Start, over); err != nil {
			return r, err
		}
	}
	return r, nil
}

// add counts a window's consumption above the ceiling.
func (r *Refusal) add(start time.Time, sum, ceiling money.Decimal) error {
	over, err := sum.Sub(ceiling)
	if err != nil || over.Sign() <= 0 {
		return err
	}
	return r.count(start, over)
}

func (r *Refusal) count(start time.Time, over money.Decimal) (err error) {
	r.Over, err = r.Over.Add(over)
	r.Windows++
	if r.First.IsZero() || cmp.Compare(start.UnixMicro(), r.First.UnixMicro()) < 0 {
		r.First = start
	}
	return err
}
