// Package sendertest holds the conformance suites of the records about who sends usage: producers, and gateways that sign.
package sendertest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

func noon(day int) time.Time {
	return time.Date(2026, 1, 1, 12, 0, 0, 123_456_000, time.UTC).AddDate(0, 0, day)
}

func id(prefix string, n int) string { return fmt.Sprintf("%s_%026d", prefix, n) }

func audit(n int) store.Audit {
	return store.Audit{ID: id("aud", n), Time: noon(n), Actor: "operator", Action: "test.write", Target: id("prd", 1), Detail: `{}`}
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

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func producer(n int, sources ...string) account.Producer {
	return account.Producer{ID: id("prd", n), Key: fmt.Sprintf("producer-%d", n), Sources: sources, Types: []string{"completion", "ünï*"}, CreatedAt: noon(n)}
}

func token(n, of int) account.ProducerToken {
	return account.ProducerToken{ID: id("ptk", n), ProducerID: id("prd", of), Digest: [32]byte{1, byte(n)}, Hint: "x9Zq", CreatedAt: noon(n)}
}

// Producers checks a driver's promises. open opens an empty store, which it closes when the test ends.
func Producers(t *testing.T, open func(t *testing.T) store.Records) {
	for name, test := range map[string]func(*testing.T, store.Records){
		"Sources": producersSources, "Tokens": producersTokens, "Lists": producersLists,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// producersSources: a source belongs to one producer that is not revoked.
func producersSources(t *testing.T, r store.Records) {
	ctx := t.Context()
	first := producer(1, "jobs/*", "cron")
	first.ExpiresAt = noon(40)
	ok(t, r.PutProducer(ctx, first, token(1, 1), audit(1)))
	for i, other := range []string{"jobs/*", "jobs/nightly", "jo*", "*", "cron", "c*"} {
		wantErr(t, other, r.PutProducer(ctx, producer(2, "free", other), token(2, 2), audit(10+i)), store.ErrConflict)
	}
	_, err := r.Producer(ctx, "producer-2")
	wantErr(t, "nothing of it is there", err, store.ErrNotFound)
	ok(t, r.PutProducer(ctx, producer(3, "jobs", "cron/*", "jo"), token(3, 3), audit(20)))
	wantErr(t, "taken key", r.PutProducer(ctx, account.Producer{ID: id("prd", 4), Key: "producer-1", Sources: []string{"jobs/*"}}, token(4, 4), audit(21)), store.ErrExists)
	twin := token(5, 5)
	twin.Digest = token(1, 1).Digest
	wantErr(t, "taken digest", r.PutProducer(ctx, producer(5, "five"), twin, audit(22)), store.ErrExists)

	revoked := first
	revoked.RevokedAt = noon(2)
	for i, at := range []time.Time{noon(2), noon(3)} { // the first time holds, and is the only one on record
		got, err := r.RevokeProducer(ctx, first.ID, at, audit(30+i))
		ok(t, err)
		same(t, "revoked", got, revoked)
	}
	log, err := r.ListAudit(ctx, store.Query{Limit: 10})
	ok(t, err)
	same(t, "audit", []string{log[0].ID, log[1].ID, log[2].ID}, []string{audit(30).ID, audit(20).ID, audit(1).ID})
	ok(t, r.PutProducer(ctx, producer(6, "jobs/nightly"), token(6, 6), audit(40)))
	_, err = r.RevokeProducer(ctx, id("prd", 99), noon(3), audit(41))
	wantErr(t, "revoke nobody", err, store.ErrNotFound)
}

// producersTokens: two are live at most, and a revoked producer gets none.
func producersTokens(t *testing.T, r store.Records) {
	ctx := t.Context()
	ok(t, r.PutProducer(ctx, producer(1, "a"), token(1, 1), audit(1)))
	ok(t, r.PutProducerToken(ctx, token(2, 1), audit(2)))
	wantErr(t, "third live token", r.PutProducerToken(ctx, token(3, 1), audit(3)), store.ErrConflict)
	want := token(1, 1)
	want.RevokedAt = noon(5)
	for i, at := range []time.Time{noon(5), noon(4)} {
		got, err := r.RevokeProducerToken(ctx, token(1, 1).ID, at, audit(5+i))
		ok(t, err)
		same(t, "revoked", got, want)
	}
	wantErr(t, "taken id", r.PutProducerToken(ctx, account.ProducerToken{ID: token(1, 1).ID, ProducerID: id("prd", 1), Digest: [32]byte{9}}, audit(7)), store.ErrExists)
	ok(t, r.PutProducerToken(ctx, token(3, 1), audit(8)))
	wantErr(t, "unknown producer", r.PutProducerToken(ctx, token(4, 9), audit(9)), store.ErrNotFound)
	_, err := r.RevokeProducerToken(ctx, token(4, 1).ID, noon(5), audit(10))
	wantErr(t, "revoke an unknown token", err, store.ErrNotFound)
	_, err = r.RevokeProducer(ctx, id("prd", 1), noon(6), audit(11))
	ok(t, err)
	_, err = r.RevokeProducerToken(ctx, token(2, 1).ID, noon(6), audit(12))
	ok(t, err)
	wantErr(t, "token of a revoked producer", r.PutProducerToken(ctx, token(5, 1), audit(13)), store.ErrConflict)
}

func producersLists(t *testing.T, r store.Records) {
	ctx := t.Context()
	for n := 1; n <= 3; n++ {
		ok(t, r.PutProducer(ctx, producer(n, fmt.Sprintf("s%d", n)), token(n, n), audit(n)))
	}
	for _, ref := range []string{id("prd", 2), "producer-2"} {
		got, err := r.Producer(ctx, ref)
		ok(t, err)
		same(t, ref, got, producer(2, "s2"))
	}
	first, err := r.ListProducers(ctx, store.Query{Limit: 2})
	ok(t, err)
	same(t, "page", first, []account.Producer{producer(3, "s3"), producer(2, "s2")})
	rest, err := r.ListProducers(ctx, store.Query{Limit: 2, Cursor: first[1].ID})
	ok(t, err)
	same(t, "rest", rest, []account.Producer{producer(1, "s1")})
	tokens, err := r.ListProducerTokens(ctx, store.Query{Limit: 2})
	ok(t, err)
	same(t, "tokens", tokens, []account.ProducerToken{token(3, 3), token(2, 2)})
}
