package index

import (
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// MaxCuts bounds the cuts of all customers.
const MaxCuts = 1 << 20

// Cut is a cut that was computed and not made yet.
type Cut struct {
	customer string
	at       int64
	splits   []split
}

// split is one bucket taken apart at a cut.
type split struct {
	series      *series
	bucket      *bucket
	left, right part
}

// part is one side of a split.
type part struct {
	bucket bucket
	tally  tally
}

// Apart says whether buckets of the customer are told apart at an instant already.
func (x *Index) Apart(customerID string, at int64) bool { return x.customers[customerID].boundary(at) }

// Split computes how a cut takes a customer's buckets apart. store.ErrFull beyond MaxCuts.
func (x *Index) Split(customerID string, at int64) (Cut, error) {
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
		b := s.find(start)
		if b == nil {
			continue
		}
		sp := split{series: s, bucket: b}
		sp.left.bucket.start, sp.left.tally.start, sp.right.bucket.start, sp.right.tally.start = start, start, at, at
		for _, list := range [][]contribution{b.own, b.later} {
			for i := range list {
				side := &sp.left
				if list[i].time >= at {
					side = &sp.right
				}
				if err := side.add(&list[i]); err != nil {
					return cut, err
				}
			}
		}
		if !sp.addsUp() {
			return cut, fmt.Errorf("the events of meter %s at %s do not add up to their rollup: %w", s.key.Meter,
				period.Format(time.UnixMicro(start)), store.ErrCorrupt)
		}
		cut.splits = append(cut.splits, sp)
	}
	return cut, nil
}

func (p *part) add(c *contribution) (err error) {
	if c.cause == c.event {
		p.bucket.own = append(p.bucket.own, *c)
	} else {
		p.bucket.later = append(p.bucket.later, *c)
	}
	if p.bucket.rollup, err = folded(p.bucket.rollup, c); err != nil {
		return err
	}
	return p.tally.add(c)
}

// addsUp says whether the parts make the bucket and the tally that they replace.
func (sp *split) addsUp() bool {
	sum, err := sp.left.bucket.rollup.Merge(sp.right.bucket.rollup)
	if err != nil || sum.Sum.Cmp(sp.bucket.rollup.Sum) != 0 || sum.Count != sp.bucket.rollup.Count {
		return false
	}
	whole := sp.series.tally(sp.bucket.start)
	reported, err := sp.left.tally.reported.Add(sp.right.tally.reported)
	voided, err2 := sp.left.tally.voided.Add(sp.right.tally.voided)
	return err == nil && err2 == nil && reported.Cmp(whole.reported) == 0 && voided.Cmp(whole.voided) == 0
}

// Cut makes a cut part of the index; its record, at the position, is durable.
func (x *Index) Cut(cut Cut, position uint64) {
	c := x.makeCustomer(cut.customer)
	if i, ok := slices.BinarySearch(c.cuts, cut.at); !ok {
		c.cuts = slices.Insert(c.cuts, i, cut.at)
		x.counts.Cuts++
	}
	for i := range cut.splits {
		sp := &cut.splits[i]
		at, _ := slices.BinarySearchFunc(sp.series.buckets, sp.bucket.start, byStart)
		var parts []*bucket
		sp.series.setTally(sp.left.tally)
		for _, p := range []*part{&sp.left, &sp.right} {
			if len(p.bucket.own)+len(p.bucket.later) > 0 {
				parts = append(parts, &p.bucket)
				sp.series.setTally(p.tally)
			}
		}
		sp.series.buckets = slices.Replace(sp.series.buckets, at, at+1, parts...)
		x.counts.Buckets += len(parts) - 1
	}
	x.position = position
}

// Pass moves the position over a record that the index does not look at; it is durable.
func (x *Index) Pass(position uint64) { x.position = position }
