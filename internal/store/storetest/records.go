// Package storetest holds the conformance suites of the storage contracts. Every driver runs its suite; what a driver must keep
// is written here first.
package storetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Records checks a driver's promises. open opens an empty store, which it closes when the test ends.
func Records(t *testing.T, open func(t *testing.T) store.Records) {
	for name, test := range map[string]func(*testing.T, store.Records){
		"Catalogs":             recordsCatalogs,
		"Customers":            recordsCustomers,
		"Subscriptions":        recordsSubscriptions,
		"Keys":                 recordsKeys,
		"WriteCarriesItsAudit": recordsWriteCarriesItsAudit,
		"Audit":                recordsAudit,
		"Close":                recordsClose,
		"CloseManyAtOnce":      recordsCloseManyAtOnce,
		"CloseWithoutInvoice":  recordsCloseWithoutInvoice,
		"CloseInvoiceIsWhole":  recordsCloseInvoiceIsWhole,
		"NumbersHaveNoGaps":    recordsNumbersHaveNoGaps,
		"ListInvoices":         recordsListInvoices,
		"Epochs":               recordsEpochs,
		"Leases":               recordsLeases,
		"LeasesAcrossEpochs":   recordsLeasesAcrossEpochs,
		"LeasesWritten":        recordsLeasesWritten,
		"LeasesMatchModel":     func(t *testing.T, _ store.Records) { leasesMatchModel(t, open) },
		"LeasesDrawnAtOnce":    recordsLeasesDrawnAtOnce,
		"Replays":              recordsReplays,
		"Settings":             recordsSettings,
		"LimitsAndClosing":     recordsLimitsAndClosing,
		"PagesAreNewestFirst":  recordsPagesAreNewestFirst,
		"OddValues":            recordsOddValues,
		"Backfills":            recordsBackfills,
		"Aliases":              recordsAliases,
		"InvoiceSeries":        recordsInvoiceSeries,
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

func id(prefix string, n int) string { return fmt.Sprintf("%s_%026d", prefix, n) }

// audits are numbered per test by the caller's n.
func audit(n int) store.Audit {
	return store.Audit{ID: id("aud", n), Time: noon(n), Actor: "operator", Action: "test.write", Target: id("cus", 1), Detail: `{"n":` + strconv.Itoa(n) + `}`}
}

func customer(n int) account.Customer {
	return account.Customer{
		ID: id("cus", n), Key: fmt.Sprintf("customer-%d", n), Name: "Größe & Söhne", Zone: period.MustZone("Europe/Berlin"),
		Currency: money.MustCurrency("EUR"), CreatedAt: noon(n),
	}
}

func subscription(n, cus, from, to int) account.Subscription {
	s := account.Subscription{
		ID: id("sub", n), CustomerID: id("cus", cus), Plan: "pro", CatalogVersion: 3, Start: noon(from), BillingDay: 31, CreatedAt: noon(n),
	}
	if to > 0 {
		s.End = noon(to)
	}
	return s
}

func apiKey(n, cus int) account.APIKey {
	return account.APIKey{ID: id("key", n), CustomerID: id("cus", cus), Name: "ci", Digest: [32]byte{1, byte(n), byte(n >> 8)}, Hint: "x9Zq", CreatedAt: noon(n)}
}

// same fails the test when got differs; currencies, zones and amounts are compared by what they print.
func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	opts := cmp.Options{
		cmp.Transformer("zone", period.Zone.String),
		cmp.Transformer("currency", money.Currency.Code),
		cmp.Transformer("amount", func(a money.Amount) string { return a.String() + " " + a.Currency().Code() }),
		cmp.Transformer("decimal", money.Decimal.String),
	}
	if d := cmp.Diff(want, got, opts); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
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

func recordsCatalogs(t *testing.T, r store.Records) {
	ctx := t.Context()
	_, err := r.Catalog(ctx, 0)
	wantErr(t, "latest of none", err, store.ErrNotFound)
	var want []store.CatalogVersion
	for n := range 3 {
		v := store.CatalogVersion{Source: []byte("tallystick: 1\n# " + strconv.Itoa(n)), Digest: [32]byte{byte(n)}, AppliedAt: noon(n), AppliedBy: "operator"}
		wantErr(t, "stale", r.PutCatalog(ctx, v, int64(n)-1), store.ErrConflict)
		wantErr(t, "ahead", r.PutCatalog(ctx, v, int64(n)+1), store.ErrConflict)
		ok(t, r.PutCatalog(ctx, v, int64(n)))
		v.Version = int64(n) + 1
		want = append(want, v)
		latest, err := r.Catalog(ctx, 0)
		ok(t, err)
		same(t, "latest", latest, v)
	}
	got, err := r.Catalog(ctx, 2)
	ok(t, err)
	same(t, "version 2", got, want[1])
	_, err = r.Catalog(ctx, 4)
	wantErr(t, "version 4", err, store.ErrNotFound)

	slices.Reverse(want)
	all, err := r.ListCatalogs(ctx, store.Query{Limit: 10})
	ok(t, err)
	same(t, "all", all, want)
	older, err := r.ListCatalogs(ctx, store.Query{Limit: 1, Cursor: "3"})
	ok(t, err)
	same(t, "after 3", older, want[1:2])
	_, err = r.ListCatalogs(ctx, store.Query{Limit: 1, Cursor: "x"})
	wantErr(t, "bad cursor", err, store.ErrNotFound)
}

func recordsCustomers(t *testing.T, r store.Records) {
	ctx := t.Context()
	ok(t, r.PutCustomer(ctx, customer(1), audit(1)))
	ok(t, r.PutCustomer(ctx, customer(2), audit(2)))
	twin := customer(3)
	twin.Key = customer(1).Key
	wantErr(t, "taken key", r.PutCustomer(ctx, twin, audit(3)), store.ErrExists)
	again := customer(1)
	again.Key = "other"
	wantErr(t, "taken id", r.PutCustomer(ctx, again, audit(3)), store.ErrExists)
	for _, ref := range []string{customer(1).ID, customer(1).Key} {
		got, err := r.Customer(ctx, ref)
		ok(t, err)
		same(t, ref, got, customer(1))
	}
	for _, ref := range []string{"", "nobody", customer(3).ID} {
		_, err := r.Customer(ctx, ref)
		wantErr(t, "customer "+ref, err, store.ErrNotFound)
	}
}

func recordsSubscriptions(t *testing.T, r store.Records) {
	ctx := t.Context()
	ok(t, r.PutCustomer(ctx, customer(1), audit(1)))
	ok(t, r.PutCustomer(ctx, customer(2), audit(2)))
	for n, c := range []struct {
		name          string
		cus, from, to int
		want          error
	}{
		{"bounded", 1, 10, 20, nil},
		{"same span", 1, 10, 20, store.ErrConflict},
		{"inside", 1, 12, 13, store.ErrConflict},
		{"around", 1, 5, 25, store.ErrConflict},
		{"into its start", 1, 5, 11, store.ErrConflict},
		{"out of its end", 1, 19, 0, store.ErrConflict},
		{"open, before it", 1, 5, 0, store.ErrConflict},
		{"ends where it starts", 1, 5, 10, nil},
		{"another customer's", 2, 10, 0, nil},
		{"starts where it ends, open", 1, 20, 0, nil},
		{"after an open one", 1, 300, 301, store.ErrConflict},
		{"unknown customer", 9, 1, 2, store.ErrNotFound},
	} {
		s := subscription(n, c.cus, c.from, c.to)
		err := r.PutSubscription(ctx, s, audit(10+n))
		if c.want != nil {
			wantErr(t, c.name, err, c.want)
			_, err = r.Subscription(ctx, s.ID)
			wantErr(t, c.name, err, store.ErrNotFound)
			continue
		}
		ok(t, err)
		got, err := r.Subscription(ctx, s.ID)
		ok(t, err)
		same(t, c.name, got, s)
	}
	wantErr(t, "taken id", r.PutSubscription(ctx, subscription(0, 2, 1, 2), audit(99)), store.ErrExists)
	got, err := r.ListSubscriptions(ctx, store.Query{Limit: 10, CustomerID: id("cus", 1)})
	ok(t, err)
	same(t, "list", got, []account.Subscription{subscription(9, 1, 20, 0), subscription(7, 1, 5, 10), subscription(0, 1, 10, 20)})
}

func recordsKeys(t *testing.T, r store.Records) {
	ctx := t.Context()
	ok(t, r.PutCustomer(ctx, customer(1), audit(1)))
	ok(t, r.PutCustomer(ctx, customer(2), audit(2)))
	n := 10
	put := func(k account.APIKey, now time.Time) error {
		a := audit(n)
		a.Time, n = now, n+1
		return r.PutKey(ctx, k, a)
	}
	expiring := apiKey(1, 1)
	expiring.ExpiresAt = noon(30)
	ok(t, put(expiring, noon(1)))
	ok(t, put(apiKey(2, 1), noon(1)))
	ok(t, put(apiKey(3, 2), noon(1)))
	wantErr(t, "third live key", put(apiKey(4, 1), noon(30).Add(-time.Microsecond)), store.ErrConflict)
	ok(t, put(apiKey(4, 1), noon(30)))
	wantErr(t, "third live key", put(apiKey(5, 1), noon(31)), store.ErrConflict)
	revoked := apiKey(2, 1)
	revoked.RevokedAt = noon(32)
	for i, at := range []time.Time{noon(32), noon(33), noon(31)} { // the first time holds, and is the only one on record
		got, err := r.RevokeKey(ctx, revoked.ID, at, audit(90+i))
		ok(t, err)
		same(t, "revoked", got, revoked)
	}
	entries, err := r.ListAudit(ctx, store.Query{Limit: 1})
	ok(t, err)
	same(t, "audit", entries, []store.Audit{audit(90)})
	_, err = r.RevokeKey(ctx, id("key", 99), noon(5), audit(99))
	wantErr(t, "revoke an unknown key", err, store.ErrNotFound)
	ok(t, put(apiKey(5, 1), noon(32)))
	wantErr(t, "taken id", put(apiKey(3, 2), noon(1)), store.ErrExists)
	twin := apiKey(6, 2)
	twin.Digest = apiKey(1, 1).Digest
	wantErr(t, "taken digest", put(twin, noon(1)), store.ErrExists)
	wantErr(t, "unknown customer", put(apiKey(7, 9), noon(1)), store.ErrNotFound)

	got, err := r.Key(ctx, expiring.ID)
	ok(t, err)
	same(t, "key", got, expiring)
	_, err = r.Key(ctx, id("key", 99))
	wantErr(t, "unknown key", err, store.ErrNotFound)
	all, err := r.ListKeys(ctx, store.Query{Limit: 1001, CustomerID: id("cus", 1)})
	ok(t, err)
	same(t, "list", all, []account.APIKey{apiKey(5, 1), apiKey(4, 1), revoked, expiring})
}

func recordsWriteCarriesItsAudit(t *testing.T, r store.Records) {
	ctx := t.Context()
	ok(t, r.PutCustomer(ctx, customer(1), audit(1)))
	ok(t, r.PutKey(ctx, apiKey(1, 1), audit(2)))
	// Refused writes leave no entry.
	wantErr(t, "taken key", r.PutCustomer(ctx, customer(1), audit(3)), store.ErrExists)
	wantErr(t, "unknown customer", r.PutSubscription(ctx, subscription(1, 9, 1, 2), audit(3)), store.ErrNotFound)
	// A refused entry takes its write back.
	wantErr(t, "customer", r.PutCustomer(ctx, customer(2), audit(1)), store.ErrExists)
	wantErr(t, "subscription", r.PutSubscription(ctx, subscription(1, 1, 1, 2), audit(1)), store.ErrExists)
	wantErr(t, "key", r.PutKey(ctx, apiKey(2, 1), audit(1)), store.ErrExists)
	_, err := r.RevokeKey(ctx, id("key", 1), noon(1), audit(1))
	wantErr(t, "revoke", err, store.ErrExists)
	_, err = r.Customer(ctx, id("cus", 2))
	wantErr(t, "customer", err, store.ErrNotFound)
	_, err = r.Subscription(ctx, id("sub", 1))
	wantErr(t, "subscription", err, store.ErrNotFound)
	_, err = r.Key(ctx, id("key", 2))
	wantErr(t, "key", err, store.ErrNotFound)
	k, err := r.Key(ctx, id("key", 1))
	ok(t, err)
	same(t, "key", k, apiKey(1, 1))
	got, err := r.ListAudit(ctx, store.Query{Limit: 10})
	ok(t, err)
	same(t, "audit", got, []store.Audit{audit(2), audit(1)})
}

func recordsAudit(t *testing.T, r store.Records) {
	ctx := t.Context()
	other := audit(2)
	other.Target = "catalog"
	for _, a := range []store.Audit{audit(1), other, audit(3)} {
		ok(t, r.PutAudit(ctx, a))
	}
	wantErr(t, "taken id", r.PutAudit(ctx, audit(1)), store.ErrExists)
	got, err := r.ListAudit(ctx, store.Query{Limit: 10, CustomerID: audit(1).Target})
	ok(t, err)
	same(t, "of one target", got, []store.Audit{audit(3), audit(1)})
	got, err = r.ListAudit(ctx, store.Query{Limit: 10, Cursor: id("aud", 3)})
	ok(t, err)
	same(t, "after the cursor", got, []store.Audit{other, audit(1)})
}

func recordsPagesAreNewestFirst(t *testing.T, r store.Records) {
	ctx := t.Context()
	var want []string
	for n := range 25 {
		ok(t, r.PutCustomer(ctx, customer(n), audit(n)))
		want = append([]string{id("cus", n)}, want...)
	}
	var got []string
	for cursor := ""; ; {
		page, err := r.ListCustomers(ctx, store.Query{Limit: 10, Cursor: cursor})
		ok(t, err)
		for _, c := range page {
			got = append(got, c.ID)
		}
		if len(page) < 10 {
			break
		}
		cursor = got[len(got)-1]
	}
	same(t, "pages", got, want)
	one, err := r.ListCustomers(ctx, store.Query{Limit: 10, CustomerID: id("cus", 3)})
	ok(t, err)
	same(t, "one", one, []account.Customer{customer(3)})
}

func recordsOddValues(t *testing.T, r store.Records) {
	ctx := t.Context()
	c := customer(1)
	c.Name = "'; DROP TABLE customers; -- \u202e\x01"
	c.CreatedAt = time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.FixedZone("", 3600))
	ok(t, r.PutCustomer(ctx, c, audit(1)))
	got, err := r.Customer(ctx, c.ID)
	ok(t, err)

	same(t, "location", got.CreatedAt.Location().String(), "UTC")
	same(t, "customer", got, c)
	ok(t, r.PutCatalog(ctx, store.CatalogVersion{AppliedAt: noon(1)}, 0))
	v, err := r.Catalog(ctx, 1)
	ok(t, err)
	same(t, "source", string(v.Source), "")
	empty, err := r.ListKeys(ctx, store.Query{Limit: 1})
	ok(t, err)
	same(t, "keys", empty, []account.APIKey{})
}

func recordsReplays(t *testing.T, r store.Records) {
	ctx := t.Context()
	first := store.Replay{Key: "k", Actor: "tok", Route: "POST /v1/keys", BodyDigest: [32]byte{7}, CreatedAt: noon(1)}
	begin := func(p store.Replay) *store.Replay {
		t.Helper()
		got, err := r.BeginReplay(ctx, p)
		ok(t, err)
		return got
	}
	wantErr(t, "finish before begin", r.FinishReplay(ctx, store.Replay{Key: "k", Status: 200}), store.ErrNotFound)
	same(t, "first", begin(first), nil)
	second := first
	second.BodyDigest, second.CreatedAt = [32]byte{8}, noon(2)
	same(t, "running", begin(second), &first)
	for _, other := range []store.Replay{{Key: "l", Actor: "tok", Route: first.Route}, {Key: "k", Actor: "tik", Route: first.Route}, {Key: "k", Actor: "tok", Route: "POST /v1/events"}} {
		other.CreatedAt = noon(9)
		same(t, "another call", begin(other), nil)
	}
	done := first
	done.Status, done.Sealed = 201, []byte{0, 1, 2}
	if err := r.FinishReplay(ctx, first); err == nil {
		t.Fatal("finished without a status")
	}
	ok(t, r.FinishReplay(ctx, done))
	same(t, "done", begin(second), &done)
	wantErr(t, "finish twice", r.FinishReplay(ctx, done), store.ErrConflict)
	ok(t, r.AbandonReplay(ctx, first))
	same(t, "abandoned when done", begin(second), &done)

	failed := store.Replay{Key: "f", Actor: "tok", Route: "POST /v1/keys", CreatedAt: noon(1)}
	same(t, "failing call", begin(failed), nil)
	ok(t, r.AbandonReplay(ctx, failed))
	ok(t, r.AbandonReplay(ctx, failed))
	same(t, "after a failed call", begin(failed), nil)

	ok(t, r.PruneReplays(ctx, noon(1)))
	same(t, "kept", begin(second), &done)
	ok(t, r.PruneReplays(ctx, noon(1).Add(time.Microsecond)))
	same(t, "pruned", begin(second), nil)
}

func recordsSettings(t *testing.T, r store.Records) {
	ctx := t.Context()
	for _, want := range []string{"", "yes", "no", ""} {
		if want != "" {
			ok(t, r.PutSetting(ctx, "demo.seeded", want))
		}
		name := "demo.seeded"
		if want == "" {
			name = "other"
		}
		got, err := r.Setting(ctx, name)
		ok(t, err)
		same(t, name, got, want)
	}
}

func recordsLimitsAndClosing(t *testing.T, r store.Records) {
	ctx := t.Context()
	for _, limit := range []int{-1, 0, 1002, math.MaxInt} {
		if _, err := r.ListCustomers(ctx, store.Query{Limit: limit}); err == nil {
			t.Errorf("a page of %d is given", limit)
		}
	}
	ok(t, r.Close())
	ok(t, r.Close())
	_, read := r.Customer(ctx, "x")
	_, listed := r.ListInvoices(ctx, store.Query{Limit: 1})
	_, drawn := r.DrawLeases(ctx, 1, 1, "", []store.Draw{{}})
	for name, err := range map[string]error{
		"read": read, "list": listed, "draw": drawn, "put": r.PutSetting(ctx, "a", "b"), "audited": r.PutCustomer(ctx, customer(1), audit(1)),
	} {
		wantErr(t, name, err, store.ErrClosed)
	}
}
