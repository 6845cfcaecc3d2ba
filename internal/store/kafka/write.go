package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// keyBytes is a command's key: who sent it, and its number there.
const keyBytes = 16 + 8

func (j *Journal) key(number uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, keyBytes), j.instance[:]...), number)
}

// own is the number of a command of this process, by its key; 0: another one's.
func (j *Journal) own(key []byte) uint64 {
	if len(key) != keyBytes || [16]byte(key[:16]) != j.instance {
		return 0
	}
	return binary.BigEndian.Uint64(key[16:])
}

// Append implements store.Journal. store.ErrUnknown: Kafka did not answer in time, and the batch may be appended or not, now or
// later; appending it again is harmless.
func (j *Journal) Append(ctx context.Context, b store.Batch) ([]store.Result, error) {
	idle := len(b.Entries)+len(b.Totals)+len(b.Marks) == 0
	a, err := j.call(ctx, file.Command{Append: &b}, idle)
	if err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	if idle {
		return []store.Result{}, nil
	}
	return a.Results, nil
}

// Cut implements store.Journal.
func (j *Journal) Cut(ctx context.Context, customerID string, at time.Time) error {
	if _, err := j.call(ctx, file.Command{Cut: &file.Cut{CustomerID: customerID, At: at}}, false); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	return nil
}

// Revise implements store.Journal. After store.ErrUnknown read the events again.
func (j *Journal) Revise(ctx context.Context, r store.Revisions) ([]uint64, error) {
	a, err := j.call(ctx, file.Command{Revise: &r}, len(r.List) == 0)
	if err != nil {
		return nil, fmt.Errorf("revise: %w", err)
	}
	if len(r.List) == 0 {
		return []uint64{}, nil
	}
	return a.Revisions, nil
}

// Seal implements store.Journal. After store.ErrUnknown the documents may be there; sealing them again appends them once more.
func (j *Journal) Seal(ctx context.Context, documents ...[]byte) (uint64, error) {
	a, err := j.call(ctx, file.Command{Seal: documents}, false)
	if err != nil {
		return 0, fmt.Errorf("seal: %w", err)
	}
	return a.Position, nil
}

// Erase orders that the content of a subject is erased, on every server: from then on none serves it, and the Compact of each takes
// it off its disk. The topic keeps it until the commands before that position are dropped from it; docs/journal-kafka.md.
func (j *Journal) Erase(ctx context.Context, subject, actor, reason string, at time.Time) (uint64, error) {
	position, err := j.order(ctx, file.Order{Subject: subject, Actor: actor, Reason: reason, At: at})
	if err != nil {
		return 0, fmt.Errorf("erase: %w", err)
	}
	return position, nil
}

// Retain orders that the content of a range of records is erased, on every server: of those that this process's oldest segment
// with content holds, when all were received before the instant.
func (j *Journal) Retain(ctx context.Context, before, now time.Time) (bool, error) {
	o, ok, err := j.local.Expired(ctx, before, now)
	if err != nil || !ok {
		return false, err
	}
	if _, err := j.order(ctx, o); err != nil {
		return false, fmt.Errorf("retain: %w", err)
	}
	return true, nil
}

func (j *Journal) order(ctx context.Context, o file.Order) (uint64, error) {
	if err := j.local.MayErase(); err != nil {
		return 0, err
	}
	a, err := j.call(ctx, file.Command{Order: &o}, false)
	return a.Position, err
}

// Erasing is how many erasures the Compact of this process has still to carry out.
func (j *Journal) Erasing() int { return j.local.Erasing() }

// call sends a command and waits until this process has applied it.
func (j *Journal) call(ctx context.Context, cmd file.Command, idle bool) (file.Answer, error) {
	if err := j.enter(ctx); err != nil {
		return file.Answer{}, err
	}
	defer j.leave()
	if err := j.local.Check(cmd); err != nil || idle {
		return file.Answer{}, err
	}
	value := j.codec.encode(&cmd)
	if len(value) > j.topic.valueMax {
		return file.Answer{}, fmt.Errorf("the command has %d bytes, and topic %s takes %d: send it in parts, or raise max.message.bytes of the topic: %w",
			len(value), j.cfg.Topic, j.topic.valueMax, store.ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(ctx, j.cfg.Timeout)
	defer cancel()
	answer := make(chan file.Answer, 1)
	number := j.await(answer)
	defer j.abandon(number)
	sent := make(chan error, 1)
	r := &kgo.Record{Topic: j.cfg.Topic, Key: j.key(number), Value: value}
	// A call that ends leaves its command on its way: taking it back is not possible for sure.
	j.client.TryProduce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) {
		if err != nil {
			sent <- err
		}
	})
	for {
		j.mu.Lock()
		broken, moved := j.broken, j.moved
		j.mu.Unlock()
		select {
		case a := <-answer:
			return a, a.Err
		case err := <-sent:
			j.stats.errors.Add(1)
			return file.Answer{}, j.refused(err)
		case <-ctx.Done():
			j.stats.unknown.Add(1)
			return file.Answer{}, fmt.Errorf("topic %s did not answer: %w: %w", j.cfg.Topic, ctx.Err(), store.ErrUnknown)
		case <-moved:
		}
		if broken != nil {
			select {
			case a := <-answer:
				return a, a.Err
			default:
				return file.Answer{}, broken
			}
		}
	}
}

// await gives a command a number under which it is answered.
func (j *Journal) await(answer chan<- file.Answer) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.number++
	j.waiting[j.number] = answer
	return j.number
}

func (j *Journal) abandon(number uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.waiting, number)
}

// refused says what became of a command that could not be sent.
func (j *Journal) refused(err error) error {
	switch {
	case errors.Is(err, kgo.ErrMaxBuffered):
		return fmt.Errorf("%d commands wait for topic %s: %w", maxBuffered, j.cfg.Topic, store.ErrFull)
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return fmt.Errorf("topic %s: %w: send it in parts, or raise max.message.bytes: %w", j.cfg.Topic, err, store.ErrInvalid)
	}
	j.stats.unknown.Add(1)
	for _, final := range []error{
		kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch, kerr.InvalidProducerIDMapping, kerr.ProducerFenced,
		kerr.TopicAuthorizationFailed, kerr.UnknownTopicID,
	} {
		if errors.Is(err, final) {
			j.fail("write topic "+j.cfg.Topic, err)
		}
	}
	return fmt.Errorf("topic %s: %w: %w", j.cfg.Topic, err, store.ErrUnknown)
}
