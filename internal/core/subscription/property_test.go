package subscription_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

var plans = world()

func drawZone(r *rapid.T) period.Zone {
	return period.MustZone(rapid.SampledFrom([]string{"UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu"}).Draw(r, "zone"))
}

// drawTime prefers the same few instants, so that changes meet.
func drawTime(r *rapid.T, from time.Time, name string) time.Time {
	day := time.Duration(rapid.IntRange(0, 120).Draw(r, name)) * 24 * time.Hour
	return from.Add(day + rapid.SampledFrom([]time.Duration{0, 0, 90 * time.Minute, 7*time.Hour + 1001*time.Microsecond}).Draw(r, name+" time"))
}

// drawHistory is one whose changes can all be.
func drawHistory(r *rapid.T, zone period.Zone) subscription.History {
	start := drawTime(r, rapid.SampledFrom([]time.Time{at("2026-01-31"), at("2027-12-30"), at("2028-02-29"), at("2026-10-20")}).Draw(r, "year"), "start")
	_, _, day := zone.Date(start)
	plan := rapid.SampledFrom([]string{"pro", "max", "days", "free", "calendar", "trial", "fees"}).Draw(r, "plan")
	h := subscription.History{Subscription: account.Subscription{Plan: plan, CatalogVersion: 1, Start: start, BillingDay: day}}
	for i := range rapid.IntRange(0, 8).Draw(r, "changes") {
		c := drawChange(r, start)
		c.ID, c.CreatedAt = fmt.Sprintf("sch_%d", i), start.Add(time.Duration(i)*time.Microsecond-time.Hour)
		next := h
		next.Changes = append(slices.Clone(h.Changes), c)
		if _, err := next.Segments(zone, plans); err == nil {
			h = next
		} else if !errors.Is(err, subscription.ErrInvalid) {
			r.Fatalf("change %+v: %v", c, err)
		}
	}
	return h
}

func drawChange(r *rapid.T, start time.Time) subscription.Change {
	c := subscription.Change{At: drawTime(r, start, "at"), Version: rapid.Int64Range(1, 2).Draw(r, "version")}
	c.Kind = rapid.SampledFrom([]subscription.Kind{
		subscription.ToPlan, subscription.ToPlan, subscription.ToPrices, subscription.Quantity, subscription.Quantity, subscription.SetAddOn,
		subscription.Pause, subscription.Resume, subscription.Trial, subscription.Cancel, subscription.Revive,
	}).Draw(r, "kind")
	c.Plan = rapid.SampledFrom([]string{"pro", "max", "days", "free", "calendar", "yearly", "fees"}).Draw(r, "to plan")
	c.Key = "seats"
	if c.Kind == subscription.SetAddOn {
		c.Key = "support"
	}
	c.Quantity = money.FromInt(rapid.Int64Range(0, 3).Draw(r, "quantity"))
	c.Until = drawTime(r, c.At, "until")
	c.Now = rapid.Bool().Draw(r, "now")
	return c
}

func year(h subscription.History) period.Interval {
	return period.Interval{Start: h.Start, End: h.Start.AddDate(1, 0, 0)}
}

func charges(r *rapid.T, h subscription.History, zone period.Zone) ([]subscription.Segment, []subscription.Charge) {
	list, err := h.Segments(zone, plans)
	if err != nil {
		r.Fatal(err)
	}
	out, err := subscription.Charges(list, zone, plans, year(h))
	if err != nil {
		r.Fatal(err)
	}
	return list, out
}

// TestSegmentsTile: no gaps, nothing empty, no two neighbours alike; and closings cover the same time.
func TestSegmentsTile(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		zone := drawZone(r)
		h := drawHistory(r, zone)
		list, _ := charges(r, h, zone)
		next := h.Start
		for i, g := range list {
			if !g.Start.Equal(next) || g.Empty() || g.Anchor.Start.After(g.Start) || (g.End.IsZero() && i != len(list)-1) {
				r.Fatalf("segment %d is %+v, after %v", i, g, next)
			}
			next = g.End
			twin := g
			if i > 0 {
				twin.Interval, twin.Now = list[i-1].Interval, list[i-1].Now
				if reflect.DeepEqual(twin, list[i-1]) {
					r.Fatalf("segments %d and %d are alike", i-1, i)
				}
			}
		}
		if len(list) == 0 {
			return
		}
		next = h.Start
		for _, c := range subscription.Closings(list, time.Time{}, h.Start.AddDate(1, 0, 0), 1000) {
			if c.Empty() {
				continue
			}
			if !c.Start.Equal(next) {
				r.Fatalf("closing %v after %v", c, next)
			}
			next = c.End
		}
	})
}

