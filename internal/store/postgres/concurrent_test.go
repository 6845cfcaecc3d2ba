package postgres

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

var usd = money.MustCurrency("USD")

var audits atomic.Int64

func audit() store.Audit {
	return store.Audit{ID: fmt.Sprintf("aud_%09d", audits.Add(1)), Time: instant}
}

func putCustomer(t testing.TB, r *Records, n int) {
	t.Helper()
	ok(t, r.PutCustomer(t.Context(), account.Customer{
		ID: fmt.Sprint("cus_", n), Key: fmt.Sprint("acme", n), Zone: period.MustZone("UTC"), Currency: usd, CreatedAt: instant,
	}, audit()))
}

func subscribed(customer, n int) account.Subscription {
	return account.Subscription{ID: fmt.Sprint("sub_", n), CustomerID: fmt.Sprint("cus_", customer), Plan: "pro", Start: instant, BillingDay: 1, CreatedAt: instant}
}

// together runs do n times at once, on two handles in turn, and returns the errors.
func together(handles [2]*Records, n int, do func(r *Records, i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = do(handles[i%2], i) })
	}
	wg.Wait()
	return errs
}

func two(t *testing.T) [2]*Records {
	t.Helper()
	dsn := migrated(t)
	rs := [2]*Records{mustOpen(t, dsn), mustOpen(t, dsn)}
	for _, err := range together(rs, 12, func(r *Records, _ int) error { // connects all, so that what follows does meet
		_, err := r.db.pool.Exec(t.Context(), "SELECT pg_sleep(0.05)")
		return err
	}) {
		ok(t, err)
	}
	return rs
}

