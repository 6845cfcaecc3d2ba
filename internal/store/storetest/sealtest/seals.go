// Package sealtest holds the conformance suite of what the sealer keeps in the records.
package sealtest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Seals checks a driver's promises to the sealer. open opens an empty store, which it closes when the test ends.
func Seals(t *testing.T, open func(t *testing.T) store.Records) {
	for name, test := range map[string]func(*testing.T, store.Records){
		"OneSealer":    oneSealer,
		"Checkpoints":  checkpoints,
		"SealedCloses": sealedCloses,
		"SubjectKeys":  subjectKeys,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func noon(day int) time.Time {
	return time.Date(2026, 1, 1, 12, 0, 0, 123_456_000, time.UTC).AddDate(0, 0, day)
}

func checkpoint(size uint64) store.Checkpoint {
	return store.Checkpoint{Size: size, Root: [32]byte{byte(size)}, Time: noon(int(size)), Note: bytes.Repeat([]byte{byte(size)}, 9)}
}

// oneSealer: who has taken the fence writes, whoever had it before does not.
func oneSealer(t *testing.T, r store.Records) {
	ctx := t.Context()
	if f, err := r.Fence(ctx); f != 0 || err != nil {
		t.Fatalf("fence of a new store: %d, %v", f, err)
	}
	if err := r.PutCheckpoint(ctx, 1, checkpoint(1)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("writing without the fence: %v", err)
	}
	first, err := r.TakeFence(ctx, 0)
	if err != nil || first == 0 {
		t.Fatalf("take: %d, %v", first, err)
	}
	if _, err := r.TakeFence(ctx, 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("taking what another took meanwhile: %v", err)
	}
	if err := r.PutCheckpoint(ctx, first, checkpoint(1)); err != nil {
		t.Fatal(err)
	}
	second, err := r.TakeFence(ctx, first)
	if err != nil || second <= first {
		t.Fatalf("take over: %d, %v", second, err)
	}
	if f, err := r.Fence(ctx); f != second || err != nil {
		t.Errorf("fence: %d, %v, expected %d", f, err, second)
	}
	if err := r.PutCheckpoint(ctx, first, checkpoint(2)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a checkpoint of the sealer that was replaced: %v", err)
	}
	if err := r.PutSealedCloses(ctx, first, []store.SealedClose{{SubscriptionID: "sub", Position: 1}}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a close of the sealer that was replaced: %v", err)
	}
}

func checkpoints(t *testing.T, r store.Records) {
	ctx := t.Context()
	fence, err := r.TakeFence(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []uint64{3, 7, 20} {
		if err := r.PutCheckpoint(ctx, fence, checkpoint(size)); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []uint64{0, 19, 20} {
		if err := r.PutCheckpoint(ctx, fence, checkpoint(size)); err == nil {
			t.Errorf("a checkpoint of %d leaves after one of 20 was taken", size)
		}
	}
	for _, c := range []struct {
		before uint64
		limit  int
		want   []store.Checkpoint
	}{
		{0, 10, []store.Checkpoint{checkpoint(20), checkpoint(7), checkpoint(3)}},
		{20, 1, []store.Checkpoint{checkpoint(7)}},
		{3, 5, []store.Checkpoint{}},
	} {
		got, err := r.Checkpoints(ctx, c.before, c.limit)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("before %d: %v (-want +got):\n%s", c.before, err, diff)
		}
	}
	for position, want := range map[uint64]uint64{1: 3, 3: 3, 4: 7, 20: 20} {
		if got, err := r.CheckpointOver(ctx, position); err != nil || got.Size != want {
			t.Errorf("over %d: %d, %v, expected %d", position, got.Size, err, want)
		}
	}
	if _, err := r.CheckpointOver(ctx, 21); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("over 21: %v", err)
	}
}

func sealedCloses(t *testing.T, r store.Records) {
	ctx := t.Context()
	fence, err := r.TakeFence(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := store.SealedClose{SubscriptionID: "sub_1", Period: period.Interval{Start: noon(0), End: noon(31)}}
	if _, err := r.SealedClose(ctx, at); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before it is sealed: %v", err)
	}
	first := at
	first.InvoiceID, first.Position = "inv_1", 5
	again := first
	again.Position = 9 // the same document once more, after a crash
	for _, put := range []store.SealedClose{first, again} {
		if err := r.PutSealedCloses(ctx, fence, []store.SealedClose{put}); err != nil {
			t.Errorf("put: %v", err)
		}
	}
	start := store.SealedClose{SubscriptionID: "sub_1", Period: period.Interval{Start: noon(0), End: noon(0)}, Position: 4}
	if err := r.PutSealedCloses(ctx, fence, []store.SealedClose{start, again}); err != nil {
		t.Fatal(err)
	}
	for _, by := range []store.SealedClose{at, {InvoiceID: "inv_1"}} {
		got, err := r.SealedClose(ctx, by)
		if diff := cmp.Diff(first, got); diff != "" || err != nil {
			t.Errorf("by %+v: %v (-want +got):\n%s", by, err, diff)
		}
	}
	if _, err := r.SealedClose(ctx, store.SealedClose{InvoiceID: "inv_2"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another invoice: %v", err)
	}
}

func subjectKeys(t *testing.T, r store.Records) {
	ctx := t.Context()
	fresh := func(n byte, count int) [][32]byte {
		keys := make([][32]byte, count)
		for i := range keys {
			keys[i] = [32]byte{n, byte(i)}
		}
		return keys
	}
	get := func(n byte, subjects ...string) [][32]byte {
		t.Helper()
		keys, err := r.SubjectKeys(ctx, subjects, fresh(n, len(subjects)))
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	if diff := cmp.Diff([][32]byte{{1, 0}, {1, 1}, {1, 0}}, get(1, "a", "b", "a")); diff != "" {
		t.Errorf("first use (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][32]byte{{2, 0}, {1, 1}, {1, 0}}, get(2, "c", "b", "a")); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := r.ForgetSubject(ctx, "b"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([][32]byte{{1, 0}, {3, 1}}, get(3, "a", "b")); diff != "" {
		t.Errorf("forgotten (-want +got):\n%s", diff)
	}
	if _, err := r.SubjectKeys(ctx, []string{"d"}, nil); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("no fresh key: %v", err)
	}
}