// TestClosingsResume: asking in pieces gives the same as asking at once.
func TestClosingsResume(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		zone := drawZone(r)
		h := drawHistory(r, zone)
		list, _ := charges(r, h, zone)
		until, after := h.Start.AddDate(1, 0, 0), time.Time{}
		all := subscription.Closings(list, time.Time{}, until, 1000)
		var pieces []period.Interval
		for {
			some := subscription.Closings(list, after, until, 3)
			if len(some) == 0 {
				break
			}
			pieces = append(pieces, some...)
			after = some[len(some)-1].End
		}
		if !reflect.DeepEqual(all, pieces) {
			r.Fatalf("at once %v, in pieces %v", all, pieces)
		}
	})
}

// TestChargesCoverWhatIsInForce compares with the state at single instants.
func TestChargesCoverWhatIsInForce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		zone := drawZone(r)
		h := drawHistory(r, zone)
		list, all := charges(r, h, zone)
		when := drawTime(r, h.Start, "instant")
		i := slices.IndexFunc(list, func(g subscription.Segment) bool { return g.Contains(when) })
		want := map[string]string{}
		if i >= 0 && !list[i].Paused && !list[i].Trial {
			plan, _ := plans.Plan(list[i].Version, list[i].Plan)
			for _, p := range plan.Prices {
				want[p.Key] = ""
				if p.Licensed() {
					want[p.Key] = list[i].Quantities[p.Key].String()
				}
			}
			for _, a := range list[i].AddOns {
				want["desk"], want["tokens"] = a.Quantity.String(), ""
			}
		}
		got := map[string]string{}
		for _, c := range all {
			if !c.Service.Contains(when) || c.Price.Prorate == price.ProrateNone {
				continue
			}
			if _, twice := got[c.Price.Key]; twice {
				r.Fatalf("%s is charged twice at %v:\n%s", c.Price.Key, when, text(all))
			}
			got[c.Price.Key] = ""
			if c.Price.Licensed() {
				got[c.Price.Key] = c.Quantity.String()
			}
		}
		maps.DeleteFunc(want, func(key, _ string) bool {
			return key == "fee" || key == "late" || list[i].Plan == "fees" && key == "seats"
		})
		if !maps.Equal(got, want) {
			r.Fatalf("at %v charged %v, in force %v:\n%s", when, got, want, text(all))
		}
	})
}

// TestRatiosAddUp: the parts of a period are the share that passed of it, never more than the whole; in a whole one without
// pause they are 1.
func TestRatiosAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		zone := drawZone(r)
		h := drawHistory(r, zone)
		_, all := charges(r, h, zone)
		type period struct {
			key   string
			start time.Time
		}
		sums, lasts := map[period]money.Rational{}, map[period]time.Duration{}
		whole := map[period]subscription.Charge{}
		one := money.FromInt(1).Rational()
		for _, c := range all {
			if !c.Price.Licensed() || c.Price.Prorate == price.ProrateNone {
				continue
			}
			k := period{c.Price.Key + "/" + c.AddOn + "/" + fmt.Sprint(c.Price.Prorate) + c.Price.Every.String(), c.Period.Start}
			sum, err := sums[k].Add(c.Ratio)
			if err != nil || sum.Cmp(one) > 0 || c.Ratio.Sign() < 0 {
				r.Fatalf("ratios of %v are %v, %v:\n%s", k, sum, err, text(all))
			}
			sums[k], whole[k] = sum, c
			lasts[k] += c.Service.End.Sub(c.Service.Start)
		}
		for k, sum := range sums {
			c := whole[k]
			full := c.Full.End.Sub(c.Full.Start)
			if lasts[k] == full && sum.Cmp(one) != 0 {
				r.Fatalf("%v is charged for whole, and %s of it:\n%s", k, sum, text(all))
			}
			share, err := money.NewRational(money.FromInt(lasts[k].Microseconds()), money.FromInt(full.Microseconds()))
			if err != nil || c.Price.Prorate == price.ProrateSeconds && share.Cmp(sum) != 0 {
				r.Fatalf("%v lasts %s and is charged %s:\n%s", k, share, sum, text(all))
			}
		}
	})
}