// succeeded counts the errors that are nil; the others must be want.
func succeeded(t *testing.T, errs []error, want error) (n int) {
	t.Helper()
	for _, err := range errs {
		if err == nil {
			n++
		} else if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	return n
}

func draft(n int) *invoice.Invoice {
	p := period.Interval{Start: instant, End: instant.AddDate(0, 1, 0)}
	return &invoice.Invoice{
		ID: fmt.Sprint("inv_", n), CustomerID: "cus_1", SubscriptionID: fmt.Sprint("sub_", n), Plan: "pro", Status: invoice.Draft, Currency: usd, Period: p,
		Total: money.NewAmount(2000, usd),
		Lines: []invoice.Line{{
			ID: fmt.Sprint("iln_", n), Number: 1, Kind: invoice.FlatLine, Price: "platform", Period: p,
			Quantity: money.FromInt(1), Exact: money.FromInt(20), Rounded: money.NewAmount(2000, usd),
		}},
	}
}

// TestNumbersHaveNoGaps: servers that finish closes at once, some of which fail, leave numbers 1, 2, 3…
func TestNumbersHaveNoGaps(t *testing.T) {
	t.Parallel()
	const n = 16
	rs := two(t)
	for i := range n {
		putCustomer(t, rs[0], i)
		ok(t, rs[0].PutSubscription(t.Context(), subscribed(i, i), audit()))
		_, err := rs[0].BeginClose(t.Context(), store.Close{SubscriptionID: fmt.Sprint("sub_", i), Period: draft(i).Period, ClosedAt: instant})
		ok(t, err)
	}
	errs := together(rs, n, func(r *Records, i int) error {
		d := draft(i)
		if i%4 == 3 {
			d.Lines[0].ID = "iln_0" // taken, or takes it
		}
		_, err := r.FinishClose(t.Context(), store.Close{SubscriptionID: fmt.Sprint("sub_", i), Period: d.Period}, store.Issue{Invoice: d}, instant)
		return err
	})
	done := succeeded(t, errs, store.ErrConflict)
	all, err := rs[1].ListInvoices(t.Context(), store.Query{Limit: 100})
	ok(t, err)
	numbers := make([]int64, len(all))
	for i := range all {
		numbers[i] = all[len(all)-1-i].Number
	}
	want := make([]int64, done)
	for i := range want {
		want[i] = int64(i + 1)
	}
	if done != n-n/4 || !slices.Equal(numbers, want) {
		t.Errorf("%d closes finished, numbers %v", done, numbers)
	}
}

// TestOneFinishesAClose: of servers that finish the same close, one does.
func TestOneFinishesAClose(t *testing.T) {
	t.Parallel()
	rs := two(t)
	putCustomer(t, rs[0], 1)
	ok(t, rs[0].PutSubscription(t.Context(), subscribed(1, 1), audit()))
	c := store.Close{SubscriptionID: "sub_1", Period: draft(1).Period, ClosedAt: instant}
	for _, err := range together(rs, 6, func(r *Records, i int) error {
		own := c
		own.Position = uint64(i)
		_, err := r.BeginClose(t.Context(), own)
		return err
	}) {
		ok(t, err)
	}
	errs := together(rs, 6, func(r *Records, _ int) error {
		_, err := r.FinishClose(t.Context(), c, store.Issue{Invoice: draft(1)}, instant)
		return err
	})
	if n := succeeded(t, errs, store.ErrConflict); n != 1 {
		t.Errorf("%d servers finished it", n)
	}
}

// TestDrawsKeepTheCeiling: whatever draws at once, also in the order that would make them wait for each other, the sum of the
// leases of a counter stays at or below its ceiling, and reaches it.
func TestDrawsKeepTheCeiling(t *testing.T) {
	t.Parallel()
	const ceiling, nodes, times = 1000, 4, 10
	rs := two(t)
	epochs := make([]uint32, nodes)
	for i := range epochs {
		var err error
		epochs[i], err = rs[0].BeginEpoch(t.Context(), uint16(i+2), "boot", instant)
		ok(t, err)
	}
	counters := make([]store.Draw, 5)
	for i := range counters {
		counters[i] = store.Draw{CounterKey: store.CounterKey{CustomerID: fmt.Sprint("cus_", i), Meter: "calls", Window: period.Day}, Want: 37, Ceiling: ceiling}
	}
	var granted atomic.Int64
	for _, err := range together(rs, nodes*times, func(r *Records, i int) error {
		draws := slices.Clone(counters)
		if i%2 == 0 {
			slices.Reverse(draws)
		}
		draws = append(draws, draws[0]) // one twice
		grants, err := r.DrawLeases(t.Context(), uint16(i%nodes+2), epochs[i%nodes], "boot", draws)
		for _, g := range grants {
			granted.Add(g.Granted)
		}
		return err
	}) {
		ok(t, err)
	}
	for _, d := range counters {
		ls, err := rs[0].LeasesOf(t.Context(), d.CounterKey)
		ok(t, err)
		sum := int64(0)
		for _, l := range ls {
			sum += l.Charged
		}
		if sum != ceiling {
			t.Errorf("%s: leases of %d, the ceiling is %d", d.CustomerID, sum, ceiling)
		}
	}
	if granted.Load() != int64(len(counters)*ceiling) {
		t.Errorf("%d granted in all", granted.Load())
	}
}

// TestEpochsBeginOnce: no two processes of a node get the same epoch.
func TestEpochsBeginOnce(t *testing.T) {
	t.Parallel()
	rs := two(t)
	epochs := make([]uint32, 8)
	for _, err := range together(rs, len(epochs), func(r *Records, i int) (err error) {
		epochs[i], err = r.BeginEpoch(t.Context(), 2, "boot", instant)
		return err
	}) {
		ok(t, err)
	}
	slices.Sort(epochs)
	if len(slices.Compact(slices.Clone(epochs))) != len(epochs) {
		t.Errorf("epochs %v", epochs)
	}
}

// TestAccountsAtOnce: subscriptions do not overlap, and two keys of a name live.
func TestAccountsAtOnce(t *testing.T) {
	t.Parallel()
	rs := two(t)
	putCustomer(t, rs[0], 1)
	errs := together(rs, 12, func(r *Records, i int) error { return r.PutSubscription(t.Context(), subscribed(1, i), audit()) })
	if n := succeeded(t, errs, store.ErrConflict); n != 1 {
		t.Errorf("%d subscriptions that overlap", n)
	}
	errs = together(rs, 6, func(r *Records, i int) error {
		return r.PutKey(t.Context(), account.APIKey{ID: fmt.Sprint("key_", i), CustomerID: "cus_1", Name: "a", Digest: [32]byte{byte(i)}, CreatedAt: instant}, audit())
	})
	if n := succeeded(t, errs, store.ErrConflict); n != sameKeysMax {
		t.Errorf("%d live keys of one name", n)
	}
	errs = together(rs, 6, func(r *Records, i int) error {
		return r.PutCatalog(t.Context(), store.CatalogVersion{Source: []byte{byte(i)}, AppliedAt: instant}, 0)
	})
	if n := succeeded(t, errs, store.ErrConflict); n != 1 {
		t.Errorf("%d first versions of the catalog", n)
	}
	errs = together(rs, 6, func(r *Records, i int) error {
		return r.Redeem(t.Context(), account.Redemption{ID: fmt.Sprint("red_", i), CustomerID: "cus_1", Coupon: "x", RedeemedAt: instant}, store.RedemptionLimits{InAll: 1}, audit())
	})
	if n := succeeded(t, errs, store.ErrFull); n != 1 {
		t.Errorf("%d redemptions of a coupon for one", n)
	}
}

func entry(id string, balance int64) ledger.Entry {
	return ledger.Entry{
		ID: ledger.EntryID(id), Key: id, Kind: ledger.Paid, CustomerID: "cus_1", At: instant,
		Postings: []ledger.Posting{
			{Account: ledger.Balance, CustomerID: "cus_1", Amount: money.NewAmount(balance, usd)},
			{Account: ledger.Cash, Amount: money.NewAmount(-balance, usd)},
		},
	}
}

// TestABalanceIsSpentOnce: of entries that would each use up the balance, one is stored.
func TestABalanceIsSpentOnce(t *testing.T) {
	t.Parallel()
	rs := two(t)
	putCustomer(t, rs[0], 1)
	ok(t, rs[0].PutEntries(t.Context(), []ledger.Entry{entry("deposit", -1000)}, audit()))
	errs := together(rs, 6, func(r *Records, i int) error {
		return r.PutEntries(t.Context(), []ledger.Entry{entry(fmt.Sprint("spend", i), 900)}, audit())
	})
	if n := succeeded(t, errs, store.ErrUncovered); n != 1 {
		t.Errorf("%d entries spent the balance", n)
	}
	// The same entry from several servers is one.
	for _, err := range together(rs, 6, func(r *Records, _ int) error {
		return r.PutEntries(t.Context(), []ledger.Entry{entry("again", -5)}, audit())
	}) {
		ok(t, err)
	}
	if b, err := rs[1].Balance(t.Context(), "cus_1", ledger.Balance); err != nil || b.Minor() != -105 {
		t.Errorf("balance %s, %v", b, err)
	}
}
