package record

import (
	"encoding/binary"
	"math"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// LeaseID names a lease of one node in its spool. Number 0 is none.
type LeaseID struct {
	Epoch, Number uint32
}

// Declaration is what a Lease says: the counter, and what it was spent on by requests that had ended before the offset UpTo. Number 0
// stands for all leases of its epoch that have no name yet: none of them was ever spent from. It is closed when one is used without.
type Declaration struct {
	LeaseID
	Counter   store.CounterKey
	WindowEnd int64 // microseconds
	Spent     int64
	UpTo      int64
}

// Append writes a Lease.
func (d *Declaration) Append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, Lease), uint64(d.Epoch))
	b = binary.AppendUvarint(b, uint64(d.Number))
	b = appendString(b, d.Counter.CustomerID)
	b = appendString(b, d.Counter.Meter)
	b = appendString(b, d.Counter.Scope)
	b = append(b, byte(d.Counter.Window))
	b = binary.AppendVarint(b, d.Counter.Length)
	b = binary.AppendVarint(b, d.Counter.Start)
	b = binary.AppendVarint(b, d.WindowEnd)
	b = binary.AppendVarint(b, d.Spent)
	return binary.AppendVarint(b, d.UpTo)
}

// ReadDeclaration reads a Lease.
func ReadDeclaration(b []byte) (Declaration, error) {
	r := reader{b: b[1:]}
	var d Declaration
	d.Epoch = uint32(r.uvarint(math.MaxUint32))
	d.Number = uint32(r.uvarint(math.MaxUint32))
	d.Counter.CustomerID = string(r.bytes())
	d.Counter.Meter = string(r.bytes())
	d.Counter.Scope = string(r.bytes())
	d.Counter.Window = period.Window(r.byte(math.MaxUint8))
	d.Counter.Length = r.varint()
	d.Counter.Start = r.varint()
	d.WindowEnd = r.varint()
	d.Spent = r.varint()
	d.UpTo = r.varint()
	return d, r.done()
}

// AppendClosed writes a Closed.
func AppendClosed(b []byte, id LeaseID) []byte {
	b = binary.AppendUvarint(append(b, Closed), uint64(id.Epoch))
	return binary.AppendUvarint(b, uint64(id.Number))
}

// ReadClosed reads a Closed.
func ReadClosed(b []byte) (LeaseID, error) {
	r := reader{b: b[1:]}
	id := LeaseID{Epoch: uint32(r.uvarint(math.MaxUint32)), Number: uint32(r.uvarint(math.MaxUint32))}
	return id, r.done()
}

// Sum is what one lease was spent on.
type Sum struct {
	Number uint32
	Spent  int64
}

// AppendSpent writes a Spent.
func AppendSpent(b []byte, epoch uint32, upTo int64, sums []Sum) []byte {
	b = binary.AppendUvarint(append(b, Spent), uint64(epoch))
	b = binary.AppendVarint(b, upTo)
	b = binary.AppendUvarint(b, uint64(len(sums)))
	for _, s := range sums {
		b = binary.AppendUvarint(b, uint64(s.Number))
		b = binary.AppendVarint(b, s.Spent)
	}
	return b
}

// ReadSpent reads a Spent.
func ReadSpent(b []byte) (epoch uint32, upTo int64, sums []Sum, err error) {
	r := reader{b: b[1:]}
	epoch = uint32(r.uvarint(math.MaxUint32))
	upTo = r.varint()
	n := r.uvarint(MaxLeases)
	for range n {
		sums = append(sums, Sum{Number: uint32(r.uvarint(math.MaxUint32)), Spent: r.varint()})
	}
	return epoch, upTo, sums, r.done()
}
