package postgres

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/storetest"
)

const wait = 20 * time.Second // for what must come on a busy machine

func TestLeaders(t *testing.T) {
	t.Parallel()
	storetest.Leaders(t, func(t *testing.T) (one, other store.Leaders) {
		dsn := migrated(t)
		return mustOpen(t, dsn), mustOpen(t, dsn)
	})
}

// blocked waits until n sessions of the database wait for a lock.
func blocked(t *testing.T, r *Records, n int) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var got int
		err := r.db.pool.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&got)
		if err != nil || got >= n {
			return err
		}
		<-tick.C
	}
}

// TestFence: a deposed leader's writes fail, and one that is under way keeps the next leader waiting.
func TestFence(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), migrated(t)
	a, b := mustOpen(t, dsn), mustOpen(t, dsn)
	first, err := a.TakeLead(ctx, "a", "http://a", time.Microsecond) // it runs out at once
	ok(t, err)
	leading := a.Fenced(first.Fence)
	ok(t, leading.PutSetting(ctx, "x", "1"))

	var wg sync.WaitGroup
	var second store.Lead
	ok(t, leading.write(ctx, "test", noLock, func(tx pgx.Tx) error {
		wg.Go(func() {
			var err error
			if second, err = b.TakeLead(ctx, "b", "http://b", time.Hour); err != nil {
				t.Error(err)
			}
		})
		if err := blocked(t, b, 1); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE settings SET value = '2' WHERE name = 'x'")
		return err
	}))
	wg.Wait()
	if second.Holder != "b" || second.Fence <= first.Fence {
		t.Fatalf("second lead %+v after %+v", second, first)
	}
	if got, err := b.Setting(ctx, "x"); err != nil || got != "2" {
		t.Errorf("what the first leader finished before: %q, %v", got, err)
	}
	if err := leading.PutSetting(ctx, "x", "3"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a deposed leader's write: %v", err)
	}
	if _, err := leading.DrawLeases(ctx, 1, 1, "boot", nil); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a deposed leader's draw: %v", err)
	}
	if got, err := leading.Setting(ctx, "x"); err != nil || got != "2" {
		t.Errorf("a deposed leader's read: %q, %v", got, err)
	}
	ok(t, b.Fenced(second.Fence).PutSetting(ctx, "x", "4"))
	ok(t, a.PutSetting(ctx, "x", "5")) // without a fence
}

