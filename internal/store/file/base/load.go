package base

import (
	"encoding/binary"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// State reads what the base says of itself; false: nothing was ever written, or by another version.
func (r *Reader) State() (s State, ok bool, err error) {
	value, ok, err := r.get([]byte{keyState})
	if err != nil || !ok {
		return s, false, err
	}
	d := decoder{b: value}
	if d.byte() != Version {
		return s, false, nil
	}
	s.Position, s.Checksum = d.uint(), uint32(d.uint())
	for _, n := range []*int{&s.Events, &s.Buckets, &s.Marks, &s.Revised, &s.Unmatched} {
		*n = int(d.uint())
	}
	s.LastRevision = d.uint()
	if err := d.err(); err != nil {
		return s, false, r.s.fault("read", err)
	}
	return s, true, nil
}

// Small is what is kept in memory whole. Its functions are called in the order in which they stand here.
type Small struct {
	Series func(e SeriesEntry)
	Total  func(k TotalKey, total money.Decimal)
	Cut    func(customerID string, at int64)
	Spot   func(s Spot)
}

// Load reads what is kept in memory.
func (r *Reader) Load(s Small) error {
	all := func(letter byte, do func(key, value []byte) (bool, error)) error {
		return r.each([]byte{letter}, []byte{letter + 1}, do)
	}
	err := all(keySeries, func(key, value []byte) (bool, error) {
		d := decoder{b: value}
		e := SeriesEntry{Number: binary.BigEndian.Uint32(key[1:]), Some: d.uint() == 1, First: d.int(), Last: d.int()}
		e.Key = store.SeriesKey{CustomerID: string(d.bytes()), Meter: string(d.bytes())}
		s.Series(e)
		return true, d.err()
	})
	if err != nil {
		return err
	}
	err = all(keyTotal, func(key, value []byte) (bool, error) {
		d := decoder{b: value}
		k := TotalKey{
			Series: binary.BigEndian.Uint32(key[1:]), Period: keyInstant(key[5:]), Node: binary.BigEndian.Uint16(key[13:]),
			Epoch: binary.BigEndian.Uint32(key[15:]),
		}
		s.Total(k, d.decimal())
		return true, d.err()
	})
	if err != nil {
		return err
	}
	err = all(keyCut, func(key, _ []byte) (bool, error) {
		s.Cut(string(key[9:]), keyInstant(key[1:]))
		return true, nil
	})
	if err != nil {
		return err
	}
	return all(keySpot, func(key, value []byte) (bool, error) {
		d := decoder{b: value}
		s.Spot(Spot{Position: binary.BigEndian.Uint64(key[1:]), Segment: uint32(d.uint()), Offset: int64(d.uint())})
		return true, d.err()
	})
}
