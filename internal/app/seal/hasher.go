package seal

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds: leaves read at once, and subjects' keys kept in memory.
const (
	leavesMax = 4096
	keysMax   = 1 << 16
)

// hasher computes leaf hashes. Not safe for concurrent use.
type hasher struct {
	store  store.SubjectKeys
	random io.Reader
	keys   map[string][seal.KeySize]byte
}

func newHasher(keys store.SubjectKeys, random io.Reader) *hasher {
	return &hasher{store: keys, random: random, keys: map[string][seal.KeySize]byte{}}
}

// waiting is a leaf whose subject's key is not in memory.
type waiting struct {
	index    int
	position uint64
	subject  string
	head     []byte
	payload  []byte
}

// read computes the leaf hashes from a position on, at most limit, fewer at the journal's end.
func (h *hasher) read(ctx context.Context, j store.Journal, from uint64, limit int) ([]tlog.Hash, error) {
	return h.each(ctx, j, from, limit, nil)
}

// each is read that also shows every leaf.
func (h *hasher) each(ctx context.Context, j store.Journal, from uint64, limit int, show func(store.Leaf) error) ([]tlog.Hash, error) {
	var hashes []tlog.Hash
	var later []waiting
	_, err := j.Leaves(ctx, from, limit, func(l store.Leaf) error {
		if want := from + uint64(len(hashes)); l.Position != want {
			return fmt.Errorf("record %d stands where record %d belongs: %w", l.Position, want, store.ErrCorrupt)
		}
		if show != nil {
			if err := show(l); err != nil {
				return err
			}
		}
		c := l.Commitment
		if c == nil && l.Payload != nil {
			key, ok := h.keys[l.Subject]
			if !ok {
				later = append(later, waiting{len(hashes), l.Position, l.Subject, append([]byte(nil), l.Head...), append([]byte(nil), l.Payload...)})
				hashes = append(hashes, tlog.Hash{})
				return nil
			}
			v, err := seal.CommitRecord(key[:], l.Position, l.Head, l.Payload)
			if err != nil {
				return fmt.Errorf("record %d: %w", l.Position, err)
			}
			c = &v
		}
		hash, err := seal.Hash(l.Head, c)
		if err != nil {
			return fmt.Errorf("record %d: %w", l.Position, err)
		}
		hashes = append(hashes, hash)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return hashes, h.finish(ctx, hashes, later)
}

// finish fills in the leaves that waited for a key.
func (h *hasher) finish(ctx context.Context, hashes []tlog.Hash, later []waiting) error {
	if len(later) == 0 {
		return nil
	}
	if err := h.fetch(ctx, later); err != nil {
		return err
	}
	for _, w := range later {
		key := h.keys[w.subject]
		c, err := seal.CommitRecord(key[:], w.position, w.head, w.payload)
		if err != nil {
			return fmt.Errorf("record %d: %w", w.position, err)
		}
		if hashes[w.index], err = seal.Hash(w.head, &c); err != nil {
			return fmt.Errorf("record %d: %w", w.position, err)
		}
	}
	return nil
}

// fetch brings the keys of all that wait into memory, making those that are not there.
func (h *hasher) fetch(ctx context.Context, later []waiting) error {
	var subjects []string
	seen := map[string]bool{}
	for _, w := range later {
		if !seen[w.subject] {
			seen[w.subject] = true
			subjects = append(subjects, w.subject)
		}
	}
	keys, err := h.make(ctx, subjects)
	if err != nil {
		return err
	}
	if len(h.keys)+len(keys) > keysMax {
		clear(h.keys)
	}
	for i, subject := range subjects {
		h.keys[subject] = keys[i]
	}
	return nil
}

func (h *hasher) make(ctx context.Context, subjects []string) ([][seal.KeySize]byte, error) {
	fresh := make([][seal.KeySize]byte, len(subjects))
	for i := range fresh {
		if _, err := io.ReadFull(h.random, fresh[i][:]); err != nil {
			return nil, fmt.Errorf("make a subject's key: %w", err)
		}
	}
	return h.store.SubjectKeys(ctx, subjects, fresh)
}

// forget drops the keys in memory.
func (h *hasher) forget() { clear(h.keys) }
