package journal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// batch is an Append on its way.
type batch struct {
	store.Batch
	head    []byte
	entries []prepared
	marks   [][]byte
	results []store.Result
	size    int
}

type prepared struct {
	identity, digest [16]byte
	record           []byte
	traits           [][]byte // of each resolution
}

// Append implements store.Journal.
func (j *Journal) Append(ctx context.Context, b store.Batch) ([]store.Result, error) {
	if err := j.enter(ctx); err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	defer j.leave()
	c := &batch{Batch: b}
	if err := c.prepare(); err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	if err := j.submit(ctx, &call{size: c.size, need: c.need, stage: c.stage}); err != nil {
		return nil, wrap("append", err)
	}
	return c.results, nil
}

// recordRoom is what most records of events need.
const recordRoom = 256

// prepare checks and encodes all that does not depend on the journal's state.
func (c *batch) prepare() error {
	b := &c.Batch
	if err := record.CheckBatch(b); err != nil {
		return err
	}
	if err := keepableBatch(b); err != nil {
		return err
	}
	r := record.Record{Kind: record.KindEvent, ReceivedAt: b.ReceivedAt}
	c.entries = make([]prepared, 0, len(b.Entries))
	for i := range b.Entries {
		e := &b.Entries[i]
		r.Flags, r.Event, r.Origin, r.Resolutions, r.Receipt, r.KeyID = e.Flags, e.Event, e.Origin, e.Resolutions, e.Receipt, e.KeyID
		r.Digest, r.Unit = e.Event.Digest(), e.Unit
		p := prepared{identity: e.Event.Identity(), digest: r.Digest, record: r.Append(make([]byte, 0, recordRoom)), traits: make([][]byte, len(e.Resolutions))}
		for k := range e.Resolutions {
			var err error
			if p.traits[k], err = traitsOf(&e.Resolutions[k]); err != nil {
				return fmt.Errorf("entry %d: %w", i, err)
			}
		}
		if len(p.record) > record.BodyMax {
			return invalid("entry %d: an event has at most %d bytes, dimensions included", i, record.BodyMax)
		}
		c.entries = append(c.entries, p)
		if c.size += len(p.record); c.size > record.MaxBatchBytes {
			return invalid("a batch has at most %d bytes: send it in parts", record.MaxBatchBytes)
		}
	}
	h := record.Record{
		Kind: record.KindBatch, ReceivedAt: b.ReceivedAt, Event: meter.Event{Time: time.UnixMicro(0)}, Producer: b.Producer,
		Node: b.Node, Epoch: b.Epoch, First: b.First, Last: b.Last, Totals: b.Totals, Signature: b.Signature, SignerKey: b.KeyID,
	}
	if c.head = h.Append(nil); len(c.head) > record.BodyMax {
		return invalid("the admitted totals have more than %d bytes: send them in parts", record.BodyMax)
	}
	for i := range b.Marks {
		m := &b.Marks[i]
		r := record.Record{Kind: record.KindMark, ReceivedAt: b.ReceivedAt, Flags: m.Flags, Event: meter.Event{Source: m.Source, ID: m.ID, Time: time.UnixMicro(0)}}
		c.marks = append(c.marks, r.Append(nil))
		c.size += len(c.marks[i])
	}
	if c.size += len(c.head); c.size > record.MaxBatchBytes {
		return invalid("a batch has at most %d bytes: send it in parts", record.MaxBatchBytes)
	}
	c.results = make([]store.Result, len(b.Entries))
	return nil
}

func (c *batch) need(n *needs) {
	n.entries, n.reads = slices.Grow(n.entries, len(c.entries)), slices.Grow(n.reads, len(c.entries))
	for i := range c.entries {
		n.entries = append(n.entries, c.entries[i].identity)
		n.resolutions(c.Entries[i].Resolutions, c.Entries[i].Event.Time.UnixMicro())
	}
	for i := range c.Marks {
		n.marked = append(n.marked, meter.IdentityOf(c.Marks[i].Source, c.Marks[i].ID))
	}
	for i := range c.Totals {
		n.totals = append(n.totals, c.total(i))
	}
}

