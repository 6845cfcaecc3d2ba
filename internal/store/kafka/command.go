package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// A command in the topic: magic, version, flags, then the records that it would write, as internal/store/file/record encodes
// them, compressed where that is flagged. What kind of command it is follows from the first record.
const (
	magic   = "tally\x00"
	version = 1

	flagAtomic     = 1 << 0 // Batch.Atomic
	flagCompressed = 1 << 1 // the records are a zstd frame
	flagsKnown     = flagAtomic | flagCompressed

	headBytes    = len(magic) + 2
	compressFrom = 1 << 10  // records of fewer bytes are left as they are
	commandMax   = 64 << 20 // of records, decompressed
)

// errForeign: what was read is no command of this program at all.
var errForeign = errors.New("no command")

// codec encodes and decodes commands. Safe for concurrent use.
type codec struct {
	zip   *zstd.Encoder
	unzip *zstd.Decoder
}

func newCodec() (c codec, err error) {
	if c.zip, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true)); err != nil {
		return codec{}, err
	}
	c.unzip, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(commandMax), zstd.WithDecoderConcurrency(1))
	return c, err
}

func (c codec) close() {
	if c.unzip != nil {
		c.unzip.Close()
	}
}

// encode needs a command that file.Journal.Check found nothing wrong with, and that has something to do.
func (c codec) encode(cmd *file.Command) []byte {
	var flags byte
	var w writer
	switch {
	case cmd.Append != nil:
		if cmd.Append.Atomic {
			flags |= flagAtomic
		}
		w.batch(cmd.Append)
	case cmd.Cut != nil:
		w.put(&record.Record{Kind: record.KindCut, ReceivedAt: epoch(), Event: meter.Event{Time: cmd.Cut.At}, CustomerID: cmd.Cut.CustomerID})
	case cmd.Revise != nil:
		w.revisions(cmd.Revise)
	case cmd.Order != nil:
		o := cmd.Order
		w.put(&record.Record{
			Kind: record.KindErasure, ReceivedAt: o.At, Event: meter.Event{Time: epoch(), Subject: o.Subject}, First: o.First, Last: o.Last,
			Reference: &record.Reference{Actor: o.Actor, Reason: o.Reason},
		})
	default:
		for _, d := range cmd.Seal {
			w.put(&record.Record{Kind: record.KindSeal, ReceivedAt: epoch(), Event: meter.Event{Time: epoch()}, Document: d})
		}
	}
	if len(w.buf) >= compressFrom {
		head := append([]byte(magic), version, flags|flagCompressed)
		return c.zip.EncodeAll(w.buf, head)
	}
	return append(append([]byte(magic), version, flags), w.buf...)
}

func epoch() time.Time { return time.UnixMicro(0).UTC() }

// writer puts records one behind the other.
type writer struct {
	buf []byte
	n   uint64
}

func (w *writer) put(r *record.Record) {
	from := len(w.buf)
	w.buf = r.Append(w.buf)
	w.n++
	record.Seal(w.buf[from:], w.n)
}

func (w *writer) batch(b *store.Batch) {
	w.put(&record.Record{
		Kind: record.KindBatch, ReceivedAt: b.ReceivedAt, Event: meter.Event{Time: epoch()}, Producer: b.Producer, Node: b.Node, Epoch: b.Epoch,
		First: b.First, Last: b.Last, Totals: b.Totals, Signature: b.Signature, SignerKey: b.KeyID,
	})
	for i := range b.Entries {
		e := &b.Entries[i]
		w.put(&record.Record{
			Kind: record.KindEvent, Flags: e.Flags, ReceivedAt: epoch(), Event: e.Event, Origin: e.Origin, Resolutions: e.Resolutions,
			Receipt: e.Receipt, KeyID: e.KeyID, Unit: e.Unit,
		})
	}
	for _, m := range b.Marks {
		w.put(&record.Record{Kind: record.KindMark, Flags: m.Flags, ReceivedAt: epoch(), Event: meter.Event{Source: m.Source, ID: m.ID, Time: epoch()}})
	}
}

// revisions have their condition (Revision.If) where a record of the journal has the event's position.
func (w *writer) revisions(r *store.Revisions) {
	for i := range r.List {
		v := &r.List[i]
		e := v.Event
		e.Source, e.ID = v.Source, v.ID
		w.put(&record.Record{
			Kind: revisionKind(v.Kind), ReceivedAt: r.At, Event: e, Resolutions: v.Resolutions,
			Reference: &record.Reference{Target: v.If, Actor: r.Actor, Reason: r.Reason},
		})
	}
}

func revisionKind(k store.RevisionKind) record.Kind {
	switch k {
	case store.Amend:
		return record.KindAmend
	case store.Void:
		return record.KindVoid
	case store.Resolve:
		return record.KindResolve
	}
	return 0
}

