package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// pollMost is how many records are taken from the client at a time.
const pollMost = 2048

// run applies what comes in the topic until ctx ends or something fails. It is the only writer of the local journal.
func (j *Journal) run(ctx context.Context) {
	defer close(j.ended)
	for {
		fetches := j.client.PollRecords(ctx, pollMost)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { j.knows(p.HighWatermark) })
		if err := lost(fetches); err != nil {
			j.fail("read topic "+j.cfg.Topic, err)
			return
		}
		if err := j.take(ctx, fetches.Records()); err != nil {
			if ctx.Err() == nil {
				j.fail("apply topic "+j.cfg.Topic, err)
			}
			return
		}
	}
}

// lost is an error of a fetch after which reading cannot go on; the client tries the others again by itself.
func lost(fetches kgo.Fetches) (err error) {
	fetches.EachError(func(_ string, _ int32, e error) {
		var loss *kgo.ErrDataLoss
		if errors.As(e, &loss) || !kerr.IsRetriable(e) && isKafka(e) {
			err = e
		}
	})
	return err
}

func isKafka(err error) bool {
	var e *kerr.Error
	return errors.As(err, &e)
}

// due is a command on its way to the local journal, and whom to answer.
type due struct {
	offset int64
	mine   uint64 // its number in this process; 0: of another one
}

// take applies records in their order.
func (j *Journal) take(ctx context.Context, records []*kgo.Record) error {
	var commands []file.Command
	var whose []due
	for _, r := range records {
		j.mu.Lock()
		next := j.next
		j.mu.Unlock()
		if r.Offset < next {
			continue // applied before: a reader that began anew
		}
		if r.Attrs.IsControl() {
			continue
		}
		cmd, err := j.codec.decode(r.Value)
		if errors.Is(err, errForeign) {
			j.stats.foreign.Add(1)
			continue
		}
		if err != nil {
			// What stands before it is applied by all.
			return errors.Join(j.apply(ctx, commands, whose), fmt.Errorf("the command at offset %d: %w", r.Offset, err))
		}
		cmd.Number = uint64(r.Offset) + 1 //nolint:gosec // offsets count from 0
		commands, whose = append(commands, cmd), append(whose, due{r.Offset, j.own(r.Key)})
	}
	if err := j.apply(ctx, commands, whose); err != nil {
		return err
	}
	if len(records) > 0 {
		j.advance(records[len(records)-1].Offset + 1) // what is no command, too
	}
	return nil
}

// apply has the local journal carry commands out. While the local disk is full it waits: nothing may be left out.
func (j *Journal) apply(ctx context.Context, commands []file.Command, whose []due) error {
	for len(commands) > 0 {
		answers, err := j.local.Apply(ctx, commands)
		for i, a := range answers {
			j.advance(whose[i].offset + 1)
			j.answer(whose[i].mine, a)
		}
		j.stats.commands.Add(int64(len(answers)))
		commands, whose = commands[len(answers):], whose[len(answers):]
		if err == nil {
			continue
		}
		if !errors.Is(err, store.ErrFull) {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// advance says that everything before an offset is applied.
func (j *Journal) advance(next int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if next > j.next {
		j.next = next
		close(j.moved)
		j.moved = make(chan struct{})
	}
}

// answer tells who waits for a command of this process.
func (j *Journal) answer(number uint64, a file.Answer) {
	if number == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if to, ok := j.waiting[number]; ok {
		delete(j.waiting, number)
		to <- a // it has room for one
	}
}

// reach waits until everything before an offset is applied.
func (j *Journal) reach(ctx context.Context, next int64) error {
	for {
		j.mu.Lock()
		done, broken, moved := j.next >= next, j.broken, j.moved
		j.mu.Unlock()
		if done || broken != nil {
			return broken
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
