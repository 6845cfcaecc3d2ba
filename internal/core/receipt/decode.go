package receipt

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/tallystick/tallystick/internal/core/account"
)

// Decode reads what Encode wrote and nothing else: what decodes, encodes to the same bytes again. ErrToken.
func Decode(b []byte) (Receipt, error) {
	if len(b) > MaxEncoded {
		return Receipt{}, ErrToken
	}
	d := decoder{b: b}
	r := d.receipt()
	if d.bad || r.Outcome < Allowed || r.Outcome >= outcomes {
		return Receipt{}, ErrToken
	}
	// One comparison refuses all other spellings: long varints, ids as text, texts that are too long, bytes behind the end.
	if again := r.Encode(make([]byte, 0, MaxEncoded)); !bytes.Equal(again, b) {
		return Receipt{}, ErrToken
	}
	return r, nil
}

// decoder yields zeros once it is bad.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) receipt() (r Receipt) {
	if d.byte() != version1 {
		d.bad = true
	}
	outcome := d.byte()
	r.Outcome, r.Truncated = Outcome(outcome>>1), outcome&1 != 0
	if id := d.bytes(headerLen - 2); id != nil {
		r.ID = ShortID{
			Node:  binary.BigEndian.Uint16(id),
			Epoch: binary.BigEndian.Uint32(id[2:]),
			Seq:   uint64(binary.BigEndian.Uint16(id[6:]))<<32 | uint64(binary.BigEndian.Uint32(id[8:])),
		}
	}
	r.Time, r.CatalogVersion = d.int(), d.int()
	r.CustomerID, r.KeyID = d.id(), d.id()
	r.Detail, r.Customer, r.Plan, r.Route, r.Meter = d.text(), d.text(), d.text(), d.text(), d.text()
	r.Scale, r.Cost = int(d.byte()), d.int()
	d.limits(&r)
	for range d.byte() {
		if d.bad {
			break
		}
		r.WouldPassOn = append(r.WouldPassOn, d.text())
	}
	return r
}

func (d *decoder) limits(r *Receipt) {
	place, count := int(d.byte()), int(d.byte())
	r.Deciding = place - 1
	for range count {
		if d.bad {
			return
		}
		r.Limits = append(r.Limits, d.limit(r))
	}
	if place > count {
		d.bad = true
		return
	}
	if place > 1 { // the deciding one came first
		deciding := r.Limits[0]
		r.Limits = slices.Insert(slices.Delete(r.Limits, 0, 1), place-1, deciding)
	}
}

func (d *decoder) limit(r *Receipt) (l Limit) {
	flags, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return l
	}
	d.b = d.b[n:]
	l.Kind = uint8(flags >> 4)
	l.Violated = flags&limitViolated != 0
	l.Key = d.text()
	l.Meter, l.Scale = r.Meter, r.Scale
	if flags&limitSameMeter == 0 {
		l.Meter, l.Scale = d.text(), int(d.byte())
	}
	l.Before = d.int()
	l.After = l.Before + d.int()
	l.Quota = d.int()
	if flags&limitHasStart != 0 {
		l.WindowStart = r.Time + d.int()
	}
	if flags&limitHasReset != 0 {
		l.ResetAt = r.Time + d.int()
	}
	return l
}

func (d *decoder) bytes(n int) []byte {
	if d.bad || len(d.b) < n {
		d.bad = true
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string { return string(d.bytes(int(d.byte()))) }

func (d *decoder) id() string {
	if len(d.b) == 0 || d.b[0] < rawID {
		return d.text()
	}
	prefix := ""
	switch d.byte() {
	case rawCustomer:
		prefix = "cus"
	case rawKey:
		prefix = "key"
	default:
		d.bad = true
	}
	raw := d.bytes(16)
	if d.bad {
		return ""
	}
	return account.FormatID(prefix, [16]byte(raw))
}
