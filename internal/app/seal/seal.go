// Package seal is the one sealer of a deployment: it grows the tree over the journal's records, signs checkpoints, seals the
// rollups of closed periods, proves events and invoice lines, and audits a journal against all that.
package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
)

// Interval is how often a checkpoint is signed, in business time, while the tree grows.
const Interval = time.Minute

// growMax bounds the leaves that a Tick without a checkpoint takes in: the work of a busy minute is spread over it.
const growMax = 1 << 18

// Config is what a Service needs. All but Log are required.
type Config struct {
	Seals    store.Seals
	Keys     store.SubjectKeys
	Invoices store.Invoices
	Journal  store.Journal
	Tiles    store.Tiles
	Signer   string // the signing key in note form; its name is the origin of the checkpoints
	Verifier string // its public half
	Now      func() time.Time
	Random   io.Reader // for subjects' keys
	Log      *slog.Logger
}

// Service is safe for concurrent use.
type Service struct {
	cfg    Config
	signer note.Signer
	fence  uint64

	auditing sync.Mutex // one audit at a time

	mu      sync.Mutex // guards what follows
	hasher  *hasher
	size    int64       // leaves taken in
	tail    []tlog.Hash // of the last block, which is not full yet
	last    store.Checkpoint
	trusted bool      // the last checkpoint was found again in the tree
	due     bool      // a close was sealed since
	refused error     // the log does not lead to the last checkpoint; until the next start
	told    time.Time // when Tick said so last

	stats struct{ leaves, covered, at atomic.Int64 } // for who must not wait for mu
}

// Stats are figures for metrics.
type Stats struct {
	Leaves  int64     // in the tree
	Covered int64     // by the newest checkpoint
	At      time.Time // of the newest checkpoint; zero: there is none
}

// Stats reads the figures without waiting for work under way.
func (s *Service) Stats() Stats {
	st := Stats{Leaves: s.stats.leaves.Load(), Covered: s.stats.covered.Load()}
	if at := s.stats.at.Load(); at != 0 {
		st.At = time.UnixMicro(at).UTC()
	}
	return st
}

func (s *Service) note() {
	s.stats.leaves.Store(s.size)
	if s.last.Size > 0 {
		s.stats.covered.Store(int64(s.last.Size))
		s.stats.at.Store(s.last.Time.UnixMicro())
	}
}

// ErrFenced says that another sealer has taken over.
var ErrFenced = errors.New("another sealer has taken over this deployment; only one may run")

// Open takes the fence: a sealer that was there before can write no more. It reads little; the first Tick does the rest.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Seals == nil || cfg.Keys == nil || cfg.Invoices == nil || cfg.Journal == nil || cfg.Tiles == nil || cfg.Now == nil || cfg.Random == nil {
		return nil, errors.New("seal: records, journal, tiles, clock and random bytes are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	signer, err := note.NewSigner(cfg.Signer)
	if err != nil {
		return nil, fmt.Errorf("seal: signing key: %w", err)
	}
	if v, err := note.NewVerifier(cfg.Verifier); err != nil || v.Name() != signer.Name() || v.KeyHash() != signer.KeyHash() {
		return nil, errors.Join(errors.New("seal: the public key does not belong to the signing key"), err)
	}
	s := &Service{cfg: cfg, signer: signer, hasher: newHasher(cfg.Keys, cfg.Random)}
	seen, err := cfg.Seals.Fence(ctx)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if s.fence, err = cfg.Seals.TakeFence(ctx, seen); err != nil {
		return nil, fmt.Errorf("seal: %w", fencedAs(err))
	}
	newest, err := cfg.Seals.Checkpoints(ctx, 0, 1)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if len(newest) > 0 {
		s.last = newest[0]
	}
	s.trusted = len(newest) == 0
	s.size = cfg.Tiles.Len(1) * seal.Block
	if s.last.Size > 0 {
		if _, err := seal.Open(s.last.Note, cfg.Verifier); err != nil {
			cfg.Log.WarnContext(ctx, "the last checkpoint is of another key: those of before verify with the old public key only", slog.Any("error", err))
		}
	}
	s.note()
	return s, nil
}

func fencedAs(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return err
}

// Key is the public key that verifies checkpoints and bundles, in note form.
func (s *Service) Key() string { return s.cfg.Verifier }

// Checkpoints lists those of fewer leaves than before (0: all), largest first.
func (s *Service) Checkpoints(ctx context.Context, before uint64, limit int) ([]store.Checkpoint, error) {
	return s.cfg.Seals.Checkpoints(ctx, before, limit)
}

// Latest is the newest checkpoint. store.ErrNotFound before the first.
func (s *Service) Latest(ctx context.Context) (store.Checkpoint, error) {
	list, err := s.cfg.Seals.Checkpoints(ctx, 0, 1)
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Checkpoint{}, fmt.Errorf("latest checkpoint: %w", err)
	}
	return list[0], nil
}

