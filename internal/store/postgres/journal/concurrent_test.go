package journal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/internal/store/postgres/journal"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func key(customer int) store.SeriesKey {
	return store.SeriesKey{CustomerID: fmt.Sprintf("cus_%d", customer), Meter: "api_calls"}
}

func usage(id string, customer int) store.Entry {
	return store.Entry{
		Event:  meter.Event{Source: "s", ID: id, Type: "request", Subject: fmt.Sprint("c", customer), Time: noon().Add(time.Duration(len(id)) * time.Second)},
		Origin: meter.Reported,
		Resolutions: []meter.Resolution{{
			CustomerID: key(customer).CustomerID, Meter: "api_calls", CatalogVersion: 1, Value: money.FromInt(1),
			Dimensions: []meter.Dimension{{Name: "route", Value: "/a"}},
		}},
	}
}

func batch(from, n, customers int) store.Batch {
	b := store.Batch{Producer: "api/test", ReceivedAt: noon()}
	for i := from; i < from+n; i++ {
		b.Entries = append(b.Entries, usage(fmt.Sprint("e-", i), i%customers))
	}
	return b
}

// holds checks that positions have no gap, that so many events are there, each once, and that rollups, reported tallies and the
// events agree.
func holds(t *testing.T, j *journal.Journal, events, customers int) {
	t.Helper()
	next := uint64(1)
	seen := map[string]bool{}
	for {
		n, err := j.Leaves(t.Context(), next, 1000, func(l store.Leaf) error {
			if l.Position != next {
				return fmt.Errorf("position %d where %d is expected", l.Position, next)
			}
			if next++; l.ID != "" {
				if seen[l.ID] {
					return fmt.Errorf("event %s is there twice", l.ID)
				}
				seen[l.ID] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.View(t.Context(), func(v store.View) error {
			if n > v.Position() {
				next = 0
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if next == 0 {
			break
		}
	}
	if len(seen) != events {
		t.Errorf("%d events, want %d", len(seen), events)
	}
	var sum int64
	if err := j.View(t.Context(), func(v store.View) error {
		for c := range customers {
			u, err := v.Usage(key(c), period.Interval{})
			if err != nil {
				return err
			}
			r, err := v.Reported(key(c), period.Interval{})
			if err != nil {
				return err
			}
			if !r.Equal(u.Sum) || !money.FromInt(u.Count).Equal(u.Sum) {
				t.Errorf("customer %d: usage %v of %d events, reported %v", c, u.Sum, u.Count, r)
			}
			sum += u.Count
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if sum != int64(events) {
		t.Errorf("the rollups have %d events, want %d", sum, events)
	}
}

// TestServersAtOnce: several servers append the same and other events to one database, with cuts in between.
func TestServersAtOnce(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	const servers, rounds, each, customers = 3, 20, 25, 4
	var g errgroup.Group
	accepted := make([]int, servers)
	for s := range servers {
		j := open(t, dsn)
		t.Cleanup(func() { _ = j.Close() })
		g.Go(func() error {
			for r := range rounds {
				results, err := j.Append(t.Context(), batch(r*each, each, customers)) // all of them the same
				if err != nil {
					return err
				}
				for _, one := range results {
					if one.Outcome == store.Accepted {
						accepted[s]++
					} else if one.Outcome != store.Duplicate {
						return fmt.Errorf("outcome %d", one.Outcome)
					}
				}
				if err := j.Cut(t.Context(), key(r%customers).CustomerID, noon().Add(time.Duration(s*rounds+r)*100*time.Millisecond)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if sum := accepted[0] + accepted[1] + accepted[2]; sum != rounds*each {
		t.Errorf("%d events were accepted, want %d", sum, rounds*each)
	}
	holds(t, open(t, dsn), rounds*each, customers)
}

// TestMetUnseen: a journal that looks no event up at first answers as one that does, for few events and for many.
func TestMetUnseen(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	appends := func(b store.Batch) ([]store.Result, error) {
		j := open(t, dsn) // a new one has met nothing yet
		results, err := j.Append(t.Context(), b)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		return results, err
	}
	outcomes := func(b store.Batch, want ...store.Outcome) {
		t.Helper()
		results, err := appends(b)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			if results[i].Outcome != w {
				t.Errorf("entry %d: outcome %d, want %d", i, results[i].Outcome, w)
			}
		}
	}
	outcomes(batch(0, 300, 2), store.Accepted)
	outcomes(batch(299, 2, 2), store.Duplicate, store.Accepted)
	outcomes(batch(300, 300, 2), store.Duplicate, store.Accepted)
	other := batch(599, 2, 2)
	other.Entries[0].Event.Data = []byte("1")
	other.Atomic = true
	outcomes(other, store.Conflict)
	other = batch(598, 2, 2) // a conflict in itself: nothing of it meets the index
	again := other.Entries[1]
	again.Event.Data = []byte("2")
	other.Entries = append(other.Entries, again)
	other.Entries[1].Event.ID, other.Entries[2].Event.ID, other.Atomic = "twice", "twice", true
	outcomes(other, store.Duplicate, store.Accepted, store.Conflict)
	outcomes(batch(599, 1, 2), store.Duplicate)
	holds(t, open(t, dsn), 600, 2)
	// What is there already does not count again: it cannot be too much either.
	most, err := money.ParseDecimal("9" + strings.Repeat("0", 37))
	if err != nil {
		t.Fatal(err)
	}
	large := store.Batch{ReceivedAt: noon(), Entries: []store.Entry{usage("large", 5)}}
	large.Entries[0].Resolutions[0].Value = most
	outcomes(large, store.Accepted)
	outcomes(large, store.Duplicate)
	large.Entries[0].Event.ID = "larger"
	if _, err := appends(large); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("beyond the bound: %v", err)
	}
}

// TestBackendsKilled: connections that are cut in the middle of appends leave the journal whole, and what was acknowledged in it.
func TestBackendsKilled(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	j := open(t, dsn)
	const writers, rounds, each, customers = 4, 30, 10, 3
	stop, killed := context.WithCancel(t.Context())
	kill := make(chan error, 1)
	go func() {
		kill <- terminate(stop, dsn)
	}()
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			for r := range rounds {
				b := batch((w*rounds+r)*each, each, customers)
				for { // until it is acknowledged
					if _, err := j.Append(t.Context(), b); err == nil {
						break
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	killed()
	if err := <-kill; err != nil {
		t.Fatal(err)
	}
	holds(t, j, writers*rounds*each, customers)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// terminate ends all other sessions of the database again and again.
func terminate(ctx context.Context, dsn string) error {
	c, err := pgx.Connect(context.WithoutCancel(ctx), dsn)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := c.Exec(context.WithoutCancel(ctx), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
			return err
		}
	}
}

// TestServerCrash: what was acknowledged is there when the database's server was stopped as by a power cut and started again.
func TestServerCrash(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t, pgtest.Config{Fsync: true})
	dsn := c.Migrated(t, "journal", migrated)
	j, err := journal.Open(t.Context(), journal.Config{URL: dsn})
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := make([]int, 3)
	var g errgroup.Group
	const each, customers = 5, 3
	for w := range acknowledged {
		g.Go(func() error {
			for r := 0; ; r++ {
				if _, err := j.Append(t.Context(), batch((w*10_000+r)*each, each, customers)); err != nil {
					return nil //nolint:nilerr // the crash
				}
				acknowledged[w]++
				if w == 0 && r == 40 {
					if err := c.Stop(t.Context(), "immediate"); err != nil {
						return err
					}
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := 0
	for w, rounds := range acknowledged {
		for r := range rounds + 1 { // what was under way may be there: sent again, it is, and once
			var results []store.Result
			for results == nil {
				results, _ = j.Append(t.Context(), batch((w*10_000+r)*each, each, customers))
			}
			want := store.Duplicate
			if r < rounds && slices.ContainsFunc(results, func(one store.Result) bool { return one.Outcome != want }) {
				t.Errorf("writer %d: round %d was acknowledged and is not there", w, r)
			}
			events += each
		}
	}
	holds(t, j, events, customers)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestUnsafeServer: a server that does not sync is refused.
func TestUnsafeServer(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t, pgtest.Config{Fsync: false})
	if j, err := journal.Open(t.Context(), journal.Config{URL: c.Database(t)}); err == nil {
		t.Error("a server without fsync is used", j.Close())
	}
}
