package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// Journal implements store.Keeper.
type Journal struct {
	cfg    Config
	local  *file.Journal
	client *kgo.Client
	codec  codec
	topic  topic

	instance [16]byte // in the key of every command of this process
	stop     context.CancelFunc
	ended    chan struct{} // closed when run has returned

	mu      sync.Mutex
	closed  bool
	broken  error // sticky: the process must stop
	calls   sync.WaitGroup
	number  uint64 // of the last command that was sent
	waiting map[uint64]chan<- file.Answer
	next    int64         // offset of the next command to apply
	moved   chan struct{} // closed and made anew when next moves or broken is set
	kept    place         // what is written; owned by keep
	keeping sync.Mutex
	asking  *asking       // the next question for the end of the topic
	turn    chan struct{} // held by who asks it

	stats struct{ commands, foreign, unknown, errors, waits, end atomic.Int64 }
}

var (
	_ store.Keeper   = (*Journal)(nil)
	_ store.Examiner = (*Journal)(nil)
)

// Stats reads the figures of this process's files.
func (j *Journal) Stats() file.Stats { return j.local.Stats() }

// Replica is how this process stands to the topic.
type Replica struct {
	Applied  int64 // offset of the next command to apply
	End      int64 // offset behind the newest command that this process knows of; it lags by End − Applied
	Kept     int64 // commands before this offset are not needed by this process again
	Commands int64 // applied since opening
	Foreign  int64 // records in the topic that are no commands; they are passed over
	Unknown  int64 // calls that ended without knowing their outcome
	Errors   int64 // commands that Kafka did not take, or did not say so
	Waits    int64 // reads that waited for commands of others
	Pending  int   // calls that wait for their command to be applied
	Failed   bool  // the process must be started again
}

// Open examines the topic, opens this process's journal of it and applies what is there by now, as long as that takes: a folder
// that is new or was lost is made from the topic. It starts a goroutine that goes on applying, until Close; the client of Kafka has
// some of its own.
// ErrInvalid, ErrNotFound: a topic that cannot be a log; ErrConflict: the folder was made of something else, or one of the two has
// lost what the other one has; ErrNewer, ErrCorrupt.
func Open(ctx context.Context, cfg Config) (*Journal, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if len(cfg.Brokers) == 0 || cfg.Topic == "" || cfg.File.Dir == "" {
		return nil, fmt.Errorf("open journal: brokers, a topic and a folder are needed: %w", store.ErrInvalid)
	}
	cfg.File.Forget = nil
	j, err := begin(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

func begin(ctx context.Context, cfg Config) (_ *Journal, err error) {
	j := &Journal{cfg: cfg, waiting: map[uint64]chan<- file.Answer{}, moved: make(chan struct{}), ended: make(chan struct{}), turn: make(chan struct{}, 1)}
	_, _ = rand.Read(j.instance[:]) // it does not fail
	if j.codec, err = newCodec(); err != nil {
		return nil, err
	}
	if j.client, err = cfg.client(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, store.ErrInvalid)
	}
	defer func() {
		if err != nil {
			j.client.Close()
			if j.local != nil {
				_ = j.local.Close() // the first error counts
			}
			j.codec.close()
		}
	}()
	soon, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	for { // brokers and servers of a machine that starts come up in any order
		if j.topic, err = examine(soon, j.client, &cfg); !away(err) || pause(soon) != nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if j.kept, err = takePlace(cfg.File.Dir, cfg.Topic, &j.topic); err != nil {
		return nil, err
	}
	if j.local, err = file.Open(cfg.File); err != nil {
		return nil, err
	}
	j.knows(j.topic.end)
	if err := j.resume(ctx); err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	j.stop = stop
	go j.run(running)
	if err := j.reach(ctx, j.topic.end); err != nil {
		stop()
		<-j.ended
		return nil, err
	}
	return j, nil
}

// resume finds out where to go on, and that the topic has it.
func (j *Journal) resume(ctx context.Context) error {
	applied, err := j.local.Applied(ctx)
	if err != nil {
		return err
	}
	j.next = int64(applied) //nolint:gosec // an offset and 1
	if j.kept.Next > j.next && j.local.Stats().Position >= j.kept.Position {
		j.next = j.kept.Next
	}
	switch t := &j.topic; {
	case j.next > t.end:
		return fmt.Errorf("%s has applied %d commands, and topic %s ends after %d: the topic lost acknowledged commands, or was restored from an older "+
			"copy. Keep a copy of this folder, it has what is missing; docs/journal-kafka.md tells how to go on: %w", j.cfg.File.Dir, j.next, j.cfg.Topic, t.end, store.ErrConflict)
	case j.next < t.first:
		return fmt.Errorf("%s has applied the commands before offset %d, and topic %s begins at %d: restore a newer backup of the folder "+
			"(`tally restore`), or copy it from another server that is stopped: %w", j.cfg.File.Dir, j.next, j.cfg.Topic, t.first, store.ErrConflict)
	}
	j.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{j.cfg.Topic: {0: kgo.NewOffset().At(j.next)}})
	return nil
}

// enter admits a call; leave must follow.
func (j *Journal) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return store.ErrClosed
	}
	if j.broken != nil {
		return j.broken
	}
	j.calls.Add(1)
	return nil
}

