package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/transfer"
)

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string) *file.Journal {
	t.Helper()
	j, err := file.Open(file.Config{Dir: dir, SegmentBytes: 16 << 10, Commit: func(string, uint64, []byte, []byte) ([32]byte, error) { return [32]byte{1}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Error(err)
		}
	})
	return j
}

func entry(source string, n int) store.Entry {
	e := store.Entry{
		Event: meter.Event{
			Source: source, ID: fmt.Sprint(n), Type: "call", Subject: fmt.Sprintf("cus_%d", n%7), Time: start.Add(time.Duration(n) * time.Minute),
			Data: fmt.Appendf(nil, `{"n":%d}`, n),
		},
		Origin: meter.Reported,
	}
	if n%11 != 0 { // else it is unmatched
		e.Resolutions = []meter.Resolution{{CustomerID: e.Event.Subject, Meter: "calls", CatalogVersion: 1, Value: money.FromInt(int64(n % 5)), Dimensions: []meter.Dimension{{Name: "route", Value: "/a"}}}}
	}
	return e
}

// write fills a journal with all there is but erasures.
func write(t *testing.T, j store.Journal) {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range 40 {
		b := store.Batch{Producer: "api/tok_1", ReceivedAt: start.Add(time.Duration(n) * time.Hour)}
		for i := range 10 {
			b.Entries = append(b.Entries, entry("api", n*10+i))
		}
		if n == 3 {
			b.Entries = append(b.Entries, entry("api", 2), entry("api", 4)) // duplicates
		}
		if n == 5 {
			b.Entries[0].Flags, b.Entries[0].Unit, b.Entries[0].Resolutions = store.Held, "bkf_1", nil
		}
		_, err := j.Append(ctx, b)
		check(err)
		g := store.Batch{
			Producer: "gateway/1", Node: 1, Epoch: 7, First: uint64(n * 10), Last: uint64(n*10 + 9), ReceivedAt: b.ReceivedAt, Signature: []byte("signed"), KeyID: "gwk_1",
			Totals: []store.AdmittedTotal{{CustomerID: "cus_1", Meter: "calls", PeriodStart: start.UnixMicro(), Total: money.FromInt(int64(n))}},
		}
		e := entry("gateway/1", n)
		e.Origin, e.Receipt, e.KeyID = meter.Admitted, []byte("receipt"), "key_1"
		g.Entries = []store.Entry{e}
		if n%4 == 0 {
			g.Marks = []store.Mark{{Source: "gateway/1", ID: fmt.Sprint(n), Flags: store.Incomplete}}
		}
		_, err = j.Append(ctx, g)
		check(err)
		if n%9 == 4 {
			check(j.Cut(ctx, "cus_2", b.ReceivedAt.Add(time.Minute)))
		}
		if n%8 == 5 {
			_, err = j.Seal(ctx, []byte(`{"n":1}`), []byte(`{"n":2}`))
			check(err)
		}
		if n%6 == 5 {
			amended := entry("api", n*10+1)
			_, err = j.Revise(ctx, store.Revisions{Actor: "op", Reason: "wrong", At: b.ReceivedAt, List: []store.Revision{
				{Source: "api", ID: fmt.Sprint(n*10 + 2), Kind: store.Void, If: store.AnyRevision},
				{Source: "api", ID: fmt.Sprint(n*10 + 1), Kind: store.Amend, Event: meter.Event{Type: "call", Subject: "cus_3", Data: []byte(`{"n":5}`)}, Resolutions: amended.Resolutions, If: store.AnyRevision},
				{Source: "api", ID: fmt.Sprint(n*10 + 3), Kind: store.Resolve, Resolutions: amended.Resolutions, If: store.AnyRevision},
			}})
			check(err)
		}
	}
}

var errStopped = errors.New("stopped")

// stopping ends a transfer after some writes.
type stopping struct {
	store.Journal
	left int
}

func (s *stopping) spend() error {
	if s.left--; s.left < 0 {
		return errStopped
	}
	return nil
}

func (s *stopping) Append(ctx context.Context, b store.Batch) ([]store.Result, error) {
	if err := s.spend(); err != nil {
		return nil, err
	}
	return s.Journal.Append(ctx, b)
}

func (s *stopping) Revise(ctx context.Context, r store.Revisions) ([]uint64, error) {
	if err := s.spend(); err != nil {
		return nil, err
	}
	return s.Journal.Revise(ctx, r)
}

func (s *stopping) Seal(ctx context.Context, documents ...[]byte) (uint64, error) {
	if err := s.spend(); err != nil {
		return 0, err
	}
	return s.Journal.Seal(ctx, documents...)
}

// A transfer that is stopped again and again ends with the same journal.
func TestJournalIsTheSame(t *testing.T) {
	t.Parallel()
	from, to := open(t, t.TempDir()), open(t, t.TempDir())
	write(t, from)
	stops := 0
	for ; ; stops++ {
		err := transfer.Journal(t.Context(), from, &stopping{to, 7}, func(uint64) {})
		if err == nil {
			break
		}
		if !errors.Is(err, errStopped) {
			t.Fatal(err)
		}
	}
	c, err := transfer.Compare(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	if stops < 5 || c.Events != 440 || c.Histories < 10 || c.Periods != 1 || c.Series != 7 || c.Buckets < 100 {
		t.Errorf("%d stops, compared %+v", stops, c)
	}
	// Nothing that is different goes unnoticed.
	if _, err := to.Revise(t.Context(), store.Revisions{Actor: "x", Reason: "y", At: start, List: []store.Revision{{Source: "api", ID: "8", Kind: store.Void, If: store.AnyRevision}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Compare(t.Context(), from, to); !errors.Is(err, transfer.ErrDiffers) {
		t.Errorf("one record more: %v", err)
	}
	if err := transfer.Journal(t.Context(), from, to, func(uint64) {}); !errors.Is(err, transfer.ErrDiffers) {
		t.Errorf("a target with something else: %v", err)
	}
}

func TestErasedIsRefused(t *testing.T) {
	t.Parallel()
	from, to := open(t, t.TempDir()), open(t, t.TempDir())
	write(t, from)
	if _, err := from.Erase(t.Context(), "cus_1", "op", "asked", start); err != nil {
		t.Fatal(err)
	}
	if err := transfer.Journal(t.Context(), from, to, func(uint64) {}); !errors.Is(err, transfer.ErrErased) {
		t.Errorf("an erasure was moved: %v", err)
	}
}