func (c *batch) total(i int) totalKey {
	t := &c.Totals[i]
	return totalKey{SeriesKey: store.SeriesKey{CustomerID: t.CustomerID, Meter: t.Meter}, period: t.PeriodStart, node: c.Node, epoch: c.Epoch}
}

// put stages a record that is no event under the next position.
func (g *group) put(target uint64, encoded []byte) uint64 {
	position := g.next()
	record.Seal(encoded, position)
	g.now.others = append(g.now.others, other{position: position, target: target, body: record.Body(encoded)})
	return position
}

func (c *batch) stage(ctx context.Context, g *group) error {
	first := g.position
	g.put(0, c.head) // taken back when nothing follows and no total changed
	wrote, err := c.stageEntries(ctx, g)
	if err != nil {
		return err
	}
	if c.Atomic && slices.ContainsFunc(c.results, func(r store.Result) bool { return r.Outcome == store.Conflict }) {
		for i := range c.results {
			if c.results[i].Position > first {
				c.results[i].Position = 0 // none of it is written
			}
		}
		return errTakenBack
	}
	totalled := false
	for i := range c.Totals {
		k := c.total(i)
		was, ok := find(k, g.now.totals, g.all.totals, g.loaded.totals)
		if !ok || c.Totals[i].Total.Cmp(was) > 0 {
			g.now.totals[k] = c.Totals[i].Total
			totalled = true
		}
	}
	marked, err := c.stageMarks(g)
	if err != nil {
		return err
	}
	if !wrote && !marked && !totalled {
		return errTakenBack
	}
	return nil
}

func (c *batch) stageEntries(ctx context.Context, g *group) (wrote bool, err error) {
	for i := range c.entries {
		e, res := &c.entries[i], &c.results[i]
		*res = store.Result{Digest: e.digest}
		if h, ok := g.held(e.identity); ok {
			g.met = true
			res.Outcome, res.Position, res.Stored = store.Duplicate, h.position, e.digest
			if h.digest != e.digest {
				res.Outcome, res.Stored = store.Conflict, h.digest
			}
			continue
		}
		entry := &c.Entries[i]
		position := g.next()
		record.Seal(e.record, position)
		at := entry.Event.Time.UnixMicro()
		for k := range entry.Resolutions {
			one := contribution{at: at, cause: position, event: position, origin: entry.Origin, traits: e.traits[k]}
			if err := g.contribute(ctx, &entry.Resolutions[k], one); err != nil {
				return false, fmt.Errorf("entry %d: %w", i, err)
			}
		}
		unmatched := len(entry.Resolutions) == 0 && !entry.Flags.Uncounted()
		g.now.ids[e.identity] = held{position: position, digest: e.digest}
		g.now.events = append(g.now.events, event{
			identity: e.identity, position: position, digest: e.digest, at: at, received: c.ReceivedAt.UnixMicro(), unmatched: unmatched, unit: entry.Unit,
			body: record.Body(e.record),
		})
		res.Outcome, res.Position, res.Stored = store.Accepted, position, e.digest
		if unmatched {
			res.Outcome = store.Unmatched
		}
		wrote = true
	}
	return wrote, nil
}

func (c *batch) stageMarks(g *group) (changed bool, err error) {
	for i := range c.Marks {
		m := &c.Marks[i]
		id := identity(meter.IdentityOf(m.Source, m.ID))
		h, ok := g.held(id)
		if !ok {
			return false, fmt.Errorf("mark %d: event %q of %q: %w", i, m.ID, m.Source, store.ErrNotFound)
		}
		if h.marks|m.Flags == h.marks {
			continue
		}
		h.marks |= m.Flags
		g.now.ids[id], g.now.marked[id] = h, true
		g.put(0, c.marks[i])
		changed = true
	}
	return changed, nil
}