func (j *Journal) leave() { j.calls.Done() }

// Close waits for the calls under way, stops applying, and closes this process's journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	was := j.closed
	j.closed = true
	j.mu.Unlock()
	if was {
		return nil
	}
	j.calls.Wait()
	j.stop()
	j.client.Close()
	<-j.ended
	err := j.keep()
	if end := j.local.Close(); err == nil {
		err = end
	}
	j.codec.close()
	return err
}

// fail stops everything: the first cause stays.
func (j *Journal) fail(what string, cause error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken == nil {
		j.broken = fmt.Errorf("%s: %w: %w", what, cause, store.ErrBroken)
		close(j.moved)
		j.moved = make(chan struct{})
	}
}

// keep writes down up to where the folder has applied the topic.
func (j *Journal) keep() error {
	j.keeping.Lock()
	defer j.keeping.Unlock()
	now := j.kept
	j.mu.Lock()
	now.Next = j.next
	j.mu.Unlock()
	now.Position = j.local.Stats().Position // at least what it was then
	if now == j.kept {
		return nil
	}
	if err := now.write(j.cfg.File.Dir); err != nil {
		return fmt.Errorf("write %s: %w", placeName, err)
	}
	j.kept = now
	return nil
}

// Tick moves this process's index on, and writes down up to where the topic is applied.
func (j *Journal) Tick(ctx context.Context) error {
	if err := j.enter(ctx); err != nil {
		return fmt.Errorf("tick: %w", err)
	}
	defer j.leave()
	if err := j.local.Tick(ctx); err != nil {
		return err
	}
	return j.keep()
}

// Compact makes the files of this process smaller.
func (j *Journal) Compact(ctx context.Context) (bool, error) {
	if err := j.enter(ctx); err != nil {
		return false, fmt.Errorf("compact: %w", err)
	}
	defer j.leave()
	return j.local.Compact(ctx)
}

// Replica reads how this process stands to the topic.
func (j *Journal) Replica() Replica {
	s := Replica{
		Commands: j.stats.commands.Load(), Foreign: j.stats.foreign.Load(), Unknown: j.stats.unknown.Load(), Waits: j.stats.waits.Load(),
		Errors: j.stats.errors.Load(),
	}
	j.keeping.Lock()
	s.Kept = j.kept.Next
	j.keeping.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	s.Applied, s.Pending, s.Failed = j.next, len(j.waiting), j.broken != nil
	s.End = max(j.stats.end.Load(), s.Applied)
	return s
}

// knows notes an end of the topic that Kafka told.
func (j *Journal) knows(end int64) {
	for was := j.stats.end.Load(); end > was && !j.stats.end.CompareAndSwap(was, end); was = j.stats.end.Load() {
	}
}

// away says that no broker could be spoken to.
func away(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.EOF)
}

// pauseTime is how long is waited before something is tried again.
const pauseTime = 100 * time.Millisecond

// pause waits a little. It fails when ctx ends.
func pause(ctx context.Context) error {
	little, cancel := context.WithTimeout(ctx, pauseTime)
	defer cancel()
	<-little.Done()
	return ctx.Err()
}
