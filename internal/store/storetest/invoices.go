package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/store"
)

func decimal(s string) money.Decimal { return money.MustDecimal(s) }

func euros(minor int64) money.Amount { return money.NewAmount(minor, money.MustCurrency("EUR")) }

// closing is a period of a subscription, and the draft for it.
func closing(sub, from, to int) (store.Close, invoice.Invoice) {
	c := store.Close{SubscriptionID: id("sub", sub), Period: period.Interval{Start: noon(from), End: noon(to)}, Position: 1 << 40, ClosedAt: noon(to + 1)}
	key := fmt.Sprintf("%d_%d_%d", sub, from, to)
	five := decimal("10000")
	inv := invoice.Invoice{
		ID: "inv_" + key, CustomerID: id("cus", sub), SubscriptionID: c.SubscriptionID, Plan: "pro", Status: invoice.Draft,
		Currency: money.MustCurrency("EUR"), Period: c.Period, CatalogVersion: 3, TZVersion: period.TZVersion, Position: c.Position,
		Total: euros(1999),
		Lines: []invoice.Line{
			{
				ID: "iln_" + key + "_1", Number: 1, Kind: invoice.UsageLine, Price: "calls", Meter: "api_calls", Period: c.Period,
				Quantity: decimal("10001.5"), Exact: decimal("-0.0123456789012345678901234567890123456"), Rounded: euros(-1),
				Tiers: []price.TierCharge{
					{Tier: 1, Quantity: five, Amount: decimal("0")},
					{Tier: 2, Quantity: decimal("1.5"), UnitAmount: decimal("0.0004"), FlatAmount: decimal("0.1"), Amount: decimal("0.1006")},
				},
			},
			{
				ID: "iln_" + key + "_2", Number: 2, Kind: invoice.FlatLine, Price: "platform", Quantity: decimal("1"),
				Period: period.Interval{Start: noon(to), End: noon(to + 30)}, Exact: decimal("20"), Rounded: euros(2000),
			},
		},
	}
	return c, inv
}

// subscribers puts customers 1..n with one subscription each.
func subscribers(t *testing.T, r store.Records, n int) {
	t.Helper()
	for i := 1; i <= n; i++ {
		ok(t, r.PutCustomer(t.Context(), customer(i), audit(2*i)))
		ok(t, r.PutSubscription(t.Context(), subscription(i, i, 1, 0), audit(2*i+1)))
	}
}

func recordsClose(t *testing.T, r store.Records) {
	ctx := t.Context()
	subscribers(t, r, 1)
	c, draft := closing(1, 1, 31)
	_, err := r.FinishClose(ctx, c, store.Issue{Invoice: &draft}, noon(40))
	wantErr(t, "finish before begin", err, store.ErrNotFound)
	got, err := r.BeginClose(ctx, c)
	ok(t, err)
	same(t, "begun", got, c)
	later := c
	later.Position, later.ClosedAt = c.Position+5, noon(90)
	got, err = r.BeginClose(ctx, later)
	ok(t, err)
	same(t, "begun twice", got, c)

	final, err := r.FinishClose(ctx, c, store.Issue{Invoice: &draft}, noon(40))
	ok(t, err)
	want, err := invoice.Finalize(draft, 1, noon(40))
	ok(t, err)
	same(t, "returned", *final, want)
	same(t, "draft unchanged", draft.Number, int64(0))
	stored, err := r.Invoice(ctx, draft.ID)
	ok(t, err)
	same(t, "stored", stored, want)
	for i, l := range draft.Lines {
		byLine, index, err := r.InvoiceByLine(ctx, l.ID)
		ok(t, err)
		same(t, "by line", byLine, want)
		same(t, "index", index, i)
	}

	again, err := r.FinishClose(ctx, c, store.Issue{Invoice: &draft}, noon(41))
	wantErr(t, "finish twice", err, store.ErrConflict)
	same(t, "finish twice", again, nil)
	_, err = r.FinishClose(ctx, c, store.Issue{}, noon(41))
	wantErr(t, "finish twice without invoice", err, store.ErrConflict)
	done := c
	done.Done, done.InvoiceID = true, draft.ID
	got, err = r.BeginClose(ctx, later)
	ok(t, err)
	same(t, "begun after done", got, done)

	_, err = r.Invoice(ctx, "inv_x")
	wantErr(t, "unknown invoice", err, store.ErrNotFound)
	_, _, err = r.InvoiceByLine(ctx, "iln_x")
	wantErr(t, "unknown line", err, store.ErrNotFound)
	_, err = r.BeginClose(ctx, store.Close{SubscriptionID: id("sub", 9), Period: c.Period, ClosedAt: noon(1)})
	wantErr(t, "unknown subscription", err, store.ErrNotFound)
}

