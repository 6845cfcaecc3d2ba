package file

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/base"
	"github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/file/index"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Bounds. A group closes when it reaches one of its own; a single larger batch is a group alone.
const (
	MaxGroupEntries = 8192
	MaxGroupBytes   = 16 << 20
	MaxWaiters      = 4096 // calls waiting for a commit
	MaxWaitingBytes = 256 << 20

	DefaultSegmentBytes = 64 << 20
	DefaultCheckpoint   = 500_000
)

const (
	segmentBytesMin = 4 << 10
	segmentBytesMax = 4 << 30
	checkpointMax   = 1 << 30
)

// What the packages below hold, under the names of this one.
type (
	// Record is a decoded record of the log.
	Record = record.Record
	// FS is the border to the disk. Tests put a faulty one in its place.
	FS = segment.FS
	// File is an open file of an FS.
	File = segment.File
	// OS is the real disk.
	OS = segment.OS
)

// Config of a journal.
type Config struct {
	Dir          string // the folder of the segments, made if absent; the caller keeps other processes out
	SegmentBytes int64  // a new segment is begun beyond it; default DefaultSegmentBytes
	FS           FS     // default OS
	// Commit commits to a payload before it is erased, as the tree does; without it nothing can be erased.
	Commit archive.Commit
	// Forget is told each subject of whom an erasure left no payload: its key may go. An event of the subject may have come while
	// that was looked for; came tells, and is to be asked where no record can be sealed before the key is gone. Optional.
	Forget func(ctx context.Context, subject string, came func() (bool, error)) error
	// BlockCache bounds the bytes of sealed segments kept decoded; default archive.DefaultCacheBytes.
	BlockCache int
	// Checkpoint is how many events, contributions and revisions are kept in memory before Tick writes them into the index on
	// disk; at twice as many a commit does it. Default DefaultCheckpoint.
	Checkpoint int
}

// Journal implements store.Journal.
type Journal struct {
	cfg  Config
	fs   FS
	pool sync.Pool // *call
	logs sync.Pool // *reader

	// mu guards index against the leader's apply. The leader alone writes to it.
	mu    sync.RWMutex
	index *index.Index

	// leading is held while a commit works, and by a checkpoint where it begins and ends: it keeps others from changing what
	// the leader reads. It comes before mu.
	leading       sync.Mutex
	checkpointing sync.Mutex  // one checkpoint at a time; comes before leading
	base          *base.Store // of the checkpoint at work, or the last one; owned by checkpointing
	indexFS       vfs.FS
	tied          base.State // of the index that was taken up

	segments atomic.Pointer[[]*segment.Segment] // ascending by number, from 1; only grows

	queue queue

	blocks     *archive.Cache
	erasures   atomic.Pointer[[]archive.Erasure] // not carried out yet
	compacting sync.Mutex
	leftover   uint32            // number of the sealed segment whose raw form has still to be removed; guarded by compacting
	clean      map[uint32]uint64 // by segment: up to this erasure there is nothing to take out; guarded by compacting

	// Owned by the leader.
	group     *index.Group
	calling   []*call
	frame     []byte
	size      int64                  // end of the last segment
	lastFrame int64                  // start of its last frame, when opening
	rotating  bool                   // a new segment was due and could not be made yet
	durable   atomic.Pointer[extent] // for readers; nil: opening, all that is read is durable
	placed    []placed
	ids       []base.Identity

	broken atomic.Pointer[error]
	stats  struct{ full, groups, torn, bytes, checkpoints atomic.Int64 }
	// stuck is why the last checkpoint failed; nil: it did not.
	stuck atomic.Pointer[error]

	closing sync.Mutex // guards closed, and inflight's growth
	closed  bool
	calls   sync.WaitGroup
}

var _ store.Journal = (*Journal)(nil)

// Stats are figures for metrics and for the log line at start.
type Stats struct {
	Events, Segments, Series, Buckets, Cuts, Totals, Marks int
	Revised, Unmatched                                     int   // events revised; events that count for nothing
	Fresh                                                  int   // events, contributions and revisions since the last checkpoint
	Checkpoints                                            int64 // since opening
	Position                                               uint64
	Bytes                                                  int64 // of all segments
	IndexBytes                                             int64 // of the index on disk
	TornBytes                                              int64 // cut off the end when opening: a write that was never acknowledged
	Groups                                                 int64 // commits since opening
	Full                                                   int64 // calls refused with ErrFull since opening
	Waiting                                                int   // calls waiting for a commit
	Sealed                                                 int   // segments that are compressed
	Erasing                                                int   // erasures that Compact has still to carry out
	Broken                                                 bool  // a sync failed; only reads work
}

