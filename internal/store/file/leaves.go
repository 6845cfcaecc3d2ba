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
func (j *Journal) Seal(ctx context.Context, documents ...[]byte) (uint64, error) {
	if err := j.enter(ctx); err != nil {
		return 0, fmt.Errorf("seal: %w", err)
	}
	defer j.leave()
	c, _ := j.pool.Get().(*call)
	defer j.recycle(c)
	position, err := j.prepareSeal(c, documents)
	if err == nil {
		err = j.submit(ctx, c)
	}
	if err != nil {
		return 0, fmt.Errorf("seal: %w", err)
	}
	return *position, nil
}

// prepareSeal checks documents and has the call append them as records that the index does not look at. The position of the
// first is known when they are staged.
func (j *Journal) prepareSeal(c *call, documents [][]byte) (position *uint64, err error) {
	spans, bytes := make([]span, len(documents)), 0
	command := c.command
	for i, d := range documents {
		if len(d) == 0 || len(d) > record.MaxDocument {
			return nil, invalid("a document has 1 to %d bytes", record.MaxDocument)
		}
		bytes += len(d)
		spans[i] = c.encode(&record.Record{
			Kind: record.KindSeal, ReceivedAt: time.UnixMicro(0), Event: meter.Event{Time: time.UnixMicro(0)}, Document: d, Command: command,
		})
		command = 0
	}
	if len(documents) == 0 || bytes > record.MaxDocuments {
		return nil, invalid("documents have 1 to %d bytes together", record.MaxDocuments)
	}
	position = new(uint64)
	c.alone = func() (func(), error) {
		for i, s := range spans {
			j.put(c, s)
			if i == 0 {
				*position = j.group.Position()
			}
		}
		return func() { j.index.Apply(j.group) }, nil
	}
	return position, nil
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
