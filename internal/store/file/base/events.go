package base

import (
	"bytes"
	"encoding/binary"

	"github.com/tallystick/tallystick/internal/store"
)

// Held says who holds an identity: the event's position, and the first 8 bytes of its content's digest.
type Held struct {
	Position    uint64
	Fingerprint uint64
}

// Fingerprint of a digest.
func Fingerprint(digest [16]byte) uint64 { return binary.BigEndian.Uint64(digest[:8]) }

// Identity is the key of an event.
type Identity = [16]byte

func identityKey(dst []byte, id *Identity) []byte { return append(append(dst, keyIdentity), id[:]...) }

// Known looks identities up, best in their order, and calls hit with the places of those that are held, up to a position.
func (r *Reader) Known(ids []Identity, upTo uint64, hit func(i int, h Held)) error {
	var room [17]byte
	for i := range ids {
		value, ok, err := r.get(identityKey(room[:0], &ids[i]))
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		d := decoder{b: value}
		h := Held{Fingerprint: d.fixed(), Position: d.uint()}
		if err := d.err(); err != nil {
			return r.s.fault("read", err)
		}
		if h.Position <= upTo {
			hit(i, h)
		}
	}
	return nil
}

func (d *decoder) fixed() uint64 {
	if len(d.b) < 8 {
		d.bad, d.b = true, nil
		return 0
	}
	v := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

// Flags that marks have added to an event.
func (r *Reader) Flags(event uint64) (store.Flags, error) {
	value, ok, err := r.get(numberKey(keyMark, event))
	if err != nil || !ok {
		return 0, err
	}
	d := decoder{b: value}
	flags := store.Flags(d.uint())
	if err := d.err(); err != nil {
		return 0, r.s.fault("read", err)
	}
	return flags, nil
}

// Revision is a revision's place in the log.
type Revision struct {
	Kind     store.RevisionKind
	Position uint64
}

// Revisions of an event up to a position, oldest first.
func (r *Reader) Revisions(event, upTo uint64) (all []Revision, err error) {
	value, ok, err := r.get(numberKey(keyRevisions, event))
	if err != nil || !ok {
		return nil, err
	}
	d := decoder{b: value}
	for len(d.b) > 0 && !d.bad {
		if v := (Revision{Kind: store.RevisionKind(d.byte()), Position: d.uint()}); v.Position <= upTo {
			all = append(all, v)
		}
	}
	if err := d.err(); err != nil {
		return nil, r.s.fault("read", err)
	}
	return all, nil
}

// RevisedSince calls do with the events of the revisions behind a position, by revision.
func (r *Reader) RevisedSince(after, upTo uint64, do func(event uint64)) error {
	return r.each(numberKey(keyRevisionAt, after+1), []byte{keyRevisionAt + 1}, func(key, value []byte) (bool, error) {
		if binary.BigEndian.Uint64(key[1:]) > upTo {
			return false, nil
		}
		d := decoder{b: value}
		do(d.uint())
		return true, d.err()
	})
}

// Unmatched calls do with the events that count for nothing, from one on, or down from one, until it says no.
func (r *Reader) Unmatched(from uint64, newestFirst bool, do func(event uint64) bool) error {
	return r.events([]byte{keyUnmatched}, from, newestFirst, do)
}

// Unit is Unmatched for the events of a backfill.
func (r *Reader) Unit(unit string, from uint64, newestFirst bool, do func(event uint64) bool) error {
	return r.events(unitPrefix(unit), from, newestFirst, do)
}

func unitPrefix(unit string) []byte {
	return append(binary.AppendUvarint([]byte{keyUnit}, uint64(len(unit))), unit...)
}

func (r *Reader) events(prefix []byte, from uint64, newestFirst bool, do func(event uint64) bool) error {
	key := func(event uint64) []byte { return binary.BigEndian.AppendUint64(bytes.Clone(prefix), event) }
	each := func(key, _ []byte) (bool, error) {
		return do(binary.BigEndian.Uint64(key[len(prefix):])), nil
	}
	if newestFirst {
		return r.back(key(0), append(key(from), 0), each)
	}
	return r.each(key(from), append(key(1<<64-1), 0), each)
}
