package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Commit commits to a payload section before it is erased, under a salt that belongs to the subject and the position, as the
// tree does: its leaf stays the same. head is kind, position and head fields, as in store.Leaf.
type Commit func(subject string, position uint64, head, payload []byte) ([32]byte, error)

// Erasure takes payloads out: those of a subject up to its own record, or all between two positions.
type Erasure struct {
	Position    uint64 // of the record that orders it
	Subject     string // empty: by position
	First, Last uint64 // positions, both included
}

// covers says whether the payload of a record is to go.
func (e *Erasure) covers(position uint64, subject []byte) bool {
	if e.Subject == "" {
		return e.First <= position && position <= e.Last
	}
	return position <= e.Position && string(subject) == e.Subject
}

// Covers says whether an erasure takes the payload of a record, and which.
func Covers(all []Erasure, position uint64, subject string) (by uint64, ok bool) {
	for i := range all {
		if all[i].covers(position, []byte(subject)) {
			return all[i].Position, true
		}
	}
	return 0, false
}

// Due lists the erasures that a segment still needs: first and last are its positions, done is its Info.ErasedTo.
func Due(all []Erasure, first, last, done uint64) []Erasure {
	var due []Erasure
	for _, e := range all {
		inside := e.First <= last && first <= e.Last
		if e.Subject != "" {
			inside = first <= e.Position
		}
		if e.Position > done && inside {
			due = append(due, e)
		}
	}
	return due
}

// Erase makes the edit that takes payloads out and leaves their commitments.
func Erase(all []Erasure, commit Commit) Edit {
	var p parsed
	return func(body []byte) ([]byte, error) {
		if err := p.parse(body); err != nil {
			return nil, err
		}
		if len(p.payload) == 0 {
			return nil, nil
		}
		subject := find(p.payload, payloadSubject).buf
		by, ok := Covers(all, p.position, string(subject))
		if !ok {
			return nil, nil
		}
		if find(p.head, headErased).num > 0 {
			return nil, fmt.Errorf("record %d is erased and has a payload", p.position)
		}
		sum, err := commit(string(subject), p.position, bytes.Clone(body[:p.payloadAt-1]), bytes.Clone(body[p.payloadAt:]))
		if err != nil {
			return nil, fmt.Errorf("commit to record %d: %w", p.position, err)
		}
		return p.without(sum, by), nil
	}
}

// without is the record's body without its payload.
func (p *parsed) without(commitment [32]byte, by uint64) []byte {
	at := slices.IndexFunc(p.head, func(f field) bool { return f.tag() >= headCommitment })
	if at < 0 {
		at = len(p.head)
	}
	out := binary.LittleEndian.AppendUint64([]byte{p.kind}, p.position)
	for _, f := range p.head[:at] {
		out = appendField(out, f)
	}
	out = appendField(out, field{key: headCommitment<<1 | wireBytes, buf: commitment[:]})
	out = appendField(out, field{key: headErased << 1, num: by})
	for _, f := range p.head[at:] {
		out = appendField(out, f)
	}
	return append(out, 0)
}

// FindErasure says whether a record orders an erasure that names somebody or something.
func FindErasure(body []byte) (Erasure, bool) {
	var p parsed
	if p.parse(body) != nil || p.kind != kindErasure {
		return Erasure{}, false
	}
	e := Erasure{
		Position: p.position, Subject: string(find(p.payload, payloadSubject).buf),
		First: find(p.head, headFirst).num, Last: find(p.head, headLast).num,
	}
	return e, e.Subject != "" || e.Last > 0
}

var errTouched = errors.New("touched")

// Touches says whether a segment has a payload that one of the erasures takes.
func Touches(ctx context.Context, name string, number uint32, f segment.File, all []Erasure) (bool, error) {
	var p parsed
	_, err := Frames(name, number, f, func(_ int64, frame []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return record.Split(frame[segment.FrameHeader:], func(_ int, body []byte) error {
			if err := p.parse(body); err != nil || len(p.payload) == 0 {
				return err
			}
			if _, ok := Covers(all, p.position, string(find(p.payload, payloadSubject).buf)); ok {
				return errTouched
			}
			return nil
		})
	})
	if errors.Is(err, errTouched) {
		return true, nil
	}
	return false, err
}

// Received is the first time of receipt in a frame; zero when there is none.
func Received(frame []byte) (at time.Time) {
	var p parsed
	_ = record.Split(frame[segment.FrameHeader:], func(_ int, body []byte) error { // the frame was checked
		if p.parse(body) == nil && at.IsZero() {
			if micros := unzigzag(find(p.head, headReceived).num); micros > 0 {
				at = time.UnixMicro(micros)
			}
		}
		return nil
	})
	return at
}

// Orders lists the erasures that a segment orders, up to a position.
func Orders(name string, number uint32, f segment.File, upTo uint64) (all []Erasure, err error) {
	_, err = Frames(name, number, f, func(_ int64, frame []byte) error {
		return record.Split(frame[segment.FrameHeader:], func(_ int, body []byte) error {
			if body[0] == kindErasure {
				if e, ok := FindErasure(body); ok && e.Position <= upTo {
					all = append(all, e)
				}
			}
			return nil
		})
	})
	return all, err
}
