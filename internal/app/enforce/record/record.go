// Package record is the form of what a gateway writes into its spool, and the account of leases that follows from it.
package record

import (
	"encoding/binary"
	"errors"
	"math"
)

// Kind is the first byte of a record. Integers are varints, strings are length-prefixed.
//
//	Reserve: epoch, seq, time, period start, catalog version, scale, cost, customer id, key id, meter, event type, route, method,
//	         receipt, parts; then what the parts say is there: cap, project, user, held (id, expiry, policy), lease ids
//	Carry:   a copy of a Reserve that has long been open
//	Settle:  epoch, seq, total epoch, running total after it, status, flags, 1 and the actual cost (0: what was reserved)
//	Release: epoch, seq, reason
//	Mark:    epoch, seq, flags
//	Extend:  epoch, seq, new expiry of a held reservation
//	Lease:   epoch, number, counter (customer id, meter, scope, window unit, length, start), window end, spent, up to
//	Spent:   epoch, up to, then number and spent of each lease
//	Closed:  epoch, number
//	Void:    nothing is known any more of the leases that were declared before it
//
// Version 1 had the kinds 1 to 5, without what a Reserve says from its parts on, an actual cost and a reason. They are read, and
// a Mark is still written so.
type Kind = uint8

// The kinds.
const (
	reserve1 Kind = 1
	settle1  Kind = 2
	release1 Kind = 3
	Mark     Kind = 4
	carry1   Kind = 5
	Reserve  Kind = 6
	Carry    Kind = 7
	Settle   Kind = 8
	Release  Kind = 9
	Extend   Kind = 10
	Lease    Kind = 11
	Spent    Kind = 12
	Closed   Kind = 13
	Void     Kind = 14
)

// EndRoom is set aside with each reservation, so that the settlement or release that must follow cannot fail for lack of space.
// It holds the longest of them.
const EndRoom = 64

// ErrMalformed says that the record is not in its form.
var ErrMalformed = errors.New("malformed spool record")

// KindOf tells a record's kind; older versions of it are the same kind. 0: empty or unknown.
func KindOf(b []byte) Kind {
	if len(b) == 0 {
		return 0
	}
	switch k := b[0]; k {
	case reserve1:
		return Reserve
	case settle1:
		return Settle
	case release1:
		return Release
	case carry1:
		return Carry
	case Mark, Reserve, Carry, Settle, Release, Extend, Lease, Spent, Closed, Void:
		return k
	}
	return 0
}

// Key names a reservation of one node.
type Key struct {
	Epoch uint32
	Seq   uint64
}

// Reservation is what a Reserve says. Quantities are in the meter's scale, instants in microseconds.
type Reservation struct {
	Key
	Time           int64 // decision instant
	PeriodStart    int64 // of the billing period
	CatalogVersion int64
	Scale          int
	Cost           int64
	CustomerID     string
	KeyID          string
	Meter          string
	Event          string // its event type at the time
	Route          string
	Method         string
	Receipt        []byte
	Capped         bool
	Cap            int64 // where Capped: the most that is charged
	Project, User  string
	// Held is what an explicit reservation is known by: its own key, or that of the reservation which it extends. Zero: a request that
	// is proxied.
	Held     Key
	Expires  int64 // of a held one
	OnExpiry uint8
	Leases   []uint32 // numbers of the leases of its epoch that it drew on
}

// Settlement is what a Settle says.
type Settlement struct {
	Key
	TotalEpoch uint32
	Total      int64
	Status     int
	Flags      uint16
	Actual     bool  // Cost is there; else what was reserved is charged
	Cost       int64 // what is charged
}

// Charge is what a settlement charges of a reserved cost.
func (s *Settlement) Charge(reserved int64) int64 {
	if s.Actual {
		return s.Cost
	}
	return reserved
}

// Parts of a reservation that may be there.
const (
	partCap = 1 << iota
	partProject
	partUser
	partHeld
	partLeases
	partsAll = 1<<iota - 1
)

// MaxLeases bounds the leases of one reservation, and of one Spent.
const MaxLeases = 128

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Append writes a Reserve.
func (r *Reservation) Append(b []byte) []byte { return r.fields(append(b, Reserve)) }

// Carry writes a copy of it.
func (r *Reservation) Carry(b []byte) []byte { return r.fields(append(b, Carry)) }

