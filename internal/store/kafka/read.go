package kafka

import (
	"context"
	"fmt"

	"github.com/tallystick/tallystick/internal/store"
)

// asking is one question for the end of the topic; those who came before it was sent share the answer.
type asking struct {
	done chan struct{}
	end  int64
	err  error
}

// latest waits until this process has applied what any process was answered for before the call.
func (j *Journal) latest(ctx context.Context) error {
	if j.cfg.LocalReads {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, j.cfg.Timeout)
	defer cancel()
	end, err := j.ask(ctx)
	if err == nil {
		j.mu.Lock()
		behind := j.next < end
		j.mu.Unlock()
		if behind {
			j.stats.waits.Add(1)
		}
		err = j.reach(ctx, end)
	}
	if err != nil {
		return fmt.Errorf("wait for the newest of topic %s: %w", j.cfg.Topic, err)
	}
	return nil
}

// ask gets the end of the topic by a question that was sent after the call began. One is under way at a time; those who come
// meanwhile share the next one.
func (j *Journal) ask(ctx context.Context) (int64, error) {
	for {
		j.mu.Lock()
		if j.asking == nil {
			j.asking = &asking{done: make(chan struct{})}
		}
		q := j.asking
		j.mu.Unlock()
		select {
		case <-q.done:
		case j.turn <- struct{}{}:
			j.send(ctx, q)
			<-j.turn
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if q.err == nil || ctx.Err() != nil {
			return q.end, q.err
		} // else the one who asked may have gone
		if err := pause(ctx); err != nil {
			return 0, q.err
		}
	}
}

// send asks, if nobody has yet. The turn must be held.
func (j *Journal) send(ctx context.Context, q *asking) {
	j.mu.Lock()
	mine := j.asking == q
	if mine {
		j.asking = nil // who comes from here on is not sure to be in time
	}
	j.mu.Unlock()
	if mine {
		q.end, q.err = offset(ctx, j.client, j.cfg.Topic, -1)
		j.knows(q.end)
		close(q.done)
	}
}

// View implements store.Journal. Like all that reads but Leaves, it sees what any process was answered for before.
func (j *Journal) View(ctx context.Context, read func(store.View) error) error {
	if err := j.enter(ctx); err != nil {
		return fmt.Errorf("view: %w", err)
	}
	defer j.leave()
	if err := j.latest(ctx); err != nil {
		return fmt.Errorf("view: %w", err)
	}
	return j.local.View(ctx, read)
}

// Scan implements store.Journal.
func (j *Journal) Scan(ctx context.Context, s store.Scan) (store.Page, error) {
	if err := j.enter(ctx); err != nil {
		return store.Page{}, fmt.Errorf("scan: %w", err)
	}
	defer j.leave()
	if err := j.latest(ctx); err != nil {
		return store.Page{}, fmt.Errorf("scan: %w", err)
	}
	return j.local.Scan(ctx, s)
}

// Event implements store.Journal.
func (j *Journal) Event(ctx context.Context, source, id string) (store.Record, error) {
	if err := j.enter(ctx); err != nil {
		return store.Record{}, fmt.Errorf("event: %w", err)
	}
	defer j.leave()
	if err := j.latest(ctx); err != nil {
		return store.Record{}, fmt.Errorf("event: %w", err)
	}
	return j.local.Event(ctx, source, id)
}

// History implements store.Journal.
func (j *Journal) History(ctx context.Context, source, id string) ([]store.Revised, error) {
	if err := j.enter(ctx); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer j.leave()
	if err := j.latest(ctx); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return j.local.History(ctx, source, id)
}

// Leaves implements store.Journal, of what this process has applied.
func (j *Journal) Leaves(ctx context.Context, from uint64, limit int, each func(store.Leaf) error) (uint64, error) {
	if err := j.enter(ctx); err != nil {
		return from, fmt.Errorf("leaves: %w", err)
	}
	defer j.leave()
	return j.local.Leaves(ctx, from, limit, each)
}
