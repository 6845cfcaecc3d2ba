// Package replay answers a repeated call as the first one was answered.
package replay

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

// Kept is how long an answer is replayed for its Idempotency-Key.
const Kept = 24 * time.Hour

// runningMax is longer than any call runs.
const runningMax = 15 * time.Minute

// Failures of a repeated call.
var (
	ErrMismatch = errors.New("the Idempotency-Key was used with another body")
	ErrRunning  = errors.New("the first call with this Idempotency-Key is still running")
)

// Answer is what a call answered.
type Answer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header"`
	Body   []byte            `json:"body"`
}

// Replays answers repeated calls with the first one's answer. Answers are encrypted at rest, since one may hold a new key's
// secret.
type Replays struct {
	store  store.Housekeeping
	aead   cipher.AEAD
	random io.Reader
	now    func() time.Time
}

// New takes a 32-byte key.
func New(s store.Housekeeping, key []byte, random io.Reader, now func() time.Time) (*Replays, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("replay key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("replay key: %w", err)
	}
	return &Replays{store: s, aead: aead, random: random, now: now}, nil
}

// Call names a call that may be repeated.
type Call struct {
	Key, Actor, Route string
	BodyDigest        [32]byte
}

// Do runs the call once per (actor, route, key). A first call that panics or answers 5xx leaves nothing behind, so that it
// may be tried again.
func (r *Replays) Do(ctx context.Context, c Call, call func() Answer) (a Answer, replayed bool, err error) {
	rec := store.Replay{Key: c.Key, Actor: c.Actor, Route: c.Route, BodyDigest: c.BodyDigest, CreatedAt: r.now()}
	first, err := r.begin(ctx, rec)
	if err != nil {
		return a, false, err
	}
	if first != nil {
		a, err = r.open(first, c)
		return a, err == nil, err
	}
	finished := false
	defer func() {
		if !finished {
			err = errors.Join(err, r.store.AbandonReplay(context.WithoutCancel(ctx), rec))
		}
	}()
	a = call()
	if a.Status >= 500 {
		return a, false, nil
	}
	plain, err := json.Marshal(a)
	if err != nil {
		return a, false, fmt.Errorf("keep the answer: %w", err)
	}
	nonce := make([]byte, r.aead.NonceSize())
	if _, err := io.ReadFull(r.random, nonce); err != nil {
		return a, false, fmt.Errorf("keep the answer: %w", err)
	}
	rec.Status, rec.Sealed = a.Status, r.aead.Seal(nonce, nonce, plain, []byte(c.Key))
	finished = true
	if err := r.store.FinishReplay(context.WithoutCancel(ctx), rec); err != nil {
		return a, false, fmt.Errorf("keep the answer: %w", err)
	}
	return a, false, nil
}

// begin stores the call, or returns the first one. A call that has been running for longer than any can is one that a crash
// cut off: it is forgotten.
func (r *Replays) begin(ctx context.Context, rec store.Replay) (*store.Replay, error) {
	first, err := r.store.BeginReplay(ctx, rec)
	if err == nil && first != nil && first.Status == 0 && rec.CreatedAt.Sub(first.CreatedAt) > runningMax {
		if err = r.store.AbandonReplay(ctx, *first); err == nil {
			first, err = r.store.BeginReplay(ctx, rec)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("remember the idempotency key: %w", err)
	}
	return first, nil
}

func (r *Replays) open(first *store.Replay, c Call) (a Answer, err error) {
	switch {
	case first.BodyDigest != c.BodyDigest:
		return a, ErrMismatch
	case first.Status == 0:
		return a, ErrRunning
	case len(first.Sealed) < r.aead.NonceSize():
		return a, fmt.Errorf("stored answer: %w", store.ErrCorrupt)
	}
	n := r.aead.NonceSize()
	plain, err := r.aead.Open(nil, first.Sealed[:n], first.Sealed[n:], []byte(c.Key))
	if err != nil {
		return a, fmt.Errorf("stored answer: %w", store.ErrCorrupt)
	}
	if err := json.Unmarshal(plain, &a); err != nil {
		return a, fmt.Errorf("stored answer: %w", store.ErrCorrupt)
	}
	return a, nil
}

// Prune forgets answers older than Kept.
func (r *Replays) Prune(ctx context.Context) error {
	return r.store.PruneReplays(ctx, r.now().Add(-Kept))
}
