package storetest

import (
	"testing"

	"github.com/tallystick/tallystick/internal/store"
)

func backfill(n int) store.Backfill {
	return store.Backfill{
		ID: id("bfl", n), Name: "march-" + string(rune('a'+n)), Reason: "the collector was down", State: store.BackfillOpen,
		OpenedAt: noon(n), OpenedBy: "operator", ChangedAt: noon(n), ChangedBy: "operator",
	}
}

func recordsBackfills(t *testing.T, r store.Records) {
	ctx := t.Context()
	ok(t, r.PutBackfill(ctx, backfill(1), 2, audit(1)))
	twin := backfill(2)
	twin.Name = backfill(1).Name
	wantErr(t, "taken name", r.PutBackfill(ctx, twin, 2, audit(2)), store.ErrExists)
	ok(t, r.PutBackfill(ctx, backfill(2), 2, audit(2)))
	wantErr(t, "a third open one", r.PutBackfill(ctx, backfill(3), 2, audit(3)), store.ErrConflict)
	for _, ref := range []string{backfill(1).ID, backfill(1).Name} {
		got, err := r.Backfill(ctx, ref)
		ok(t, err)
		same(t, ref, got, backfill(1))
	}
	_, err := r.Backfill(ctx, "none")
	wantErr(t, "unknown", err, store.ErrNotFound)

	_, err = r.MoveBackfill(ctx, backfill(1).ID, store.BackfillClosed, store.BackfillReverting, "why", audit(3))
	wantErr(t, "move from another state", err, store.ErrConflict)
	_, err = r.MoveBackfill(ctx, id("bfl", 9), store.BackfillOpen, store.BackfillClosing, "why", audit(3))
	wantErr(t, "move of none", err, store.ErrNotFound)
	moved, err := r.MoveBackfill(ctx, backfill(1).ID, store.BackfillOpen, store.BackfillClosing, "why", audit(3))
	ok(t, err)
	want := backfill(1)
	want.State, want.ChangedAt, want.ChangedFor = store.BackfillClosing, noon(3), "why"
	same(t, "moved", moved, want)

	working, err := r.WorkingBackfills(ctx)
	ok(t, err)
	same(t, "working", working, []store.Backfill{want})
	want.Cursor, want.Events, want.Counted, want.Unmatched = "0.z", 10, 7, 3
	ok(t, r.StepBackfill(ctx, want, store.BackfillClosing))
	wantErr(t, "step from another state", r.StepBackfill(ctx, want, store.BackfillOpen), store.ErrConflict)
	got, err := r.Backfill(ctx, want.ID)
	ok(t, err)
	same(t, "stepped", got, want)
	want.State, want.Cursor = store.BackfillClosed, ""
	ok(t, r.StepBackfill(ctx, want, store.BackfillClosing))
	working, err = r.WorkingBackfills(ctx)
	ok(t, err)
	same(t, "none works", working, []store.Backfill{})
	ok(t, r.PutBackfill(ctx, backfill(3), 2, audit(4))) // a closed one makes room

	moved, err = r.MoveBackfill(ctx, want.ID, store.BackfillClosed, store.BackfillReverting, "why", audit(5))
	ok(t, err)
	if moved.Events != 0 || moved.Counted != 0 || moved.Cursor != "" {
		t.Errorf("a new job begins with the old one's counts: %+v", moved)
	}
	moved.State, moved.Voided = store.BackfillReverted, 10
	ok(t, r.StepBackfill(ctx, moved, store.BackfillReverting))
	_, err = r.MoveBackfill(ctx, want.ID, store.BackfillReverted, store.BackfillOpen, "why", audit(6))
	wantErr(t, "out of reverted", err, store.ErrConflict)

	list, err := r.ListBackfills(ctx, store.Query{Limit: 2})
	ok(t, err)
	same(t, "newest first", list, []store.Backfill{backfill(3), backfill(2)})
	list, err = r.ListBackfills(ctx, store.Query{Limit: 2, Cursor: backfill(2).ID})
	ok(t, err)
	same(t, "next page", list, []store.Backfill{moved})
	audits, err := r.ListAudit(ctx, store.Query{Limit: 10})
	ok(t, err)
	if len(audits) != 5 {
		t.Errorf("%d audit entries, want one for each of five writes that were done", len(audits))
	}
}

func recordsAliases(t *testing.T, r store.Records) {
	ctx := t.Context()
	alias := func(n int, kind store.AliasKind, from, to string) store.Alias {
		return store.Alias{ID: id("als", n), Kind: kind, From: from, To: to, CreatedAt: noon(n), CreatedBy: "operator"}
	}
	first := alias(1, store.AliasType, "api call", "request")
	second := alias(2, store.AliasCustomer, "api call", id("cus", 1))
	ok(t, r.PutAlias(ctx, first, 2, audit(1)))
	wantErr(t, "taken name", r.PutAlias(ctx, alias(3, store.AliasType, "api call", "other"), 2, audit(2)), store.ErrExists)
	ok(t, r.PutAlias(ctx, second, 2, audit(2)))
	wantErr(t, "one too many", r.PutAlias(ctx, alias(3, store.AliasType, "x", "request"), 2, audit(3)), store.ErrConflict)
	list, err := r.ListAliases(ctx, store.Query{Limit: 10})
	ok(t, err)
	same(t, "newest first", list, []store.Alias{second, first})
	list, err = r.ListAliases(ctx, store.Query{Limit: 10, Cursor: second.ID})
	ok(t, err)
	same(t, "next page", list, []store.Alias{first})
	_, err = r.DeleteAlias(ctx, store.AliasType, "x", audit(3))
	wantErr(t, "delete none", err, store.ErrNotFound)
	gone, err := r.DeleteAlias(ctx, store.AliasType, "api call", audit(3))
	ok(t, err)
	same(t, "deleted", gone, first)
	list, err = r.ListAliases(ctx, store.Query{Limit: 10})
	ok(t, err)
	same(t, "what is left", list, []store.Alias{second})
	ok(t, r.PutAlias(ctx, alias(4, store.AliasType, "api call", "other"), 2, audit(4)))
}
