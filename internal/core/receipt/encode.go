package receipt

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/account"
)

// The binary form, version 1. Integers are zigzag varints unless a width is given, texts have their length before them.
//
//	version (1 byte), outcome<<1 | truncated (1)
//	node (2), epoch (4), sequence (6), big-endian
//	time, catalog version, customer id, key id, detail, customer, plan, route, meter, scale (1), cost
//	place of the deciding limit from 1, or 0 (1), number of limits (1), the limits, the deciding one first
//	number of plans (1), plan keys
//
// An id is its prefix code with the top bits set and its 16 bytes, or a text. A limit is kind<<4 | flags (unsigned varint),
// key, meter and scale (1) unless they are the receipt's, before, after−before, quota, and window start and reset as
// differences to time, where they are not 0. Each receipt has one form only; Decode refuses others.
const (
	version1    = 1
	headerLen   = 2 + 12
	textMax     = 64 // the user's keys are not longer
	routeMax    = 96
	detailMax   = 16
	otherIDMax  = 32 // an id that is not of our making
	rawID       = 0xc0
	rawCustomer = rawID | 1
	rawKey      = rawID | 2
)

const (
	limitViolated = 1 << iota
	limitSameMeter
	limitHasStart
	limitHasReset
)

// What gives way, one after the other, when even one limit does not fit.
const (
	dropNothing = iota
	dropRoute
	dropCustomer
	dropPlan
	dropMeter
)

// Encode appends the versioned binary form, at most MaxEncoded bytes. What does not fit is left out in this order:
// plans that would pass, from the end; limits from the end, but not the deciding one; then route, customer key, plan
// and meter, and once such a text is gone, limits and plans may have the room that is left. A longer text than its
// kind may have is cut. Truncated tells. Decode reverses all but that.
func (r *Receipt) Encode(dst []byte) []byte {
	e := encoder{b: dst, start: len(dst), deciding: r.Deciding}
	if e.deciding < 0 || e.deciding >= len(r.Limits) {
		e.deciding = -1
	}
	for e.drop = dropNothing; ; e.drop++ {
		e.b, e.cut = e.b[:e.start], r.Truncated
		e.head(r)
		if e.deciding >= 0 {
			e.limit(r, &r.Limits[e.deciding])
		}
		if e.fits(1) || e.drop == dropMeter {
			break
		}
	}
	passing := r.WouldPassOn
	if !e.otherLimits(r) {
		passing = nil
		e.cut = true
	}
	e.plans(passing)
	if e.cut {
		e.b[e.start+1] |= 1
	}
	return e.b
}

type encoder struct {
	b        []byte // the caller's, then ours from start
	start    int
	deciding int // -1: none
	places   int // where the two bytes about limits are
	drop     int
	cut      bool
	meter    string // the receipt's, as encoded
}

// fits says whether so many more bytes fit behind what is there.
func (e *encoder) fits(more int) bool { return len(e.b)-e.start+more <= MaxEncoded }

func (e *encoder) head(r *Receipt) {
	e.b = append(e.b, version1, byte(r.Outcome)<<1)
	e.b = binary.BigEndian.AppendUint16(e.b, r.ID.Node)
	e.b = binary.BigEndian.AppendUint32(e.b, r.ID.Epoch)
	e.b = binary.BigEndian.AppendUint16(e.b, uint16(r.ID.Seq>>32))
	e.b = binary.BigEndian.AppendUint32(e.b, uint32(r.ID.Seq))
	e.b = binary.AppendVarint(e.b, r.Time)
	e.b = binary.AppendVarint(e.b, r.CatalogVersion)
	e.id(r.CustomerID)
	e.id(r.KeyID)
	e.text(e.fit(r.Detail, detailMax))
	e.text(e.fit(e.unless(dropCustomer, r.Customer), textMax))
	e.text(e.fit(e.unless(dropPlan, r.Plan), textMax))
	e.text(e.fit(e.unless(dropRoute, r.Route), routeMax))
	e.meter = e.fit(e.unless(dropMeter, r.Meter), textMax)
	e.text(e.meter)
	e.b = append(e.b, byte(r.Scale))
	e.b = binary.AppendVarint(e.b, r.Cost)
	e.places = len(e.b)
	e.b = append(e.b, 0, 0)
}

// otherLimits appends those that do not decide, while they fit; all is false when one did not.
func (e *encoder) otherLimits(r *Receipt) (all bool) {
	before, others := 0, 0
	all = true
	for i := range r.Limits {
		if i == e.deciding {
			continue
		}
		mark := len(e.b)
		if e.limit(r, &r.Limits[i]); !e.fits(1) {
			e.b, all = e.b[:mark], false
			break
		}
		others++
		if i < e.deciding {
			before++
		}
	}
	e.b[e.places+1] = byte(others)
	if e.deciding >= 0 {
		e.b[e.places] = byte(before + 1)
		e.b[e.places+1]++
	}
	return all
}

func (e *encoder) limit(r *Receipt, l *Limit) {
	meter := e.fit(e.unless(dropMeter, l.Meter), textMax)
	flags := uint64(l.Kind) << 4
	if l.Violated {
		flags |= limitViolated
	}
	if meter == e.meter && byte(l.Scale) == byte(r.Scale) {
		flags |= limitSameMeter
	}
	if l.WindowStart != 0 {
		flags |= limitHasStart
	}
	if l.ResetAt != 0 {
		flags |= limitHasReset
	}
	e.b = binary.AppendUvarint(e.b, flags)
	e.text(e.fit(l.Key, textMax))
	if flags&limitSameMeter == 0 {
		e.text(meter)
		e.b = append(e.b, byte(l.Scale))
	}
	e.b = binary.AppendVarint(e.b, l.Before)
	e.b = binary.AppendVarint(e.b, l.After-l.Before)
	e.b = binary.AppendVarint(e.b, l.Quota)
	if l.WindowStart != 0 {
		e.b = binary.AppendVarint(e.b, l.WindowStart-r.Time)
	}
	if l.ResetAt != 0 {
		e.b = binary.AppendVarint(e.b, l.ResetAt-r.Time)
	}
}

func (e *encoder) plans(keys []string) {
	count := len(e.b)
	e.b = append(e.b, 0)
	for _, key := range keys {
		mark := len(e.b)
		if e.text(e.fit(key, textMax)); !e.fits(0) {
			e.b, e.cut = e.b[:mark], true
			return
		}
		e.b[count]++
	}
}

func (e *encoder) id(s string) {
	s = e.fit(s, otherIDMax)
	prefix, raw, ok := account.ParseID(s)
	switch {
	case ok && prefix == "cus":
		e.b = append(append(e.b, rawCustomer), raw[:]...)
	case ok && prefix == "key":
		e.b = append(append(e.b, rawKey), raw[:]...)
	default:
		e.text(s)
	}
}

// text appends one that fit has cut: its length is one byte.
func (e *encoder) text(s string) {
	e.b = append(append(e.b, byte(len(s))), s...)
}

// unless leaves out a text from some degree of want on.
func (e *encoder) unless(drop int, s string) string {
	if e.drop < drop || s == "" {
		return s
	}
	e.cut = true
	return ""
}

// fit cuts a text to a length, between two characters.
func (e *encoder) fit(s string, lengthMax int) string {
	if len(s) <= lengthMax {
		return s
	}
	e.cut = true
	for lengthMax > 0 && !utf8.RuneStart(s[lengthMax]) {
		lengthMax--
	}
	return s[:lengthMax]
}
