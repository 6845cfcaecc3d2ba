// Package recounts holds the conformance suite of store.Recounts. Every driver of the records runs it.
package recounts

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Suite checks a driver's promises. open opens an empty store, which it closes when the test ends.
func Suite(t *testing.T, open func(t *testing.T) store.Records) {
	for name, test := range map[string]func(*testing.T, store.Records){
		"OneAMeterRuns":  oneAMeterRuns,
		"Progress":       progress,
		"EndedStays":     endedStays,
		"NewestFirst":    newestFirst,
		"WriteIsAudited": writeIsAudited,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func minute(n int) time.Time {
	return time.Date(2026, 1, 1, 12, n, 0, 123_456_000, time.UTC)
}

func audit(n int) store.Audit {
	return store.Audit{ID: fmt.Sprintf("aud_%026d", n), Time: minute(n), Actor: "operator", Action: "test.write", Target: "rcn", Detail: `{}`}
}

func recount(n int, meterKey string) store.Recount {
	return store.Recount{
		ID: fmt.Sprintf("rcn_%026d", n), Meter: meterKey, In: period.Interval{Start: minute(0)}, IncludeClosed: true, Actor: "operator",
		Reason: "größer", CatalogVersion: 3, CreatedAt: minute(n), State: store.RecountRunning, UpdatedAt: minute(n), Total: 1 << 40,
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error %v, want %v", what, err, want)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.Transformer("decimal", money.Decimal.String)); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func oneAMeterRuns(t *testing.T, r store.Records) {
	ctx := t.Context()
	first := recount(1, "tokens")
	ok(t, r.PutRecount(ctx, first, audit(1)))
	wantErr(t, "a second of the meter", r.PutRecount(ctx, recount(2, "tokens"), audit(2)), store.ErrExists)
	wantErr(t, "the same id", r.PutRecount(ctx, recount(1, "calls"), audit(3)), store.ErrExists)
	ok(t, r.PutRecount(ctx, recount(3, "calls"), audit(4)))
	list, err := r.RunningRecounts(ctx)
	ok(t, err)
	same(t, "running ones, oldest first", list, []store.Recount{first, recount(3, "calls")})
	first.State = store.RecountDone
	ok(t, r.SaveRecount(ctx, first))
	ok(t, r.PutRecount(ctx, recount(4, "tokens"), audit(5)))
}

func progress(t *testing.T, r store.Records) {
	ctx := t.Context()
	c := recount(1, "tokens")
	c.In.End = minute(59)
	wantErr(t, "save none", r.SaveRecount(ctx, c), store.ErrNotFound)
	ok(t, r.PutRecount(ctx, c, audit(1)))
	c.CatalogVersion, c.UpdatedAt, c.Cursor, c.Done, c.Total, c.Last, c.Seen = 4, minute(2), "0.x", 1<<40, 1<<41, true, 1<<42
	c.Read, c.Changed, c.Closed, c.Admitted, c.Unreadable = 1<<33, 2, 3, 4, 5
	c.Difference, c.Problem = money.MustDecimal("-12345678901234567890.0123456789"), "first: tokens is missing"
	ok(t, r.SaveRecount(ctx, c))
	got, err := r.Recount(ctx, c.ID)
	ok(t, err)
	same(t, "what was saved", got, c)
	_, err = r.Recount(ctx, "rcn_none")
	wantErr(t, "one that is not there", err, store.ErrNotFound)
}

func endedStays(t *testing.T, r store.Records) {
	ctx := t.Context()
	c := recount(1, "tokens")
	ok(t, r.PutRecount(ctx, c, audit(1)))
	got, err := r.CancelRecount(ctx, c.ID, minute(5), audit(2))
	ok(t, err)
	c.State, c.UpdatedAt = store.RecountCancelled, minute(5)
	same(t, "cancelled", got, c)
	got, err = r.Recount(ctx, c.ID)
	ok(t, err)
	same(t, "cancelled and read", got, c)
	_, err = r.CancelRecount(ctx, c.ID, minute(6), audit(3))
	wantErr(t, "cancel again", err, store.ErrConflict)
	c.State = store.RecountRunning
	wantErr(t, "save after the end", r.SaveRecount(ctx, c), store.ErrConflict)
	_, err = r.CancelRecount(ctx, "rcn_none", minute(6), audit(3))
	wantErr(t, "cancel none", err, store.ErrNotFound)
	list, err := r.RunningRecounts(ctx)
	ok(t, err)
	same(t, "running ones", list, []store.Recount{})
}

func newestFirst(t *testing.T, r store.Records) {
	ctx := t.Context()
	for n := range 5 {
		ok(t, r.PutRecount(ctx, recount(n, fmt.Sprint("m", n)), audit(n)))
	}
	var got []string
	cursor := ""
	for {
		list, err := r.ListRecounts(ctx, store.Query{Cursor: cursor, Limit: 2})
		ok(t, err)
		if len(list) == 0 {
			break
		}
		for _, c := range list {
			got = append(got, c.Meter)
		}
		cursor = list[len(list)-1].ID
	}
	same(t, "order", got, []string{"m4", "m3", "m2", "m1", "m0"})
}

func writeIsAudited(t *testing.T, r store.Records) {
	ctx := t.Context()
	c := recount(1, "tokens")
	ok(t, r.PutAudit(ctx, audit(1)))
	wantErr(t, "put with a taken audit id", r.PutRecount(ctx, c, audit(1)), store.ErrExists)
	_, err := r.Recount(ctx, c.ID)
	wantErr(t, "it was not stored", err, store.ErrNotFound)
	ok(t, r.PutRecount(ctx, c, audit(2)))
	_, err = r.CancelRecount(ctx, c.ID, minute(5), audit(1))
	wantErr(t, "cancel with a taken audit id", err, store.ErrExists)
	got, err := r.Recount(ctx, c.ID)
	ok(t, err)
	same(t, "it runs still", got, c)
	_, err = r.CancelRecount(ctx, c.ID, minute(5), audit(3))
	ok(t, err)
	list, err := r.ListAudit(ctx, store.Query{Limit: 10})
	ok(t, err)
	same(t, "audit", list, []store.Audit{audit(3), audit(2), audit(1)})
}
