// Package transfer takes all of one store into another one, of whatever drivers, so that nothing in it can be told apart
// afterwards: the same records at the same positions, so the same tree, whose old checkpoints go on holding.
package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// page is how many leaves are read at a time.
const page = 1000

var (
	// ErrErased says that a payload of the source was erased: it cannot be appended again.
	ErrErased = errors.New("a journal from which something was erased cannot be moved")
	// ErrDiffers says that the target is not what the source is.
	ErrDiffers = errors.New("source and target differ")
)

// leaf is a copy of one.
type leaf struct {
	position      uint64
	head, payload []byte
}

func (l *leaf) record() (record.Record, error) {
	body := append(bytes.Clone(l.head), 0)
	r, err := record.Decode(append(body, l.payload...))
	if err != nil {
		return r, fmt.Errorf("record %d: %w", l.position, err)
	}
	return r, nil
}

// Journal appends to a journal what another one has and it has not, in order, each unit as it was appended once; a unit is a
// batch, a revision, a cut or a document. What it has already must be the beginning of the source; the last page of it is
// compared. So a transfer that was stopped is taken up by calling it again. Memory is bounded by the largest batch. told is
// called with the position reached, now and then. Nobody else may write to either. ErrErased, ErrDiffers.
func Journal(ctx context.Context, from, to store.Journal, told func(position uint64)) error {
	at, err := position(ctx, to)
	if err != nil {
		return err
	}
	if err := compareTail(ctx, from, to, at); err != nil {
		return err
	}
	var unit []leaf
	flush := func() error {
		if len(unit) == 0 {
			return nil
		}
		if err := appendUnit(ctx, to, unit); err != nil {
			return fmt.Errorf("records %d to %d: %w", unit[0].position, unit[len(unit)-1].position, err)
		}
		unit = unit[:0]
		return nil
	}
	for next := at + 1; ; {
		leaves, after, err := read(ctx, from, next)
		if err != nil {
			return err
		}
		if len(leaves) == 0 {
			err := flush()
			told(next - 1)
			return err
		}
		for _, l := range leaves {
			kind := record.Kind(l.head[0])
			if kind != record.KindEvent && kind != record.KindMark {
				if err := flush(); err != nil {
					return err
				}
			}
			unit = append(unit, l)
		}
		next = after
		told(next - 1)
	}
}

func position(ctx context.Context, j store.Journal) (p uint64, err error) {
	err = j.View(ctx, func(v store.View) error {
		p = v.Position()
		return nil
	})
	return p, err
}

// read copies a page of leaves.
func read(ctx context.Context, j store.Journal, from uint64) (leaves []leaf, next uint64, err error) {
	next, err = j.Leaves(ctx, from, page, func(l store.Leaf) error {
		if l.Commitment != nil {
			return fmt.Errorf("record %d: %w; move it by tally backup and restore, or keep it where it is", l.Position, ErrErased)
		}
		if len(l.Head) == 0 {
			return fmt.Errorf("record %d has no head: %w", l.Position, store.ErrCorrupt)
		}
		leaves = append(leaves, leaf{l.Position, bytes.Clone(l.Head), bytes.Clone(l.Payload)})
		return nil
	})
	return leaves, next, err
}

// compareTail compares the last page of what the target has.
func compareTail(ctx context.Context, from, to store.Journal, at uint64) error {
	if at == 0 {
		return nil
	}
	first := uint64(1)
	if at > page {
		first = at - page + 1
	}
	have, _, err := read(ctx, to, first)
	if err != nil {
		return err
	}
	return same(ctx, from, have)
}

// same compares leaves with those of a journal.
func same(ctx context.Context, j store.Journal, want []leaf) error {
	for len(want) > 0 {
		have, _, err := read(ctx, j, want[0].position)
		if err != nil {
			return err
		}
		if len(have) == 0 {
			return fmt.Errorf("%w: one has no record %d", ErrDiffers, want[0].position)
		}
		n := min(len(have), len(want))
		for i := range n {
			h, w := &have[i], &want[i]
			if h.position != w.position || !bytes.Equal(h.head, w.head) || !bytes.Equal(h.payload, w.payload) {
				return fmt.Errorf("%w: record %d is another one", ErrDiffers, w.position)
			}
		}
		want = want[n:]
	}
	return nil
}

// appendUnit appends what was appended together, and looks whether it became the same records.
func appendUnit(ctx context.Context, to store.Journal, unit []leaf) error {
	first, err := unit[0].record()
	if err != nil {
		return err
	}
	switch first.Kind {
	case record.KindBatch:
		err = appendBatch(ctx, to, &first, unit[1:])
	case record.KindCut:
		err = to.Cut(ctx, first.CustomerID, first.Event.Time)
	case record.KindSeal:
		_, err = to.Seal(ctx, first.Document)
	case record.KindAmend, record.KindVoid, record.KindResolve:
		err = revise(ctx, to, &first)
	case record.KindErasure:
		return ErrErased
	case record.KindEvent, record.KindMark, record.KindBackfill:
		return fmt.Errorf("%w: a batch is missing before it", store.ErrCorrupt)
	default:
		return fmt.Errorf("%w: records of kind %d", store.ErrNewer, first.Kind)
	}
	if err != nil {
		return err
	}
	return same(ctx, to, unit)
}

func appendBatch(ctx context.Context, to store.Journal, head *record.Record, rest []leaf) error {
	b := store.Batch{
		Producer: head.Producer, Node: head.Node, Epoch: head.Epoch, First: head.First, Last: head.Last, Totals: head.Totals,
		ReceivedAt: head.ReceivedAt, Signature: head.Signature, KeyID: head.SignerKey,
	}
	for i := range rest {
		r, err := rest[i].record()
		if err != nil {
			return err
		}
		if r.Kind == record.KindMark {
			b.Marks = append(b.Marks, store.Mark{Source: r.Event.Source, ID: r.Event.ID, Flags: r.Flags})
			continue
		}
		b.Entries = append(b.Entries, store.Entry{
			Event: r.Event, Origin: r.Origin, Resolutions: r.Resolutions, Receipt: r.Receipt, Flags: r.Flags, KeyID: r.KeyID, Unit: r.Unit,
		})
	}
	_, err := to.Append(ctx, b)
	return err
}

func revise(ctx context.Context, to store.Journal, r *record.Record) error {
	if r.Reference == nil {
		return fmt.Errorf("%w: it names no event", store.ErrCorrupt)
	}
	var source, id string
	_, err := to.Leaves(ctx, r.Reference.Target, 1, func(l store.Leaf) error {
		source, id = l.Source, l.ID
		return nil
	})
	if err != nil {
		return err
	}
	one := store.Revision{Source: source, ID: id, Kind: store.Void, If: store.AnyRevision}
	if r.Kind == record.KindAmend {
		one.Kind, one.Event, one.Resolutions = store.Amend, r.Event, r.Resolutions
	}
	if r.Kind == record.KindResolve {
		one.Kind, one.Resolutions = store.Resolve, r.Resolutions
	}
	_, err = to.Revise(ctx, store.Revisions{Actor: r.Reference.Actor, Reason: r.Reference.Reason, At: r.ReceivedAt, List: []store.Revision{one}})
	return err
}
