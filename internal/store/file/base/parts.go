package base

import (
	"encoding/binary"
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// dayMicros is the span of one row of buckets.
const dayMicros = 96 * meter.BucketMicros

// Part is the state of one bucket: a 15-minute span, or what cuts made of it.
type Part struct {
	Start            int64
	Rollup           meter.Rollup
	Reported, Voided money.Decimal // tallied apart from the rollup
	Last             uint64        // position of the newest record that contributed
	Revised          bool          // a revision did
	Gone             bool          // a cut has left nothing of it
}

const (
	partOffGrid = 1 << iota
	partRevised
	partSumIsCount
	partReported // Rollup.Reported is not 0
	partTally    // Reported is not Rollup.Reported
	partVoided
)

func appendPart(dst []byte, day int64, p *Part) []byte {
	var flags byte
	offset := p.Start - day
	set := func(f byte, on bool) {
		if on {
			flags |= f
		}
	}
	set(partOffGrid, offset%meter.BucketMicros != 0)
	set(partRevised, p.Revised)
	set(partSumIsCount, p.Rollup.Sum.Equal(money.FromInt(p.Rollup.Count)))
	set(partReported, !p.Rollup.Reported.IsZero())
	set(partTally, !p.Reported.Equal(p.Rollup.Reported))
	set(partVoided, !p.Voided.IsZero())
	if flags&partOffGrid == 0 {
		offset /= meter.BucketMicros
	}
	dst = binary.AppendUvarint(append(dst, flags), uint64(offset))
	dst = binary.AppendUvarint(appendInt(dst, p.Rollup.Count), p.Last)
	for _, one := range []struct {
		on bool
		d  money.Decimal
	}{
		{flags&partSumIsCount == 0, p.Rollup.Sum},
		{flags&partReported != 0, p.Rollup.Reported},
		{flags&partTally != 0, p.Reported},
		{flags&partVoided != 0, p.Voided},
	} {
		if one.on {
			dst = appendDecimal(dst, one.d)
		}
	}
	return dst
}

func (d *decoder) part(p *Part, day int64) {
	flags := d.byte()
	offset := int64(d.uint())
	if flags&partOffGrid == 0 {
		offset *= meter.BucketMicros
	}
	*p = Part{Start: day + offset, Revised: flags&partRevised != 0}
	p.Rollup.Count, p.Last = d.int(), d.uint()
	if flags&partSumIsCount == 0 {
		p.Rollup.Sum = d.decimal()
	} else {
		p.Rollup.Sum = money.FromInt(p.Rollup.Count)
	}
	if flags&partReported != 0 {
		p.Rollup.Reported = d.decimal()
	}
	p.Reported = p.Rollup.Reported
	if flags&partTally != 0 {
		p.Reported = d.decimal()
	}
	if flags&partVoided != 0 {
		p.Voided = d.decimal()
	}
}

func dayKey(dst []byte, series uint32, day int64) []byte {
	return instantKey(seriesKey(dst, keyDay, series), day)
}

// Parts calls do with a series' buckets that start in [from, to), in time order, until it says no. A bucket is good until do
// returns.
func (r *Reader) Parts(series uint32, from, to int64, do func(p *Part) (bool, error)) error {
	if from >= to {
		return nil
	}
	var low, high [16]byte
	var p Part // for all of them
	return r.each(dayKey(low[:0], series, dayOf(from)), dayEnd(high[:0], series, to), func(key, value []byte) (bool, error) {
		d := decoder{b: value}
		for day := keyInstant(key[5:]); len(d.b) > 0; {
			d.part(&p, day)
			if d.bad {
				return false, errValue
			}
			if p.Start < from || p.Start >= to {
				continue
			}
			if more, err := do(&p); err != nil || !more {
				return false, err
			}
		}
		return true, nil
	})
}

// dayOf is the start of the day that holds t, or as early as instants go.
func dayOf(t int64) int64 {
	if t < -1<<63+dayMicros {
		return -1 << 63
	}
	r := t % dayMicros
	if r < 0 {
		r += dayMicros
	}
	return t - r
}

// dayEnd is the key below which rows begin before t.
func dayEnd(dst []byte, series uint32, t int64) []byte { return dayKey(dst, series, t) }

// PartsBack is Parts in the other direction.
func (r *Reader) PartsBack(series uint32, from, to int64, do func(p *Part) (bool, error)) error {
	if from >= to {
		return nil
	}
	var low, high [16]byte
	var row []Part
	return r.back(dayKey(low[:0], series, dayOf(from)), dayEnd(high[:0], series, to), func(key, value []byte) (bool, error) {
		d := decoder{b: value}
		row = row[:0]
		for day := keyInstant(key[5:]); len(d.b) > 0 && !d.bad; {
			row = append(row, Part{})
			d.part(&row[len(row)-1], day)
		}
		if d.bad {
			return false, errValue
		}
		for i := range slices.Backward(row) {
			if row[i].Start < from || row[i].Start >= to {
				continue
			}
			if more, err := do(&row[i]); err != nil || !more {
				return false, err
			}
		}
		return true, nil
	})
}

// Part reads one bucket.
func (r *Reader) Part(series uint32, start int64) (p Part, ok bool, err error) {
	var room [16]byte
	day := dayOf(start)
	value, ok, err := r.get(dayKey(room[:0], series, day))
	if err != nil || !ok {
		return Part{Start: start}, false, err
	}
	for d := (decoder{b: value}); len(d.b) > 0; {
		if d.part(&p, day); d.bad {
			return p, false, r.s.fault("read", errValue)
		}
		if p.Start == start {
			return p, true, nil
		}
	}
	return Part{Start: start}, false, nil
}
