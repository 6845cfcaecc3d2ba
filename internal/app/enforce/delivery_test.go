package enforce

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/spool"
)

// TestReleasesAreNoGap: requests that were given back leave nothing to tell, yet the spool that they filled is truncated, and
// what was truncated is not missed after a crash.
func TestReleasesAreNoGap(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, spool.Config{SegmentBytes: spool.MinSegmentBytes}, quotaLimit("daily", "1000", period.Day))
	for _, n := range []int{60, 300} { // less and more than is told of at once
		w.calls(1)
		w.flush()
		for range n {
			if err := w.admit().Release(Failed); err != nil {
				t.Fatal(err)
			}
		}
		w.flush()
		start := w.spool.Start()
		w.crash()
		w.open()
		w.wantSound(t.Fatalf)
		if n == 300 && start == 0 {
			t.Error("releases alone keep the spool from being truncated")
		}
	}
	w.wantBooked("2")
	w.wantSound(t.Fatalf)
}

// TestRefusedBatchesStay: what the receiver refuses stays in the spool, and counts once it is taken.
func TestRefusedBatchesStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "1000", period.Day))
	deliver := w.e.cfg.Deliver
	w.e.cfg.Deliver = func(ctx context.Context, epoch uint32, from, to int64, b *store.Batch) ([]store.Result, error) {
		return deliver(ctx, epoch, from+1<<20, to+1<<20, b) // as if a part of the spool had been left out
	}
	w.calls(1)
	if err := w.e.Flush(t.Context()); err != nil { // nothing is known of the node yet
		t.Fatal(err)
	}
	w.e.cfg.Deliver = deliver
	w.calls(1)
	w.flush()
	w.e.cfg.Deliver = func(ctx context.Context, epoch uint32, from, to int64, b *store.Batch) ([]store.Result, error) {
		return deliver(ctx, epoch, from+1<<20, to+1<<20, b)
	}
	w.calls(3)
	if err := w.e.Flush(t.Context()); !errors.Is(err, receive.ErrRefused) || !strings.Contains(err.Error(), "covered up to") {
		t.Fatalf("flush: %v", err)
	}
	w.e.cfg.Deliver = deliver
	w.calls(1)
	w.wantBooked("6")
	found, err := w.receiver.Findings(t.Context())
	if err != nil || len(found) != 1 || found[0].Reason != string(receive.Gap) {
		t.Errorf("findings %+v, %v", found, err)
	}
}

// TestStatsDoNotWait: while a batch is on its way the state of a gateway can be told, and what is on its way counts as not shipped.
func TestStatsDoNotWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "1000", period.Day))
	w.calls(1)
	w.flush()
	if lag := w.e.Stats().SpoolLag; lag != 0 {
		t.Errorf("%d bytes are not shipped", lag)
	}
	deliver := w.e.cfg.Deliver
	asked, goOn := make(chan bool), make(chan bool)
	w.e.cfg.Deliver = func(ctx context.Context, epoch uint32, from, to int64, b *store.Batch) ([]store.Result, error) {
		asked <- true
		<-goOn
		return deliver(ctx, epoch, from, to, b)
	}
	w.calls(1)
	flushed := make(chan error, 1)
	go func() { flushed <- w.e.Flush(t.Context()) }()
	<-asked
	if lag := w.e.Stats().SpoolLag; lag <= 0 {
		t.Errorf("%d bytes are not shipped while they are on their way", lag)
	}
	close(goOn)
	if err := <-flushed; err != nil || w.e.Stats().SpoolLag != 0 {
		t.Errorf("%v, %d bytes are not shipped", err, w.e.Stats().SpoolLag)
	}
}

// TestForgedBatchOfTheGateway: what was shipped verifies; sent again it has no effect, and changed it is refused.
func TestForgedBatchOfTheGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "1000", period.Day))
	w.calls(2)
	w.flush()
	var last store.Batch
	deliver := w.e.cfg.Deliver
	w.e.cfg.Deliver = func(ctx context.Context, epoch uint32, from, to int64, b *store.Batch) ([]store.Result, error) {
		results, err := deliver(ctx, epoch, from, to, b)
		last = *b
		return results, err
	}
	w.calls(1)
	w.flush()
	if !receive.Verify(w.receiver.Keys()[0].Public, &last) {
		t.Error("the shipped batch does not verify")
	}
	results, err := w.receiver.Receive(t.Context(), &last)
	if err != nil || results[0].Outcome != store.Duplicate {
		t.Errorf("a replay: %+v, %v", results, err)
	}
	last.Totals[0].Total = dec("1000")
	if _, err := w.receiver.Receive(t.Context(), &last); !errors.Is(err, receive.ErrRefused) {
		t.Errorf("a forgery: %v", err)
	}
	w.wantBooked("3")
}
