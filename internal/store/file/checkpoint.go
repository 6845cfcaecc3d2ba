package file

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tallystick/tallystick/internal/store/file/base"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// refuseAt is how many times Config.Checkpoint may wait in memory before a journal whose index cannot be written takes
// nothing more; relieveAt, before a commit writes a checkpoint itself.
const (
	refuseAt  = 4
	relieveAt = 2
)

func indexDir(dir string) string { return filepath.Join(dir, "index") }

// disk is where the index of a journal on fs lies: on the real disk, but where fs has another one for it.
func disk(fs FS) vfs.FS {
	if own, ok := fs.(interface{ IndexDisk() vfs.FS }); ok {
		return own.IndexDisk()
	}
	return vfs.Default
}

// Tick writes a checkpoint when enough has come since the last one. Call it every second or so, from one goroutine; without
// it commits write checkpoints themselves and are slow then.
func (j *Journal) Tick(ctx context.Context) error {
	if err := j.enter(ctx); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer j.leave()
	if err := j.checkpoint(j.cfg.Checkpoint); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// relieve writes a checkpoint when Tick does not keep up. The leader runs it with the lead in hand, so that no commit comes
// between. A failure is kept for the commits that it will make fail.
func (j *Journal) relieve() {
	j.mu.RLock()
	size := j.index.Size()
	j.mu.RUnlock()
	if size >= relieveAt*j.cfg.Checkpoint {
		_ = j.checkpoint(j.cfg.Checkpoint) // kept in stuck
	}
}

// lastCheckpoint lets the next opening replay little. A journal that failed keeps what it has.
func (j *Journal) lastCheckpoint() error {
	if j.broken.Load() != nil {
		return nil
	}
	return j.checkpoint(max(1, j.cfg.Checkpoint/closeShare))
}

// closeShare is the part of a checkpoint that is worth writing at the end.
const closeShare = 20

// checkpoint writes what came since the last one into the index on disk, if that is at least so much. The log is durable as
// far as it was applied: the index never gets ahead of it.
func (j *Journal) checkpoint(atLeast int) (err error) {
	j.checkpointing.Lock()
	defer j.checkpointing.Unlock()
	j.leading.Lock()
	j.mu.Lock()
	frozen := j.index.Freezing() // one that failed is written again
	if !frozen && j.index.Size() >= atLeast {
		j.index.Freeze()
		frozen = true
	}
	j.mu.Unlock()
	j.leading.Unlock()
	if !frozen {
		return nil
	}
	if err := j.writeCheckpoint(); err != nil {
		j.stuck.Store(&err)
		return err
	}
	j.leading.Lock()
	j.mu.Lock()
	j.index.Finish(j.base)
	j.mu.Unlock()
	j.leading.Unlock()
	j.stuck.Store(nil)
	j.stats.checkpoints.Add(1)
	return nil
}

func (j *Journal) writeCheckpoint() error {
	sum, err := j.headSum(j.index.Frozen())
	if err != nil {
		return err
	}
	if j.base == nil {
		fs, dir := j.indexFS, indexDir(j.cfg.Dir)
		if j.base, err = base.Open(fs, dir); err != nil {
			return err
		}
	}
	return j.index.Write(j.base, sum)
}

// headSum is a checksum of a record's head, which no erasure changes.
func (j *Journal) headSum(position uint64) (uint32, error) {
	l := j.log()
	defer j.giveBack(l)
	p, err := l.find(position)
	if err != nil {
		return 0, err
	}
	return record.Checksum(nil, p.Head()), nil
}

// takeUp opens the index that an earlier run has left. One that cannot be read is base.ErrDamaged.
func (j *Journal) takeUp() error {
	dir := indexDir(j.cfg.Dir)
	if !base.Exists(j.indexFS, dir) {
		return nil
	}
	b, err := base.Open(j.indexFS, dir)
	if err != nil {
		return err
	}
	j.base = b
	r := b.Reader()
	state, ok, err := r.State()
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("index %s was not finished, or is of another version: %w", dir, base.ErrDamaged)
	}
	j.tied = state
	return j.index.Load(b, state)
}

// checkTied says whether the index belongs to this log, and does not hold more than the log does.
func (j *Journal) checkTied() error {
	if j.tied.Position == 0 {
		return nil
	}
	sum, err := j.headSum(j.tied.Position)
	if err != nil {
		return fmt.Errorf("index %s holds the journal up to record %d, which cannot be read: %w: %w", indexDir(j.cfg.Dir), j.tied.Position,
			err, base.ErrDamaged)
	}
	if sum != j.tied.Checksum {
		return fmt.Errorf("index %s belongs to another journal: %w", indexDir(j.cfg.Dir), base.ErrDamaged)
	}
	return nil
}
