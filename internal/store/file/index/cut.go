package index

import (
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

// MaxCuts bounds the cuts of all customers.
const MaxCuts = 1 << 20

// Cut is a cut that was computed and not made yet.
type Cut struct {
	customer string
	at       int64
	splits   []split
}

// split is one bucket taken apart at a cut. What contributed stays where it is: it is told apart by its time.
type split struct {
	series      *series
	left, right base.Part
}

// Apart says whether buckets of the customer are told apart at an instant already.
func (x *Index) Apart(customerID string, at int64) bool { return x.customers[customerID].boundary(at) }

// Split computes how a cut takes a customer's buckets apart. store.ErrFull beyond MaxCuts.
func (g *Group) Split(customerID string, at int64) (Cut, error) {
	x := g.index
	cut := Cut{customer: customerID, at: at}
	if x.counts.Cuts >= MaxCuts {
		return cut, fmt.Errorf("the index holds its limit of %d cuts: %w", MaxCuts, store.ErrFull)
	}
	c := x.customers[customerID]
	if c == nil {
		return cut, nil
	}
	start := c.start(at)
	for _, s := range c.series {
		whole, err := x.part(g.read(), s, start)
		if err != nil {
			return cut, err
		}
		if whole.Last == 0 {
			continue
		}
		sp := split{series: s, left: base.Part{Start: start}, right: base.Part{Start: at}}
		add := func(c *base.Contribution) (bool, error) {
			side := &sp.left
			if c.Time >= at {
				side = &sp.right
			}
			return true, fold(side, c)
		}
		end := c.end(start)
		if err := x.own(g.read(), s, start, end, 0, add); err != nil {
			return cut, err
		}
		if err := x.later(g.read(), s, start, end, 0, add); err != nil {
			return cut, err
		}
		if !sp.addsUp(&whole) {
			return cut, fmt.Errorf("the events of meter %s at %s do not add up to their rollup: %w", s.key.Meter,
				period.Format(time.UnixMicro(start)), store.ErrCorrupt)
		}
		cut.splits = append(cut.splits, sp)
	}
	return cut, nil
}

// addsUp says whether the parts make the bucket that they replace.
func (sp *split) addsUp(whole *base.Part) bool {
	sum, err := sp.left.Rollup.Merge(sp.right.Rollup)
	reported, err1 := sp.left.Reported.Add(sp.right.Reported)
	voided, err2 := sp.left.Voided.Add(sp.right.Voided)
	return err == nil && err1 == nil && err2 == nil && sum.Sum.Equal(whole.Rollup.Sum) && sum.Count == whole.Rollup.Count &&
		reported.Equal(whole.Reported) && voided.Equal(whole.Voided)
}

// Cut makes a cut part of the index, with its group; its record is durable.
func (x *Index) Cut(cut Cut, g *Group) {
	x.Apply(g)
	if x.makeCustomer(cut.customer).addCut(cut.at) {
		x.counts.Cuts++
		x.active.cuts = append(x.active.cuts, cutAt{cut.customer, cut.at})
	}
	for i := range cut.splits {
		sp := &cut.splits[i]
		s, l := sp.series, x.touch(sp.series)
		if sp.right.Last > 0 {
			l.put(&x.active.rooms, &sp.right)
			s.reach(sp.right.Start)
			x.counts.Buckets++
		}
		if sp.left.Last == 0 { // all of it lies behind the cut
			sp.left.Gone = true
			x.counts.Buckets--
			if s.first == sp.left.Start {
				s.first = sp.right.Start
			}
		}
		l.put(&x.active.rooms, &sp.left)
	}
}
