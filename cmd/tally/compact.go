package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

// compactEvery is how often a running server looks whether a segment can be sealed or a payload taken out.
const compactEvery = 5 * time.Second

// salts commits to payloads that are erased, under the keys of their subjects.
type salts struct {
	keys store.SubjectKeys

	mu   sync.Mutex
	kept map[string][seal.KeySize]byte
}

// saltsMax bounds the keys kept in memory.
const saltsMax = 10_000

func newSalts(keys store.SubjectKeys) *salts {
	return &salts{keys: keys, kept: map[string][seal.KeySize]byte{}}
}

// commit implements archive.Commit.
func (s *salts) commit(subject string, position uint64, head, payload []byte) ([32]byte, error) {
	key, err := s.key(subject)
	if err != nil {
		return [32]byte{}, err
	}
	return seal.CommitRecord(key[:], position, head, payload)
}

func (s *salts) key(subject string) ([seal.KeySize]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key, ok := s.kept[subject]; ok {
		return key, nil
	}
	fresh := make([][seal.KeySize]byte, 1)
	if _, err := rand.Read(fresh[0][:]); err != nil {
		return fresh[0], err
	}
	keys, err := s.keys.SubjectKeys(context.Background(), []string{subject}, fresh)
	if err != nil {
		return fresh[0], fmt.Errorf("read the key of a subject: %w", err)
	}
	if len(s.kept) >= saltsMax {
		clear(s.kept)
	}
	s.kept[subject] = keys[0]
	return keys[0], nil
}

// forget deletes the key of a subject of whom no payload is left, where no sealer is at work.
func (s *salts) forget(ctx context.Context, subject string, came func() (bool, error)) error {
	if kept, err := came(); kept || err != nil {
		return err
	}
	s.drop(subject)
	return s.keys.ForgetSubject(ctx, subject)
}

// drop takes a key out of memory.
func (s *salts) drop(subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, subject)
}

// forget deletes the key of a subject of whom no payload is left, also where the sealer has it in memory.
func (s *server) forget(ctx context.Context, subject string, came func() (bool, error)) error {
	if s.seal == nil { // the sealer is not open yet: it has nothing in memory
		return s.salts.forget(ctx, subject, came)
	}
	s.salts.drop(subject)
	return s.seal.ForgetUnless(ctx, subject, came)
}

// compactAll does all steps that are due, and returns how many segments were written.
func compactAll(ctx context.Context, j store.Keeper) (steps int, err error) {
	for ; ; steps++ {
		more, err := j.Compact(ctx)
		if err != nil || !more {
			return steps, err
		}
	}
}

// compact is the server's loop: the retention policy, then what is due. Age is by real time, like the receipts.
func (s *server) compact(ctx context.Context) error {
	for s.keepEvents > 0 {
		now := s.clock.Now()
		more, err := s.journal.Retain(ctx, now.Add(-s.keepEvents), now)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	_, err := compactAll(ctx, s.journal)
	return err
}

type journalCompactCmd struct {
	KeepEvents time.Duration `help:"Erase the content of events received longer ago than this; 0: for ever." placeholder:"DURATION"`
}

// compacted is what the command prints.
type compacted struct {
	Steps    int   `json:"steps"` // segments written anew, or read and found clean
	Segments int   `json:"segments"`
	Before   int64 `json:"bytes_before"`
	After    int64 `json:"bytes_after"`
	Waiting  int   `json:"erasures_waiting"`
}

func (c *journalCompactCmd) Run(e *cli.Env) error {
	return stopped(e, func(f *folder, dir string) (err error) {
		records, err := sqlite.Open(e.Ctx, f.path("records.db"))
		if err != nil {
			return fmt.Errorf("records: %w", err)
		}
		defer func() { err = errors.Join(err, records.Close()) }()
		salts := newSalts(records)
		j, err := file.Open(file.Config{Dir: dir, Commit: salts.commit, Forget: salts.forget})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, j.Close()) }()
		out := compacted{Before: j.Stats().Bytes}
		if out.Steps, err = compactAll(e.Ctx, j); err != nil {
			return err
		}
		for more := c.KeepEvents > 0; more; {
			now := realNow()
			if more, err = j.Retain(e.Ctx, now.Add(-c.KeepEvents), now); err != nil {
				return err
			}
			steps, err := compactAll(e.Ctx, j)
			if err != nil {
				return err
			}
			out.Steps += steps
		}
		st := j.Stats()
		out.Segments, out.After, out.Waiting = st.Segments, st.Bytes, j.Erasing()
		if e.JSON {
			return cli.PrintJSON(e.Stdout, out)
		}
		return table(e.Stdout, [2]any{"steps", out.Steps}, [2]any{"segments", out.Segments},
			[2]any{"bytes", fmt.Sprintf("%d, were %d", out.After, out.Before)}, [2]any{"erasures waiting", out.Waiting})
	})
}