// TestLeadIsKeptUnderLoad: also when writes that wait have all connections.
func TestLeadIsKeptUnderLoad(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), migrated(t)
	busy, other := mustOpen(t, dsn+"&pool_max_conns=2"), mustOpen(t, dsn)
	l, err := busy.TakeLead(ctx, "a", "http://a", time.Hour)
	ok(t, err)
	var wg sync.WaitGroup
	ok(t, other.write(ctx, "test", lockBooks, func(pgx.Tx) error {
		for range 3 {
			wg.Go(func() {
				if err := busy.write(ctx, "test", lockBooks, func(pgx.Tx) error { return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		if err := blocked(t, other, 2); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		_, err := busy.KeepLead(ctx, l.Fence, time.Hour)
		return err
	}))
	wg.Wait()
}

// TestStoppedLeaderIsEnded: a transaction whose process stands still ends before long, so that another one can lead.
func TestStoppedLeaderIsEnded(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), migrated(t)
	a, b := mustOpen(t, dsn+"&idle_in_transaction_session_timeout=200"), mustOpen(t, dsn)
	first, err := a.TakeLead(ctx, "a", "http://a", time.Microsecond)
	ok(t, err)
	err = a.Fenced(first.Fence).write(ctx, "test", noLock, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO settings VALUES ('x', '1')"); err != nil {
			return err
		}
		_, err := b.TakeLead(ctx, "b", "http://b", time.Hour) // waits until the transaction is ended
		return err
	})
	if err == nil {
		t.Error("the stopped transaction was committed")
	}
	if got, err := b.Setting(ctx, "x"); err != nil || got != "" {
		t.Errorf("setting %q, %v", got, err)
	}
	if l, err := b.Leader(ctx); err != nil || l.Holder != "b" {
		t.Errorf("leader %+v, %v", l, err)
	}
}

type told struct {
	topic   store.Topic
	payload string
}

// listen returns what is told on the way that starts with its return.
func listen(t *testing.T, by, from *Records) <-chan told {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan told, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := by.Listen(ctx, func(topic store.Topic, payload string) { heard <- told{topic, payload} })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("listen: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok(t, from.Notify(ctx, "ready", ""))
		select {
		case <-heard:
			ok(t, from.Notify(ctx, "steady", ""))
			for got := range heard {
				if got.topic == "steady" {
					return heard
				}
			}
		case <-tick.C:
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), migrated(t)
	a, b := mustOpen(t, dsn), mustOpen(t, dsn)
	heard := listen(t, b, a)
	expect := func(want told) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("heard %+v, want %+v", got, want)
			}
		case <-time.After(wait):
			t.Fatalf("%+v was not heard", want)
		}
	}
	ok(t, a.PutSetting(ctx, "x", "1")) // nothing to hear of
	ok(t, a.PutCatalog(ctx, store.CatalogVersion{Source: []byte("a"), AppliedAt: instant}, 0))
	expect(told{store.TopicCatalog, ""})
	putCustomer(t, a, 1)
	expect(told{store.TopicDirectory, ""})
	ok(t, a.PutSubscription(ctx, subscribed(1, 1), audit()))
	expect(told{store.TopicDirectory, ""})
	c := store.Close{SubscriptionID: "sub_1", Period: draft(1).Period, ClosedAt: instant}
	_, err := a.BeginClose(ctx, c)
	ok(t, err)
	final, err := a.FinishClose(ctx, c, store.Issue{Invoice: draft(1)}, instant) // a new invoice suspends nobody
	ok(t, err)
	ok(t, a.Move(ctx, store.Movement{Standing: paid(t, a, final.ID)}, audit())) // a paid one may end a suspension
	expect(told{store.TopicDirectory, ""})
	if err := a.PutCatalog(ctx, store.CatalogVersion{}, 7); !errors.Is(err, store.ErrConflict) { // takes itself back
		t.Errorf("put catalog: %v", err)
	}
	_, err = a.RevokeKey(ctx, "key_none", instant, store.Audit{})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("revoke: %v", err)
	}
	l, err := a.TakeLead(ctx, "a", "http://a", time.Hour)
	ok(t, err)
	expect(told{store.TopicLead, "a"})
	_, err = b.TakeLead(ctx, "b", "http://b", time.Hour) // in vain
	ok(t, err)
	ok(t, a.YieldLead(ctx, l.Fence))
	expect(told{store.TopicLead, ""})
	ok(t, a.Notify(ctx, store.TopicCounted, "cus_1 cus_2"))
	expect(told{store.TopicCounted, "cus_1 cus_2"})
	for _, bad := range []told{{"", "x"}, {"two words", "x"}, {"x", string(make([]byte, payloadMax+1))}} {
		if err := a.Notify(ctx, bad.topic, bad.payload); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("notify of %q: %v", bad.topic, err)
		}
	}
}

// paid is the next standing of an open invoice.
func paid(t *testing.T, r *Records, id string) *invoice.Standing {
	t.Helper()
	all, err := r.Standings(t.Context(), []string{id})
	ok(t, err)
	s := all[id]
	s.Turn++
	s.Paid, s.Status = s.Total, invoice.Paid
	return &s
}

// TestLeasesAreReadWhenWritesHaveEnded: a write of leases that is not known to have ended may still be waiting, for a standby or for its
// process; who reads them waits too.
func TestLeasesAreReadWhenWritesHaveEnded(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), mustOpen(t, migrated(t))
	putCustomer(t, r, 1)
	epoch, err := r.BeginEpoch(ctx, 1, "boot", instant)
	ok(t, err)
	l := store.Lease{CounterKey: store.CounterKey{CustomerID: "cus_1", Meter: "calls"}, Node: 1, Epoch: epoch, Boot: "boot", WindowEnd: 1, Charged: 10}
	ok(t, r.WriteLeases(ctx, []store.Lease{l}))
	read := make(chan []store.Lease, 2)
	ok(t, r.write(ctx, "test", noLock, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE leases SET charged = 20"); err != nil {
			return err
		}
		for _, leases := range []func() ([]store.Lease, error){
			func() ([]store.Lease, error) { return r.LeasesOf(ctx, l.CounterKey) },
			func() ([]store.Lease, error) { return r.LeasesFrom(ctx, l.CounterKey, 0, 1) },
		} {
			go func() {
				list, err := leases()
				if err != nil {
					t.Error(err)
				}
				read <- list
			}()
		}
		return blocked(t, r, 2)
	}))
	for range 2 {
		if list := <-read; len(list) != 1 || list[0].Charged != 20 {
			t.Errorf("read %+v", list)
		}
	}
}
