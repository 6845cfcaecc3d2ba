package base

import (
	"encoding/binary"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// Contribution is what one record adds to a series, or takes from it.
type Contribution struct {
	Cause  uint64 // position of the record: the event's own, or its revision's
	Event  uint64 // position
	Time   int64  // of the event, UTC microseconds since 1970
	Value  money.Decimal
	Traits *Traits // nil: none
	Origin meter.Origin
	Taken  bool
}

// Traits are what usage can be grouped by. They are shared: nobody writes to them.
type Traits struct {
	Dimensions []meter.Dimension
	Distinct   string
	Bytes      int // that all of it takes, where it is new; 0: it was read
}

// Signed is the value as it counts.
func (c *Contribution) Signed() money.Decimal {
	if c.Taken {
		return c.Value.Neg()
	}
	return c.Value
}

// Reported says whether it counts for the tally of what did not come from a gateway's running total.
func (c *Contribution) Reported() bool {
	return !c.Taken && (c.Origin == meter.Reported || c.Cause != c.Event)
}

const (
	contributionTraits   = 1 << iota // in the value's first byte
	contributionOne                  // the value is 1
	contributionReported             // origin
)

func ownKey(dst []byte, series uint32, grid int64, event uint64) []byte {
	return binary.BigEndian.AppendUint64(instantKey(seriesKey(dst, keyOwn, series), grid), event)
}

// laterKey puts what a revision takes before what it adds.
func laterKey(dst []byte, series uint32, grid int64, c *Contribution) []byte {
	dst = instantKey(seriesKey(dst, keyLater, series), grid)
	dst = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, c.Cause), c.Event)
	if c.Taken {
		return append(dst, 0)
	}
	return append(dst, 1)
}

func appendContribution(dst []byte, grid int64, c *Contribution) []byte {
	var flags byte
	one := c.Value.Equal(money.FromInt(1))
	if one {
		flags |= contributionOne
	}
	if c.Traits != nil {
		flags |= contributionTraits
	}
	if c.Origin == meter.Reported {
		flags |= contributionReported
	}
	dst = binary.AppendUvarint(append(dst, flags), uint64(c.Time-grid))
	if !one {
		dst = appendDecimal(dst, c.Value)
	}
	if c.Traits != nil {
		dst = appendText(dst, c.Traits.Distinct)
		for _, d := range c.Traits.Dimensions {
			dst = appendText(appendText(dst, d.Name), d.Value)
		}
	}
	return dst
}

func (r *Reader) contribution(c *Contribution, grid int64, value []byte, shared map[string]*Traits) error {
	d := decoder{b: value}
	flags := d.byte()
	c.Time = grid + int64(d.uint())
	c.Value, c.Origin, c.Traits = money.FromInt(1), meter.Admitted, nil
	if flags&contributionOne == 0 {
		c.Value = d.decimal()
	}
	if flags&contributionReported != 0 {
		c.Origin = meter.Reported
	}
	if flags&contributionTraits != 0 {
		if c.Traits = shared[string(d.b)]; c.Traits != nil {
			return nil
		}
		key := string(d.b)
		t := &Traits{Distinct: string(d.bytes())}
		for len(d.b) > 0 {
			t.Dimensions = append(t.Dimensions, meter.Dimension{Name: string(d.bytes()), Value: string(d.bytes())})
		}
		if !d.bad && len(shared) < maxShared {
			shared[key] = t
		}
		c.Traits = t
	}
	return d.err()
}

// maxShared bounds the traits that one reading shares.
const maxShared = 1 << 14

// Own calls do with what events brought themselves to a series, of the grid points in [from, to), by grid point and event.
// Of the first grid point only events behind a position come. What lies behind upTo is left out.
func (r *Reader) Own(series uint32, from, to int64, after, upTo uint64, do func(c *Contribution) (bool, error)) error {
	var low, high [32]byte
	shared := map[string]*Traits{}
	var c Contribution
	return r.each(ownKey(low[:0], series, from, after+1), ownKey(high[:0], series, to, 0), func(key, value []byte) (bool, error) {
		c.Event = binary.BigEndian.Uint64(key[13:])
		if c.Event > upTo {
			return true, nil
		}
		c.Cause = c.Event
		if err := r.contribution(&c, keyInstant(key[5:]), value, shared); err != nil {
			return false, err
		}
		return do(&c)
	})
}

// Later is Own for what revisions changed, by grid point and revision; of the first grid point only revisions behind a position.
func (r *Reader) Later(series uint32, from, to int64, after, upTo uint64, do func(c *Contribution) (bool, error)) error {
	var low, high [32]byte
	shared := map[string]*Traits{}
	var c Contribution
	return r.each(laterKey(low[:0], series, from, &Contribution{Cause: after + 1, Taken: true}),
		laterKey(high[:0], series, to, &Contribution{Taken: true}), func(key, value []byte) (bool, error) {
			c.Cause, c.Event = binary.BigEndian.Uint64(key[13:]), binary.BigEndian.Uint64(key[21:])
			if c.Cause > upTo {
				return true, nil
			}
			c.Taken = key[29] == 0
			if err := r.contribution(&c, keyInstant(key[5:]), value, shared); err != nil {
				return false, err
			}
			return do(&c)
		})
}
