package file

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// Seal implements store.Journal.
func (j *Journal) Seal(ctx context.Context, document []byte) (uint64, error) {
	if err := j.enter(ctx); err != nil {
		return 0, fmt.Errorf("seal: %w", err)
	}
	defer j.leave()
	if len(document) == 0 || len(document) > MaxDocument {
		return 0, fmt.Errorf("seal: %w", invalid("a document has 1 to %d bytes", MaxDocument))
	}
	position, err := j.appendRecord(ctx, &record.Record{
		Kind: record.KindSeal, ReceivedAt: time.UnixMicro(0), Event: meter.Event{Time: time.UnixMicro(0)}, Document: document,
	})
	if err != nil {
		return 0, fmt.Errorf("seal: %w", err)
	}
	return position, nil
}

// appendRecord appends a record that the index does not look at, and returns its position after fsync.
func (j *Journal) appendRecord(ctx context.Context, r *record.Record) (position uint64, err error) {
	c, _ := j.pool.Get().(*call)
	defer j.recycle(c)
	rec := c.encode(r)
	c.alone = func() (func(), error) {
		j.put(c, rec)
		position = j.group.Position()
		return func() { j.index.Apply(j.group) }, nil
	}
	err = j.submit(ctx, c)
	return position, err
}

// Leaves implements store.Journal.
func (j *Journal) Leaves(ctx context.Context, from uint64, limit int, each func(store.Leaf) error) (uint64, error) {
	if err := j.enter(ctx); err != nil {
		return from, fmt.Errorf("leaves: %w", err)
	}
	defer j.leave()
	if from == 0 || limit <= 0 {
		return from, fmt.Errorf("leaves: %w", invalid("positions count from 1, and a limit is needed"))
	}
	next, err := j.leaves(ctx, from, limit, each)
	if err != nil {
		return next, fmt.Errorf("leaves: %w", err)
	}
	return next, nil
}

// position of the last record that is durable.
func (j *Journal) position() uint64 {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.index.Position()
}

// leavesMany is from how many records on a scan reads in large pieces: the few that came since the last close are read as the
// index reads, since a piece for each of thousands of closes would cost more than all the rest of them.
const leavesMany = 5000

func (j *Journal) leaves(ctx context.Context, from uint64, limit int, each func(store.Leaf) error) (next uint64, err error) {
	last := j.position()
	l := newReader(j)
	if last >= from+leavesMany {
		l.window.Chunk = 0
	}
	for next = from; limit > 0 && next <= last; next++ {
		if err := ctx.Err(); err != nil {
			return next, err
		}
		p, err := l.find(next)
		if err != nil {
			return next, err
		}
		leaf := store.Leaf{Position: next, Head: p.Head(), Subject: p.Subject(), Commitment: p.Commitment(), Document: p.Document()}
		if payload := p.Payload(); len(payload) > 0 {
			leaf.Payload = payload
		}
		if p.Kind() == record.KindEvent {
			leaf.Source, leaf.ID = p.Names()
		}
		if err := j.maskLeaf(&leaf); err != nil {
			return next, err
		}
		if err := each(leaf); err != nil {
			return next, err
		}
		limit--
	}
	return next, nil
}
