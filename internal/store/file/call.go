package file

import (
	"fmt"
	"time"
	"unicode/utf8"

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
	if len(b.Entries) > MaxBatchEntries || len(b.Totals) > MaxBatchEntries || len(b.Marks) > MaxBatchEntries {
		return invalid("a batch has at most %d entries, totals and marks each: send it in parts", MaxBatchEntries)
	}
	r := record.Record{Kind: record.KindEvent, ReceivedAt: b.ReceivedAt}
	for i := range b.Entries {
		e := &b.Entries[i]
		if err := check(e); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		r.Flags, r.Event, r.Origin, r.Resolutions, r.Receipt, r.KeyID = e.Flags, e.Event, e.Origin, e.Resolutions, e.Receipt, e.KeyID
		r.Digest, r.Unit = e.Event.Digest(), e.Unit
		c.entries = append(c.entries, prepared{identity: e.Event.Identity(), digest: r.Digest, record: c.encode(&r)})
		if rec := c.entries[i].record; rec.to-rec.from > record.BodyMax {
			return invalid("entry %d: an event has at most %d bytes, dimensions included", i, record.BodyMax)
		}
		if len(c.buf) > MaxBatchBytes {
			return invalid("a batch has at most %d bytes: send it in parts", MaxBatchBytes)
		}
	}
	if err := c.prepareHead(b); err != nil {
		return err
	}
	for i := range b.Marks {
		m := &b.Marks[i]
		if !text(m.Source, 1) || !text(m.ID, 1) || m.Flags == 0 || m.Flags.Uncounted() {
			return invalid("mark %d: source, id and flags are needed, other ones than Held and Filtered", i)
		}
		r := record.Record{Kind: record.KindMark, ReceivedAt: b.ReceivedAt, Flags: m.Flags, Event: meter.Event{Source: m.Source, ID: m.ID, Time: time.UnixMicro(0)}}
		c.marks = append(c.marks, c.encode(&r))
	}
	if len(c.buf) > MaxBatchBytes {
		return invalid("a batch has at most %d bytes: send it in parts", MaxBatchBytes)
	}
	c.results = make([]store.Result, len(b.Entries))
	return nil
}

func (c *call) prepareHead(b *store.Batch) error {
	if !text(b.Producer, 0) {
		return invalid("producer: not a text of at most %d bytes", MaxText)
	}
	for i := range b.Totals {
		t := &b.Totals[i]
		if !text(t.CustomerID, 1) || !text(t.Meter, 1) || t.Total.Sign() < 0 {
			return invalid("admitted total %d: customer, meter and a total of at least 0 are needed", i)
		}
	}
	if len(b.Signature) > MaxText || !text(b.KeyID, 0) {
		return invalid("a signature and its key's id have at most %d bytes", MaxText)
	}
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

// check refuses what could not be read back or is no usage event.
func check(e *store.Entry) error {
	v := &e.Event
	switch {
	case !text(v.Source, 1) || !text(v.ID, 1):
		return invalid("source and id must be texts of 1 to %d bytes", MaxText)
	case !text(v.TraceParent, 0) || !text(e.KeyID, 0) || !text(e.Unit, 0):
		return invalid("trace, key id and unit must be texts of at most %d bytes", MaxText)
	case len(e.Receipt) > MaxText:
		return invalid("a receipt has at most %d bytes", MaxText)
	case !instant(v.Time):
		return invalid("the event time is missing or out of range")
	case e.Origin != meter.Admitted && e.Origin != meter.Reported:
		return invalid("unknown origin %d", e.Origin)
	case e.Flags.Uncounted() && len(e.Resolutions) > 0:
		return invalid("an event that is held or filtered has no resolutions")
	}
	if err := checkContent(v); err != nil {
		return err
	}
	return checkResolutions(e.Resolutions)
}

func checkContent(v *meter.Event) error {
	switch {
	case !text(v.Type, 1):
		return invalid("the type must be a text of 1 to %d bytes", MaxText)
	case !text(v.Subject, 0):
		return invalid("the subject must be a text of at most %d bytes", MaxText)
	case len(v.Data) > MaxData || !utf8.Valid(v.Data):
		return invalid("data must be JSON of at most %d bytes", MaxData)
	}
	return nil
}

func checkResolutions(all []meter.Resolution) error {
	if len(all) > MaxResolutions {
		return invalid("an event has at most %d resolutions", MaxResolutions)
	}
	for i := range all {
		r := &all[i]
		if !text(r.CustomerID, 1) || !text(r.Meter, 1) || len(r.Dimensions) > MaxResolutions {
			return invalid("resolution %d: customer, meter and at most %d dimensions are needed", i, MaxResolutions)
		}
		if !text(r.Distinct, 0) || len(r.Distinct) > MaxDistinct {
			return invalid("resolution %d: a distinct text has at most %d bytes", i, MaxDistinct)
		}
		for _, d := range r.Dimensions {
			if !text(d.Name, 1) || !text(d.Value, 0) {
				return invalid("resolution %d: a dimension's name or value is not a text of at most %d bytes", i, MaxText)
			}
		}
		for k := range i {
			if all[k].Meter == r.Meter && all[k].CustomerID == r.CustomerID {
				return invalid("meter %s reads the event twice", r.Meter)
			}
		}
	}
	return nil
}

func text(s string, atLeast int) bool {
	return len(s) >= atLeast && len(s) <= MaxText && utf8.ValidString(s)
}

// instant: any time in the years 1 to 9999 but the zero time.
func instant(t time.Time) bool { return inRange(t.UnixMicro()) }

func inRange(micros int64) bool {
	const first, last = -62_135_596_800_000_000, 253_402_300_800_000_000
	return micros > first && micros < last
}