// decode reads a command; nothing of it points into value. errForeign, store.ErrNewer, store.ErrCorrupt.
func (c codec) decode(value []byte) (file.Command, error) {
	if len(value) < headBytes || !bytes.HasPrefix(value, []byte(magic)) {
		return file.Command{}, errForeign
	}
	v, flags, body := value[len(magic)], value[len(magic)+1], value[headBytes:]
	if v != version || flags&^flagsKnown != 0 {
		return file.Command{}, fmt.Errorf("a command of version %d with flags %#x, which this program does not know: use the one that wrote it: %w",
			v, flags, store.ErrNewer)
	}
	if flags&flagCompressed != 0 {
		var err error
		if body, err = c.unzip.DecodeAll(body, nil); err != nil {
			return file.Command{}, corrupt(err)
		}
	}
	r := reader{atomic: flags&flagAtomic != 0, in: record.NewInterner()}
	if err := record.Split(body, func(_ int, body []byte) error { return r.take(body) }); err != nil {
		return file.Command{}, err
	}
	if r.n == 0 {
		return file.Command{}, corrupt(errors.New("a command without records"))
	}
	return r.cmd, nil
}

func corrupt(err error) error { return fmt.Errorf("%w: %w", err, store.ErrCorrupt) }

// reader makes a command of its records.
type reader struct {
	cmd    file.Command
	atomic bool
	in     *record.Interner
	parsed record.Parsed
	n      int
}

func (r *reader) take(body []byte) error {
	if err := r.parsed.Parse(body); err != nil {
		return corrupt(err)
	}
	rec, err := r.parsed.Record(r.in)
	if err != nil {
		return corrupt(err)
	}
	if len(rec.HeadExt)+len(rec.PayloadExt) > 0 { // leaving it out would make this replica another one
		return fmt.Errorf("a command with fields that this program does not know: use the one that wrote it: %w", store.ErrNewer)
	}
	r.n++
	if !r.one(&rec) {
		return corrupt(fmt.Errorf("a record of kind %d does not go with this command", rec.Kind))
	}
	return nil
}

// one takes a record in; false: it does not belong here.
func (r *reader) one(rec *record.Record) bool {
	first, cmd := r.n == 1, &r.cmd
	switch rec.Kind {
	case record.KindBatch:
		cmd.Append = &store.Batch{
			Producer: rec.Producer, Node: rec.Node, Epoch: rec.Epoch, First: rec.First, Last: rec.Last, Totals: rec.Totals,
			ReceivedAt: rec.ReceivedAt, Signature: rec.Signature, KeyID: rec.SignerKey, Atomic: r.atomic,
		}
		return first
	case record.KindEvent:
		if cmd.Append == nil {
			return false
		}
		cmd.Append.Entries = append(cmd.Append.Entries, store.Entry{
			Event: rec.Event, Origin: rec.Origin, Resolutions: rec.Resolutions, Receipt: rec.Receipt, Flags: rec.Flags, KeyID: rec.KeyID, Unit: rec.Unit,
		})
	case record.KindMark:
		if cmd.Append == nil {
			return false
		}
		cmd.Append.Marks = append(cmd.Append.Marks, store.Mark{Source: rec.Event.Source, ID: rec.Event.ID, Flags: rec.Flags})
	case record.KindCut:
		cmd.Cut = &file.Cut{CustomerID: rec.CustomerID, At: rec.Event.Time}
		return first
	case record.KindAmend, record.KindVoid, record.KindResolve:
		return r.revision(rec, first)
	case record.KindErasure:
		if rec.Reference == nil {
			return false
		}
		cmd.Order = &file.Order{
			Subject: rec.Event.Subject, First: rec.First, Last: rec.Last, Actor: rec.Reference.Actor, Reason: rec.Reference.Reason, At: rec.ReceivedAt,
		}
		return first
	case record.KindSeal:
		cmd.Seal = append(cmd.Seal, rec.Document)
		return r.n == len(cmd.Seal)
	case record.KindBackfill:
		return false
	default:
		return false
	}
	return true
}

func (r *reader) revision(rec *record.Record, first bool) bool {
	if first {
		r.cmd.Revise = &store.Revisions{At: rec.ReceivedAt}
	}
	all := r.cmd.Revise
	if all == nil || rec.Reference == nil {
		return false
	}
	all.Actor, all.Reason = rec.Reference.Actor, rec.Reference.Reason
	v := store.Revision{Source: rec.Event.Source, ID: rec.Event.ID, Event: rec.Event, Resolutions: rec.Resolutions, If: rec.Reference.Target}
	for _, k := range []store.RevisionKind{store.Amend, store.Void, store.Resolve} {
		if revisionKind(k) == rec.Kind {
			v.Kind = k
		}
	}
	all.List = append(all.List, v)
	return true
}
