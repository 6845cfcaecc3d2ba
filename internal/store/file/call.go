package file

import (
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// call is one Append, Cut, Revise or Seal on its way. It is encoded by its own goroutine, before it joins a group.
type call struct {
	batch   store.Batch
	entries []prepared
	buf     []byte // records: of the entries, then the batch's, then of the marks
	head    span   // the batch's record in buf
	marks   []span
	// alone stages a call that is a group of its own, by the leader. apply makes it part of the index once it is durable; nil:
	// there is nothing to write.
	alone func() (apply func(), err error)

	command uint64 // its number in the ordered log outside; 0: none
	decided bool   // of a command: its outcome is what every replica finds
	pending bool   // its outcome rests on what the group writes
	results []store.Result
	err     error

	queued, leading bool // guarded by the queue
	wake            chan struct{}
}

// prepared is an entry with all that does not depend on the journal's state.
type prepared struct {
	identity, digest [16]byte
	record           span
}

type span struct{ from, to int }

// keepBytes is how much room a call keeps for the next one.
const keepBytes = 1 << 20

func (j *Journal) recycle(c *call) {
	buf, entries, marks, wake := c.buf[:0], c.entries[:0], c.marks[:0], c.wake
	if cap(buf) > keepBytes {
		buf, entries = nil, nil
	}
	*c = call{buf: buf, entries: entries, marks: marks, wake: wake}
	j.pool.Put(c)
}

func (c *call) size() int { return len(c.buf) }

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, store.ErrInvalid)...)
}

// prepare checks and encodes a batch.
func (c *call) prepare(b *store.Batch) error {
	c.batch = *b
	if err := record.CheckBatch(b); err != nil {
		return err
	}
	r := record.Record{Kind: record.KindEvent, ReceivedAt: b.ReceivedAt}
	for i := range b.Entries {
		e := &b.Entries[i]
		r.Flags, r.Event, r.Origin, r.Resolutions, r.Receipt, r.KeyID = e.Flags, e.Event, e.Origin, e.Resolutions, e.Receipt, e.KeyID
		r.Digest, r.Unit = e.Event.Digest(), e.Unit
		c.entries = append(c.entries, prepared{identity: e.Event.Identity(), digest: r.Digest, record: c.encode(&r)})
		if rec := c.entries[i].record; rec.to-rec.from > record.BodyMax {
			return invalid("entry %d: an event has at most %d bytes, dimensions included", i, record.BodyMax)
		}
		if len(c.buf) > record.MaxBatchBytes {
			return invalid("a batch has at most %d bytes: send it in parts", record.MaxBatchBytes)
		}
	}
	if err := c.prepareHead(b); err != nil {
		return err
	}
	for i := range b.Marks {
		m := &b.Marks[i]
		r := record.Record{Kind: record.KindMark, ReceivedAt: b.ReceivedAt, Flags: m.Flags, Event: meter.Event{Source: m.Source, ID: m.ID, Time: time.UnixMicro(0)}}
		c.marks = append(c.marks, c.encode(&r))
	}
	if len(c.buf) > record.MaxBatchBytes {
		return invalid("a batch has at most %d bytes: send it in parts", record.MaxBatchBytes)
	}
	c.results = make([]store.Result, len(b.Entries))
	return nil
}

func (c *call) prepareHead(b *store.Batch) error {
	c.head = c.encode(&record.Record{
		Kind: record.KindBatch, ReceivedAt: b.ReceivedAt, Event: meter.Event{Time: time.UnixMicro(0)}, Producer: b.Producer,
		Node: b.Node, Epoch: b.Epoch, First: b.First, Last: b.Last, Totals: b.Totals,
		Signature: b.Signature, SignerKey: b.KeyID, Command: c.command,
	})
	if c.head.to-c.head.from > record.BodyMax {
		return invalid("the admitted totals have more than %d bytes: send them in parts", record.BodyMax)
	}
	return nil
}

func (c *call) encode(r *record.Record) span {
	from := len(c.buf)
	c.buf = r.Append(c.buf)
	return span{from, len(c.buf)}
}
