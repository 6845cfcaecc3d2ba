package replay_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/replay"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

type world struct {
	records *sqlite.Records
	random  *rand.ChaCha8
	now     time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	records, err := sqlite.Scratch(t.Context(), filepath.Join(t.TempDir(), "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := records.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{records: records, random: rand.NewChaCha8([32]byte{1}), now: time.Date(2026, 3, 10, 22, 30, 0, 0, time.UTC)}
}

func TestReplays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := replay.New(w.records, []byte("short"), w.random, func() time.Time { return w.now }); err == nil {
		t.Error("a short key was accepted")
	}
	r, err := replay.New(w.records, bytes.Repeat([]byte("k"), 32), w.random, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	call := replay.Call{Key: "once", Actor: "op", Route: "POST /v1/keys", BodyDigest: sha256.Sum256([]byte("body"))}
	answer := replay.Answer{Status: 201, Header: map[string]string{"Location": "/v1/keys/key_1"}, Body: []byte(`{"secret":"s3cret"}`)}
	calls := 0
	do := func(c replay.Call, a replay.Answer) (replay.Answer, bool, error) {
		return r.Do(t.Context(), c, func() replay.Answer { calls++; return a })
	}
	if a, replayed, err := do(call, replay.Answer{Status: 503}); a.Status != 503 || replayed || err != nil {
		t.Errorf("a failure: %+v, %v, %v", a, replayed, err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _, err := r.Do(t.Context(), call, func() replay.Answer { panic("bug") })
		t.Errorf("a panic: %v", err)
	}()
	if a, replayed, err := do(call, answer); !cmp.Equal(a, answer) || replayed || err != nil {
		t.Errorf("the first: %+v, %v, %v", a, replayed, err)
	}
	if a, replayed, err := do(call, replay.Answer{Status: 409}); !cmp.Equal(a, answer) || !replayed || err != nil {
		t.Errorf("again: %+v, %v, %v", a, replayed, err)
	}
	if calls != 2 {
		t.Errorf("called %d times, want 2", calls)
	}
	other := call
	other.BodyDigest = sha256.Sum256([]byte("another"))
	if _, _, err := do(other, answer); !errors.Is(err, replay.ErrMismatch) {
		t.Errorf("another body: %v", err)
	}
	other.Actor = "somebody else"
	_, _, err = r.Do(t.Context(), other, func() replay.Answer {
		if _, _, err := do(other, answer); !errors.Is(err, replay.ErrRunning) {
			t.Errorf("while the first runs: %v", err)
		}
		return answer
	})
	if err != nil {
		t.Error(err)
	}
	if stored, err := w.records.BeginReplay(t.Context(), store.Replay{Key: call.Key, Actor: call.Actor, Route: call.Route}); err != nil || bytes.Contains(stored.Sealed, []byte("s3cret")) {
		t.Errorf("at rest: %q, %v", stored.Sealed, err)
	}
	stolen, err := replay.New(w.records, bytes.Repeat([]byte("x"), 32), w.random, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := stolen.Do(t.Context(), call, func() replay.Answer { return answer }); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("under another key: %v", err)
	}
	w.now = w.now.Add(replay.Kept + time.Microsecond)
	if err := r.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, replayed, err := do(call, answer); replayed || err != nil {
		t.Errorf("after it was forgotten: %v, %v", replayed, err)
	}
}

// A call that a crash cut off must not block its key for a day.
func TestReplayAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, err := replay.New(w.records, bytes.Repeat([]byte("k"), 32), w.random, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	c := replay.Call{Key: "once", Actor: "op", Route: "POST /v1/keys"}
	if _, err := w.records.BeginReplay(t.Context(), store.Replay{Key: c.Key, Actor: c.Actor, Route: c.Route, CreatedAt: w.now}); err != nil {
		t.Fatal(err)
	}
	answer := replay.Answer{Status: 201, Body: []byte("{}")}
	do := func() error {
		_, _, err := r.Do(t.Context(), c, func() replay.Answer { return answer })
		return err
	}
	if err := do(); !errors.Is(err, replay.ErrRunning) {
		t.Errorf("at once: %v", err)
	}
	w.now = w.now.Add(16 * time.Minute)
	if err := do(); err != nil {
		t.Errorf("later: %v", err)
	}
}
