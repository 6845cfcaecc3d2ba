package storetest

import (
	"testing"

	"github.com/tallystick/tallystick/internal/store"
)

// recordsCloseManyAtOnce closes periods of several subscriptions together: in order, or not at all.
func recordsCloseManyAtOnce(t *testing.T, r store.Records) {
	ctx := t.Context()
	subscribers(t, r, 3)
	var closes []store.Close
	var list []store.Finish
	for _, sub := range []int{2, 1, 3} {
		c, draft := closing(sub, 1, 31)
		closes = append(closes, c)
		list = append(list, store.Finish{Close: c, Issue: store.Issue{Invoice: &draft}})
	}
	list[1].Invoice = nil // none is due

	unknown, _ := closing(9, 1, 31)
	_, err := r.BeginCloses(ctx, append(closes[:2:2], unknown))
	wantErr(t, "begin with an unknown subscription", err, store.ErrNotFound)
	_, err = r.FinishCloses(ctx, list, noon(40))
	wantErr(t, "finish before begin", err, store.ErrNotFound)
	begun, err := r.BeginCloses(ctx, closes)
	ok(t, err)
	same(t, "begun", begun, closes)

	_, err = r.FinishCloses(ctx, list[:1], noon(40))
	ok(t, err)
	_, err = r.FinishCloses(ctx, list, noon(40))
	wantErr(t, "one of them is done", err, store.ErrConflict)
	left, err := r.Closes(ctx, list[2].SubscriptionID)
	ok(t, err)
	same(t, "the others are as they were", left, closes[2:])
	finals, err := r.FinishCloses(ctx, list[1:], noon(40))
	ok(t, err)
	if len(finals) != 2 || finals[0] != nil || finals[1] == nil || finals[1].Number != 2 {
		t.Errorf("finals: %+v", finals)
	}
}