// Open takes the index up, or makes it from the log, replays what came after its last checkpoint, and makes what it read
// durable. ErrNewer, ErrCorrupt.
func Open(cfg Config) (*Journal, error) {
	if cfg.FS == nil {
		cfg.FS = OS{}
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = DefaultSegmentBytes
	}
	if cfg.Checkpoint == 0 {
		cfg.Checkpoint = DefaultCheckpoint
	}
	if cfg.Dir == "" || cfg.SegmentBytes < segmentBytesMin || cfg.SegmentBytes > segmentBytesMax ||
		cfg.Checkpoint < 0 || cfg.Checkpoint > checkpointMax {
		return nil, fmt.Errorf("open journal: folder %q, segments of %d bytes (%d to %d), checkpoints of %d (at most %d): %w", cfg.Dir,
			cfg.SegmentBytes, segmentBytesMin, int64(segmentBytesMax), cfg.Checkpoint, checkpointMax, store.ErrInvalid)
	}
	j, err := open(cfg)
	if errors.Is(err, base.ErrDamaged) { // it is only derived
		if err = base.Remove(disk(cfg.FS), indexDir(cfg.Dir)); err == nil {
			j, err = open(cfg)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

func open(cfg Config) (*Journal, error) {
	j := &Journal{cfg: cfg, fs: cfg.FS, index: index.New(), indexFS: disk(cfg.FS), blocks: archive.NewCache(cfg.BlockCache), clean: map[uint32]uint64{}}
	j.segments.Store(&[]*segment.Segment{})
	j.pool.New = func() any { return &call{wake: make(chan struct{}, 1)} }
	j.logs.New = func() any { return newReader(j) }
	j.group = index.NewGroup(j.index)
	if err := j.recover(); err != nil {
		return nil, errors.Join(err, j.group.Close(), j.closeFiles())
	}
	return j, nil
}

// enter admits a call; leave must follow.
func (j *Journal) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.closing.Lock()
	defer j.closing.Unlock()
	if j.closed {
		return store.ErrClosed
	}
	j.calls.Add(1)
	return nil
}

func (j *Journal) leave() { j.calls.Done() }

// Close waits for the calls under way, then closes the files.
func (j *Journal) Close() error {
	j.closing.Lock()
	was := j.closed
	j.closed = true
	j.closing.Unlock()
	if was {
		return nil
	}
	j.calls.Wait()
	return errors.Join(j.lastCheckpoint(), j.closeFiles())
}

func (j *Journal) closeFiles() error {
	var err error
	if j.base != nil {
		err = j.base.Close()
	}
	for _, s := range *j.segments.Load() {
		err = errors.Join(err, s.File.Close())
	}
	return err
}

// Append implements store.Journal. An event whose content is not the stored one's is a conflict, and its resolution,
// receipt and flags are dropped, as a duplicate's are. A mark whose event is not there is ErrNotFound, an invalid or
// oversized batch ErrInvalid, an overflow of a rollup money.ErrOverflow: nothing of such a batch is written.
// When ctx ends before the batch's turn nothing was written either; after it the call returns with the outcome.
func (j *Journal) Append(ctx context.Context, b store.Batch) ([]store.Result, error) {
	if err := j.enter(ctx); err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	defer j.leave()
	if len(b.Entries)+len(b.Totals)+len(b.Marks) == 0 {
		return []store.Result{}, nil
	}
	c, _ := j.pool.Get().(*call)
	defer j.recycle(c)
	if err := c.prepare(&b); err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	if err := j.submit(ctx, c); err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	return c.results, nil
}

// Cut implements store.Journal.
func (j *Journal) Cut(ctx context.Context, customerID string, at time.Time) error {
	if err := j.enter(ctx); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	defer j.leave()
	if err := j.cut(ctx, customerID, at); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	return nil
}

func (j *Journal) cut(ctx context.Context, customerID string, at time.Time) error {
	c, _ := j.pool.Get().(*call)
	defer j.recycle(c)
	if err := j.prepareCut(c, customerID, at); err != nil {
		return err
	}
	return j.submit(ctx, c)
}

func (j *Journal) prepareCut(c *call, customerID string, at time.Time) error {
	if !record.Text(customerID, 1) || !record.Instant(at) {
		return invalid("customer %q at %v: a customer and an instant are needed", customerID, at)
	}
	rec := c.encode(&record.Record{Kind: record.KindCut, ReceivedAt: time.UnixMicro(0), Event: meter.Event{Time: at}, CustomerID: customerID, Command: c.command})
	c.alone = func() (apply func(), err error) { // by the leader
		if j.index.Apart(customerID, at.UnixMicro()) {
			return nil, nil // nothing to write
		}
		cut, err := j.group.Split(customerID, at.UnixMicro())
		if err != nil {
			return nil, err
		}
		j.put(c, rec)
		return func() { j.index.Cut(cut, j.group) }, nil
	}
	return nil
}

// View implements store.Journal.
func (j *Journal) View(ctx context.Context, read func(store.View) error) error {
	if err := j.enter(ctx); err != nil {
		return fmt.Errorf("view: %w", err)
	}
	defer j.leave()
	return j.view(func(v *index.View) error { return read(v) })
}

// view reads the index under the read lock.
func (j *Journal) view(read func(v *index.View) error) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	v := j.index.View()
	err := read(v)
	if end := v.Close(); err == nil {
		err = end
	}
	return err
}

// Stats reads the figures.
func (j *Journal) Stats() Stats {
	j.mu.RLock()
	c := j.index.Counts()
	s := Stats{
		Events: c.Events, Series: c.Series, Buckets: c.Buckets, Cuts: c.Cuts, Totals: c.Totals, Marks: c.Marks,
		Revised: c.Revised, Unmatched: c.Unmatched, Position: j.index.Position(), Fresh: j.index.Size(),
	}
	if b := j.index.Base(); b != nil {
		s.IndexBytes = b.Bytes()
	}
	j.mu.RUnlock()
	s.Segments = len(*j.segments.Load())
	s.Bytes, s.TornBytes = j.stats.bytes.Load(), j.stats.torn.Load()
	s.Checkpoints = j.stats.checkpoints.Load()
	s.Groups, s.Full = j.stats.groups.Load(), j.stats.full.Load()
	s.Waiting, s.Erasing = j.queue.len(), j.Erasing()
	for _, of := range *j.segments.Load() {
		if folder.Sealed(of) != nil {
			s.Sealed++
		}
	}
	s.Broken = j.broken.Load() != nil
	return s
}

// addSegment makes a segment known to readers.
func (j *Journal) addSegment(s *segment.Segment) {
	for {
		old := j.segments.Load()
		all := append(slices.Clone(*old), s)
		if j.segments.CompareAndSwap(old, &all) { // Compact changes it too
			return
		}
	}
}