// TestNothingChangesNothing: a change to what is already so, and one taken back at its instant, leave all charges as they are.
func TestNothingChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		zone := drawZone(r)
		h := drawHistory(r, zone)
		segments, before := charges(r, h, zone)
		if len(segments) == 0 {
			return
		}
		g := rapid.SampledFrom(segments).Draw(r, "segment")
		when := drawTime(r, g.Start, "no-op")
		if !g.Contains(when) {
			when = g.Start
		}
		if i := slices.IndexFunc(h.Changes, func(c subscription.Change) bool { return c.At.Equal(when) && c.Kind == subscription.Pause }); i >= 0 {
			return
		}
		add := func(id string, c subscription.Change) {
			c.ID, c.At, c.CreatedAt = id, when, h.Start.Add(time.Hour)
			h.Changes = append(h.Changes, c)
		}
		if rapid.Bool().Draw(r, "there and back") && len(g.AddOns) == 0 {
			add("sch_x", subscription.Change{Kind: subscription.ToPlan, Plan: "yearly", Version: 1})
		}
		add("sch_y", subscription.Change{Kind: subscription.ToPlan, Plan: g.Plan, Version: g.Version})
		again, after := charges(r, h, zone)
		if !reflect.DeepEqual(bare(segments), bare(again)) || text(before) != text(after) {
			r.Fatalf("before\n%safter\n%s", text(before), text(after))
		}
	})
}

// bare is without what is only said to the one who bills.
func bare(list []subscription.Segment) []subscription.Segment {
	out := slices.Clone(list)
	for i := range out {
		out[i].Now = false
	}
	return out
}

// TestPositions: where usage of a period is split, there is one first part and one last.
func TestPositions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		zone := drawZone(r)
		h := drawHistory(r, zone)
		_, all := charges(r, h, zone)
		type split struct {
			meter string
			start time.Time
		}
		found := map[split][]subscription.Charge{}
		for _, c := range all {
			if !c.Price.Licensed() {
				k := split{c.Price.Meter, c.Period.Start}
				found[k] = append(found[k], c)
			}
		}
		for k, parts := range found {
			slices.SortFunc(parts, func(a, b subscription.Charge) int { return a.Service.Start.Compare(b.Service.Start) })
			for i, c := range parts {
				want := price.Middle
				switch {
				case len(parts) == 1:
					want = price.Single
				case i == 0:
					want = price.First
				case i == len(parts)-1:
					want = price.Last
				}
				if c.Position != want {
					r.Fatalf("part %d of %v has position %d, want %d:\n%s", i, k, c.Position, want, text(all))
				}
			}
		}
	})
}

// TestChargesInAnyWindow: what is listed for a part of the time is what is listed for all of it, in periods that overlap.
func TestChargesInAnyWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		zone := drawZone(r)
		h := drawHistory(r, zone)
		list, all := charges(r, h, zone)
		in := period.Interval{Start: drawTime(r, h.Start, "from")}
		in.End = drawTime(r, in.Start, "to")
		got, err := subscription.Charges(list, zone, plans, in)
		if err != nil {
			r.Fatal(err)
		}
		var want []subscription.Charge
		for _, c := range all {
			if c.Period.Contains(in.Start) || c.Period.Start.After(in.Start) && c.Period.Start.Before(in.End) {
				want = append(want, c)
			}
		}
		if text(got) != text(want) {
			r.Fatalf("in %v\n%swant\n%s", in, text(got), text(want))
		}
	})
}