func (r *Reservation) fields(b []byte) []byte {
	b = r.append(b)
	b = binary.AppendVarint(b, r.Time)
	b = binary.AppendVarint(b, r.PeriodStart)
	b = binary.AppendVarint(b, r.CatalogVersion)
	b = binary.AppendUvarint(b, uint64(r.Scale))
	b = binary.AppendVarint(b, r.Cost)
	b = appendString(b, r.CustomerID)
	b = appendString(b, r.KeyID)
	b = appendString(b, r.Meter)
	b = appendString(b, r.Event)
	b = appendString(b, r.Route)
	b = appendString(b, r.Method)
	b = binary.AppendUvarint(b, uint64(len(r.Receipt)))
	b = append(b, r.Receipt...)
	parts := r.parts()
	b = append(b, parts)
	if r.Capped {
		b = binary.AppendVarint(b, r.Cap)
	}
	if r.Project != "" {
		b = appendString(b, r.Project)
	}
	if r.User != "" {
		b = appendString(b, r.User)
	}
	if r.Held != (Key{}) {
		b = r.Held.append(b)
		b = binary.AppendVarint(b, r.Expires)
		b = append(b, r.OnExpiry)
	}
	if len(r.Leases) > 0 {
		b = binary.AppendUvarint(b, uint64(len(r.Leases)))
		for _, n := range r.Leases {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

func (r *Reservation) parts() (parts byte) {
	if r.Capped {
		parts |= partCap
	}
	if r.Project != "" {
		parts |= partProject
	}
	if r.User != "" {
		parts |= partUser
	}
	if r.Held != (Key{}) {
		parts |= partHeld
	}
	if len(r.Leases) > 0 {
		parts |= partLeases
	}
	return parts
}

func (k Key) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(k.Epoch))
	return binary.AppendUvarint(b, k.Seq)
}

// Append writes a Settle.
func (s *Settlement) Append(b []byte) []byte {
	b = s.append(append(b, Settle))
	b = binary.AppendUvarint(b, uint64(s.TotalEpoch))
	b = binary.AppendVarint(b, s.Total)
	b = binary.AppendUvarint(b, uint64(s.Status))
	b = binary.AppendUvarint(b, uint64(s.Flags))
	if !s.Actual {
		return append(b, 0)
	}
	return binary.AppendVarint(append(b, 1), s.Cost)
}

// AppendRelease writes a Release; reason 0 is none.
func AppendRelease(b []byte, k Key, reason uint8) []byte {
	return append(k.append(append(b, Release)), reason)
}

// AppendMark writes a Mark.
func AppendMark(b []byte, k Key, flags uint16) []byte {
	return binary.AppendUvarint(k.append(append(b, Mark)), uint64(flags))
}

// AppendExtend writes an Extend.
func AppendExtend(b []byte, k Key, expires int64) []byte {
	return binary.AppendVarint(k.append(append(b, Extend)), expires)
}

// reader consumes a record; the first fault sticks.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() {
	r.bad, r.b = true, nil
}

func (r *reader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) byte(limit byte) byte {
	if len(r.b) == 0 || r.b[0] > limit {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) bytes() []byte {
	n := r.uvarint(math.MaxInt32)
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

const maxSeq = 1<<48 - 1

func (r *reader) key() Key {
	return Key{Epoch: uint32(r.uvarint(math.MaxUint32)), Seq: r.uvarint(maxSeq)}
}

func (r *reader) done() error {
	if r.bad || len(r.b) != 0 {
		return ErrMalformed
	}
	return nil
}

// Names keeps one copy of the few strings that most records share: customers, keys, meters, routes. It is emptied when full.
type Names map[string]string

const namesMax = 8192

func (n Names) of(b []byte) string {
	if s, ok := n[string(b)]; ok {
		return s
	}
	if len(n) >= namesMax {
		clear(n)
	}
	s := string(b)
	n[s] = s
	return s
}

// ReadReservation reads a Reserve or Carry.
func ReadReservation(b []byte, known Names) (Reservation, error) {
	first, r := b[0], reader{b: b[1:]}
	out := Reservation{Key: r.key()}
	out.Time = r.varint()
	out.PeriodStart = r.varint()
	out.CatalogVersion = r.varint()
	out.Scale = int(r.uvarint(18))
	out.Cost = r.varint()
	out.CustomerID = known.of(r.bytes())
	out.KeyID = known.of(r.bytes())
	out.Meter = known.of(r.bytes())
	out.Event = known.of(r.bytes())
	out.Route = known.of(r.bytes())
	out.Method = known.of(r.bytes())
	out.Receipt = append([]byte(nil), r.bytes()...)
	if first == Reserve || first == Carry {
		r.parts(&out, known)
	}
	return out, r.done()
}

func (r *reader) parts(out *Reservation, known Names) {
	parts := r.byte(partsAll)
	if parts&partCap != 0 {
		out.Capped, out.Cap = true, r.varint()
	}
	if parts&partProject != 0 {
		out.Project = known.of(r.bytes())
	}
	if parts&partUser != 0 {
		out.User = known.of(r.bytes())
	}
	if parts&partHeld != 0 {
		out.Held = r.key()
		out.Expires = r.varint()
		out.OnExpiry = r.byte(math.MaxUint8)
	}
	if parts&partLeases != 0 {
		n := r.uvarint(MaxLeases)
		for range n {
			out.Leases = append(out.Leases, uint32(r.uvarint(math.MaxUint32)))
		}
	}
	if out.parts() != parts { // an empty part is not written
		r.fail()
	}
}

// ReadSettlement reads a Settle.
func ReadSettlement(b []byte) (Settlement, error) {
	first, r := b[0], reader{b: b[1:]}
	out := Settlement{Key: r.key()}
	out.TotalEpoch = uint32(r.uvarint(math.MaxUint32))
	out.Total = r.varint()
	out.Status = int(r.uvarint(999))
	out.Flags = uint16(r.uvarint(math.MaxUint16))
	if first == Settle && r.byte(1) == 1 {
		out.Actual, out.Cost = true, r.varint()
	}
	return out, r.done()
}

// ReadRelease reads a Release.
func ReadRelease(b []byte) (k Key, reason uint8, err error) {
	first, r := b[0], reader{b: b[1:]}
	k = r.key()
	if first == Release {
		reason = r.byte(math.MaxUint8)
	}
	return k, reason, r.done()
}

// ReadMark reads a Mark.
func ReadMark(b []byte) (k Key, flags uint16, err error) {
	r := reader{b: b[1:]}
	k = r.key()
	flags = uint16(r.uvarint(math.MaxUint16))
	return k, flags, r.done()
}

// ReadExtend reads an Extend.
func ReadExtend(b []byte) (k Key, expires int64, err error) {
	r := reader{b: b[1:]}
	k = r.key()
	expires = r.varint()
	return k, expires, r.done()
}
