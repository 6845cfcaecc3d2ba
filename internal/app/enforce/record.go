package enforce

import (
	"encoding/binary"
	"errors"
	"math"
)

// Spool records, version 1. Each begins with its kind; integers are varints, strings are length-prefixed.
//
//	reserve: epoch, seq, time, period start, catalog version, scale, cost, customer id, key id, meter, event type, route,
//	         method, receipt
//	carry:   a copy of a reserve that has long been open
//	settle:  epoch, seq, total epoch, running total after it, status, flags
//	release: epoch, seq
//	mark:    epoch, seq, flags
const (
	kindReserve = 1
	kindSettle  = 2
	kindRelease = 3
	kindMark    = 4
	kindCarry   = 5
)

// settleRoom is set aside with each reservation, so that the settlement or release that must follow cannot fail for lack of
// space. It holds the longest of them.
const settleRoom = 64

var errRecord = errors.New("malformed spool record")

type requestKey struct {
	epoch uint32
	seq   uint64
}

// reservation is what a reserve record says.
type reservation struct {
	requestKey
	time           int64 // decision instant, microseconds
	periodStart    int64 // billing period, microseconds
	catalogVersion int64
	scale          int
	cost           int64
	customerID     string
	keyID          string
	meter          string
	event          string // its event type at the time
	route          string
	method         string
	receipt        []byte
}

type settlement struct {
	requestKey
	totalEpoch uint32
	total      int64
	status     int
	flags      uint16
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (r *reservation) append(b []byte) []byte { return r.fields(append(b, kindReserve)) }

func (r *reservation) carry(b []byte) []byte { return r.fields(append(b, kindCarry)) }

func (r *reservation) fields(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(r.epoch))
	b = binary.AppendUvarint(b, r.seq)
	b = binary.AppendVarint(b, r.time)
	b = binary.AppendVarint(b, r.periodStart)
	b = binary.AppendVarint(b, r.catalogVersion)
	b = binary.AppendUvarint(b, uint64(r.scale))
	b = binary.AppendVarint(b, r.cost)
	b = appendString(b, r.customerID)
	b = appendString(b, r.keyID)
	b = appendString(b, r.meter)
	b = appendString(b, r.event)
	b = appendString(b, r.route)
	b = appendString(b, r.method)
	b = binary.AppendUvarint(b, uint64(len(r.receipt)))
	return append(b, r.receipt...)
}

func (s *settlement) append(b []byte) []byte {
	b = append(b, kindSettle)
	b = binary.AppendUvarint(b, uint64(s.epoch))
	b = binary.AppendUvarint(b, s.seq)
	b = binary.AppendUvarint(b, uint64(s.totalEpoch))
	b = binary.AppendVarint(b, s.total)
	b = binary.AppendUvarint(b, uint64(s.status))
	return binary.AppendUvarint(b, uint64(s.flags))
}

func appendRelease(b []byte, k requestKey) []byte {
	b = append(b, kindRelease)
	b = binary.AppendUvarint(b, uint64(k.epoch))
	return binary.AppendUvarint(b, k.seq)
}

func appendMark(b []byte, k requestKey, flags uint16) []byte {
	b = append(b, kindMark)
	b = binary.AppendUvarint(b, uint64(k.epoch))
	b = binary.AppendUvarint(b, k.seq)
	return binary.AppendUvarint(b, uint64(flags))
}

// reader consumes a record; the first fault sticks.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint(math.MaxInt32)
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) key() requestKey {
	return requestKey{epoch: uint32(r.uvarint(math.MaxUint32)), seq: r.uvarint(1<<48 - 1)}
}

func (r *reader) done() error {
	if r.bad || len(r.b) != 0 {
		return errRecord
	}
	return nil
}

// names keeps one copy of the few strings that most records share: customers, keys, meters, routes. It is emptied when full.
type names map[string]string

const namesMax = 8192

func (n names) of(b []byte) string {
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

func decodeReservation(b []byte, known names) (reservation, error) {
	r := reader{b: b[1:]}
	out := reservation{requestKey: r.key()}
	out.time = r.varint()
	out.periodStart = r.varint()
	out.catalogVersion = r.varint()
	out.scale = int(r.uvarint(18))
	out.cost = r.varint()
	out.customerID = known.of(r.bytes())
	out.keyID = known.of(r.bytes())
	out.meter = known.of(r.bytes())
	out.event = known.of(r.bytes())
	out.route = known.of(r.bytes())
	out.method = known.of(r.bytes())
	out.receipt = append([]byte(nil), r.bytes()...)
	return out, r.done()
}

func decodeSettlement(b []byte) (settlement, error) {
	r := reader{b: b[1:]}
	out := settlement{requestKey: r.key()}
	out.totalEpoch = uint32(r.uvarint(math.MaxUint32))
	out.total = r.varint()
	out.status = int(r.uvarint(999))
	out.flags = uint16(r.uvarint(math.MaxUint16))
	return out, r.done()
}

func decodeRelease(b []byte) (requestKey, error) {
	r := reader{b: b[1:]}
	k := r.key()
	return k, r.done()
}

func decodeMark(b []byte) (requestKey, uint16, error) {
	r := reader{b: b[1:]}
	k := r.key()
	flags := uint16(r.uvarint(math.MaxUint16))
	return k, flags, r.done()
}