// The close at the start of a subscription and its first full one begin at the same instant.
func recordsCloseWithoutInvoice(t *testing.T, r store.Records) {
	ctx := t.Context()
	subscribers(t, r, 2)
	first, _ := closing(1, 1, 31)
	start, draft := closing(1, 1, 1)
	for _, c := range []store.Close{first, start} {
		_, err := r.BeginClose(ctx, c)
		ok(t, err)
	}
	inv, err := r.FinishClose(ctx, first, store.Issue{}, noon(40))
	ok(t, err)
	same(t, "no invoice", inv, nil)
	if inv, err = r.FinishClose(ctx, start, store.Issue{Invoice: &draft}, noon(41)); err != nil || inv.Number != 1 {
		t.Fatalf("finish: %+v, %v", inv, err)
	}
	start.Done, start.InvoiceID, first.Done = true, draft.ID, true
	got, err := r.Closes(ctx, id("sub", 1))
	ok(t, err)
	same(t, "closes", got, []store.Close{start, first})
	got, err = r.Closes(ctx, id("sub", 2))
	ok(t, err)
	same(t, "closes of another", got, []store.Close{})
}

// An invoice that cannot be stored leaves nothing, its number included.
func recordsCloseInvoiceIsWhole(t *testing.T, r store.Records) {
	ctx := t.Context()
	subscribers(t, r, 2)
	c, draft := closing(1, 1, 31)
	other, otherDraft := closing(2, 1, 31)
	for _, c := range []store.Close{c, other} {
		_, err := r.BeginClose(ctx, c)
		ok(t, err)
	}
	bad := draft
	bad.Status = invoice.Preview
	if _, err := r.FinishClose(ctx, c, store.Issue{Invoice: &bad}, noon(40)); !errors.Is(err, invoice.ErrState) {
		t.Fatalf("finish with a preview: %v", err)
	}
	_, err := r.FinishClose(ctx, c, store.Issue{Invoice: &draft}, noon(40))
	ok(t, err)
	twin := otherDraft
	twin.Lines = slices.Clone(otherDraft.Lines)
	twin.Lines[1].ID = draft.Lines[1].ID
	if _, err := r.FinishClose(ctx, other, store.Issue{Invoice: &twin}, noon(40)); err == nil {
		t.Fatal("a line id is taken twice")
	}
	got, err := r.Closes(ctx, other.SubscriptionID)
	ok(t, err)
	same(t, "still open", got, []store.Close{other})
	_, err = r.Invoice(ctx, otherDraft.ID)
	wantErr(t, "half an invoice", err, store.ErrNotFound)
	_, _, err = r.InvoiceByLine(ctx, otherDraft.Lines[0].ID)
	wantErr(t, "half an invoice's line", err, store.ErrNotFound)
	final, err := r.FinishClose(ctx, other, store.Issue{Invoice: &otherDraft}, noon(40))
	ok(t, err)
	same(t, "number", final.Number, int64(2))
}

func recordsNumbersHaveNoGaps(t *testing.T, r store.Records) {
	const subs, attempts = 12, 3
	ctx := t.Context()
	subscribers(t, r, subs)
	var mu sync.Mutex
	var numbers []int64
	var wg sync.WaitGroup
	for sub := 1; sub <= subs; sub++ {
		c, draft := closing(sub, 1, 31)
		_, err := r.BeginClose(ctx, c)
		ok(t, err)
		for range attempts {
			wg.Go(func() {
				inv, err := r.FinishClose(ctx, c, store.Issue{Invoice: &draft}, noon(40))
				if errors.Is(err, store.ErrConflict) && inv == nil {
					return
				}
				if err != nil {
					t.Errorf("finish: %v", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				numbers = append(numbers, inv.Number)
			})
		}
	}
	wg.Wait()
	slices.Sort(numbers)
	var want []int64
	for n := range subs {
		want = append(want, int64(n)+1)
	}
	same(t, "numbers", numbers, want)
}

func recordsListInvoices(t *testing.T, r store.Records) {
	ctx := t.Context()
	subscribers(t, r, 2)
	var want []invoice.Invoice // newest first
	for n := range 6 {
		c, draft := closing(1+n%2, n*30+1, n*30+31)
		draft.ID = fmt.Sprintf("inv_%02d", (n*5)%7) // derived ids are in no order
		if n == 3 {
			draft.Lines, draft.Total = []invoice.Line{}, euros(0)
		}
		_, err := r.BeginClose(ctx, c)
		ok(t, err)
		final, err := r.FinishClose(ctx, c, store.Issue{Invoice: &draft}, noon(200))
		ok(t, err)
		if final.Total.Minor() == 0 {
			final.Status = invoice.Paid // there is nothing to pay
		}
		want = append([]invoice.Invoice{*final}, want...)
	}
	all, err := r.ListInvoices(ctx, store.Query{Limit: 1000})
	ok(t, err)
	same(t, "all", all, want)
	var paged []invoice.Invoice
	for cursor := ""; len(paged) < len(want); cursor = paged[len(paged)-1].ID {
		page, err := r.ListInvoices(ctx, store.Query{Limit: 2, Cursor: cursor})
		ok(t, err)
		same(t, "page size", len(page), 2)
		paged = append(paged, page...)
	}
	same(t, "paged", paged, want)
	one, err := r.ListInvoices(ctx, store.Query{Limit: 2, CustomerID: id("cus", 2), Cursor: want[0].ID})
	ok(t, err)
	same(t, "of one customer", one, []invoice.Invoice{want[2], want[4]})
	_, err = r.ListInvoices(ctx, store.Query{Limit: 2, Cursor: "inv_none"})
	wantErr(t, "unknown cursor", err, store.ErrNotFound)
}
