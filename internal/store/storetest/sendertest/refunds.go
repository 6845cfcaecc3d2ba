package sendertest

import (
	"strconv"
	"testing"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// Refunds checks a driver's promises about what was given back.
func Refunds(t *testing.T, open func(t *testing.T) store.Records) {
	ctx, r := t.Context(), open(t)
	f := store.Refund{
		CustomerID: id("cus", 1), Day: noon(1), Route: "GET /a", Meter: "tokens", Reason: "failed", Count: 2, Cost: money.MustDecimal("0.5"),
	}
	refused, later, other, timedOut := f, f, f, f
	refused.Refused, later.Day, other.CustomerID, timedOut.Reason = true, noon(2), id("cus", 2), "timed_out"
	ok(t, r.AddRefunds(ctx, nil))
	ok(t, r.AddRefunds(ctx, []store.Refund{f, refused, f}))
	ok(t, r.AddRefunds(ctx, []store.Refund{later, other, timedOut, f}))
	want := func(what string, q store.Query, list ...store.Refund) []store.Refund {
		t.Helper()
		got, err := r.ListRefunds(ctx, q)
		ok(t, err)
		ids := make([]int64, len(got))
		for i := range got {
			ids[i], got[i].ID = got[i].ID, 0
		}
		same(t, what, got, append([]store.Refund{}, list...))
		for i := range got {
			got[i].ID = ids[i]
		}
		return got
	}
	sum := f
	sum.Count, sum.Cost = 6, money.MustDecimal("1.5")
	all := want("all", store.Query{Limit: 10}, timedOut, other, later, refused, sum)
	want("of a customer", store.Query{Limit: 10, CustomerID: f.CustomerID}, timedOut, later, refused, sum)
	want("first page", store.Query{Limit: 2}, timedOut, other)
	want("second page", store.Query{Limit: 2, Cursor: strconv.FormatInt(all[1].ID, 10)}, later, refused)
	ok(t, r.PruneRefunds(ctx, noon(2)))
	want("after pruning", store.Query{Limit: 10}, later)
}
