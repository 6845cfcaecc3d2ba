package journal_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/internal/store/postgres"
	"github.com/tallystick/tallystick/internal/store/postgres/journal"
)

// TestFence: once another one leads, nothing that the leader before does to the journal is written.
func TestFence(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), pgtest.Database(t)
	records, err := postgres.Open(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = records.Close() })
	lead := func(holder string) *journal.Journal {
		l, err := records.TakeLead(ctx, holder, "http://"+holder, time.Hour)
		if err != nil || l.Holder != holder {
			t.Fatalf("%+v %v", l, err)
		}
		j, err := journal.Open(ctx, journal.Config{URL: dsn, Fence: l.Fence, Unsafe: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.Close() })
		return j
	}
	first := lead("a")
	if _, err := first.Append(ctx, batch(0, 2, 1)); err != nil {
		t.Fatal(err)
	}
	l, err := records.Leader(ctx)
	if err == nil {
		err = records.YieldLead(ctx, l.Fence)
	}
	if err != nil {
		t.Fatal(err)
	}
	second := lead("b")
	_, appended := first.Append(ctx, batch(2, 1, 1))
	_, sealed := first.Seal(ctx, []byte("checkpoint"))
	_, revised := first.Revise(ctx, store.Revisions{
		At: noon(), Reason: "test", Actor: "test", List: []store.Revision{{Kind: store.Void, Source: "s", ID: batch(0, 1, 1).Entries[0].Event.ID, If: store.AnyRevision}},
	})
	for what, err := range map[string]error{
		"append": appended, "seal": sealed, "revise": revised, "cut": first.Cut(ctx, key(0).CustomerID, noon().Add(time.Second)),
	} {
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s of a deposed leader: %v", what, err)
		}
	}
	if got, err := second.Append(ctx, batch(2, 1, 1)); err != nil || got[0].Outcome != store.Accepted || got[0].Position != 5 {
		t.Errorf("the next leader's first event: %+v %v", got, err)
	}
}