// Tick takes new records into the tree. It signs a checkpoint when a minute of business time is over or a close was sealed, if
// the tree grew. Where the log does not lead to what was signed before, it says so once a minute and does nothing.
func (s *Service) Tick(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.cfg.Now(); s.refused != nil {
		if now.Sub(s.told) < Interval {
			return nil
		}
		s.told = now
		return s.refused
	}
	if !s.due && s.cfg.Now().Sub(s.last.Time) < Interval {
		return s.grow(ctx, growMax)
	}
	return s.checkpoint(ctx)
}

// Checkpoint signs what is durable now, unless the newest checkpoint says the same, and returns the newest.
func (s *Service) Checkpoint(ctx context.Context) (store.Checkpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.checkpoint(ctx)
	return s.last, err
}

func (s *Service) checkpoint(ctx context.Context) error {
	if s.refused != nil {
		return s.refused
	}
	if err := s.grow(ctx, 0); err != nil {
		return err
	}
	if err := s.trust(ctx); err != nil {
		return err
	}
	if uint64(s.size) == s.last.Size {
		s.due = false
		return nil
	}
	root, err := tlog.TreeHash(s.size, s.source(ctx))
	if err != nil {
		return fmt.Errorf("root of %d leaves: %w", s.size, err)
	}
	at := s.cfg.Now().UTC().Truncate(time.Second)
	c := seal.Checkpoint{Origin: s.signer.Name(), Size: s.size, Root: root, Time: at}
	msg, err := c.Sign(s.signer)
	if err != nil {
		return err
	}
	next := store.Checkpoint{Size: uint64(s.size), Root: root, Time: at, Note: msg}
	if err := s.cfg.Seals.PutCheckpoint(ctx, s.fence, next); err != nil {
		return fencedAs(err)
	}
	s.last, s.due = next, false
	s.note()
	return nil
}

// trust finds the last checkpoint of an earlier run in the tree again before a new one is signed: a log that was changed since
// must not get a signature. Tiles that were damaged in a way their checksums do not show are made again once.
func (s *Service) trust(ctx context.Context) error {
	if s.trusted {
		return nil
	}
	for rebuilt := false; ; rebuilt = true {
		if s.size >= int64(s.last.Size) {
			root, err := tlog.TreeHash(int64(s.last.Size), s.source(ctx))
			if err != nil && !errors.Is(err, store.ErrCorrupt) {
				return err
			}
			if err == nil && root == s.last.Root {
				s.trusted = true
				return nil
			}
		}
		if rebuilt {
			s.told = s.cfg.Now()
			s.refused = fmt.Errorf("the journal does not lead to the checkpoint of %d leaves that was signed before: nothing more is signed; run `tally audit` and restore the journal from a backup: %w",
				s.last.Size, store.ErrCorrupt)
			return s.refused
		}
		s.cfg.Log.WarnContext(ctx, "the tree's tiles do not lead to the last checkpoint; they are made again from the log", slog.Uint64("size", s.last.Size))
		if err := s.cfg.Tiles.Truncate(0); err != nil {
			return err
		}
		s.size, s.tail = 0, nil
		if err := s.grow(ctx, 0); err != nil {
			return err
		}
	}
}

// grow takes in what the journal has, at most max leaves (0: all).
func (s *Service) grow(ctx context.Context, most int64) error {
	for taken := int64(0); most == 0 || taken < most; {
		hashes, err := s.hasher.read(ctx, s.cfg.Journal, uint64(s.size)+1, leavesMax)
		if err != nil {
			return fmt.Errorf("grow the tree: %w", err)
		}
		if len(hashes) == 0 {
			return nil
		}
		if err := s.take(hashes); err != nil {
			return fmt.Errorf("grow the tree: %w", err)
		}
		taken += int64(len(hashes))
	}
	return nil
}

func (s *Service) take(hashes []tlog.Hash) error {
	all := append(slices.Clip(s.tail), hashes...)
	var roots [][32]byte
	rest := all
	for len(rest) >= seal.Block {
		roots = append(roots, seal.RootOf(rest[:seal.Block]))
		rest = rest[seal.Block:]
	}
	if len(roots) > 0 {
		if err := s.cfg.Tiles.Append(roots); err != nil {
			return err
		}
	}
	s.tail = append([]tlog.Hash(nil), rest...)
	s.size += int64(len(hashes))
	s.note()
	return nil
}

// source is the tree's hashes; the caller holds mu.
func (s *Service) source(ctx context.Context) seal.Source {
	return seal.Source{
		Leaves: func(from int64, n int) ([]tlog.Hash, error) {
			if start := s.size - int64(len(s.tail)); from >= start && from-start+int64(n) <= int64(len(s.tail)) {
				return s.tail[from-start:][:n], nil
			}
			hashes, err := s.hasher.read(ctx, s.cfg.Journal, uint64(from)+1, n)
			if err == nil && len(hashes) < n {
				err = fmt.Errorf("the journal ends before leaf %d: %w", from+int64(n), store.ErrCorrupt)
			}
			return hashes, err
		},
		Tiles: func(level int, from int64, n int) ([]tlog.Hash, error) {
			have, err := s.cfg.Tiles.Hashes(level, from, n)
			if err != nil {
				return nil, err
			}
			out := make([]tlog.Hash, len(have))
			for i, h := range have {
				out[i] = h
			}
			return out, nil
		},
	}
}
