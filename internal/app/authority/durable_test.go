package authority_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// waiting is records whose first write waits, and then fails where that is given.
type waiting struct {
	store.Leases
	begun, end chan struct{}
	fails      error
	writes     [][]store.Lease
}

func (w *waiting) WriteLeases(ctx context.Context, ls []store.Lease) error {
	if w.writes = append(w.writes, ls); len(w.writes) > 1 {
		return w.Leases.WriteLeases(ctx, ls)
	}
	close(w.begun)
	<-w.end
	if w.fails != nil {
		return w.fails
	}
	return w.Leases.WriteLeases(ctx, ls)
}

// slowly has the records write slowly.
func (w *world) slowly(fails error) *waiting {
	slow := &waiting{begun: make(chan struct{}), end: make(chan struct{}), fails: fails}
	w.config = func(c *authority.Config) { slow.Leases, c.Leases = c.Leases, slow }
	w.restart()
	return slow
}

// TestNothingIsToldBeforeItIsWritten: what a call has changed, whose caller has given up waiting for the records, is not told to the
// next one before it is written; that the first write fails does not matter then.
func TestNothingIsToldBeforeItIsWritten(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, call := range map[string]func(w *world, epoch uint32, seq uint64) error{
		"granted": func(w *world, epoch uint32, seq uint64) error {
			out, err := w.s.Draw(ctx, authority.Draw{
				Node: 1, Epoch: epoch, CustomerID: custID, SubscriptionID: w.sub.ID, CatalogVersion: 1, Now: w.Now().UnixMicro(), Seq: seq,
				Asks: []authority.Ask{w.daily(50, 0, "daily")},
			})
			if err == nil && out[0].Granted < 50 {
				w.t.Errorf("told %+v", out)
			}
			return err
		},
		"given back": func(w *world, epoch uint32, seq uint64) error {
			return w.s.Return(ctx, 1, epoch, []authority.Back{{Counter: w.daily(0, 0).Counter, Kind: quota.Quota, Seq: seq, Spent: 3, Closed: true}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, catalog.Limit{Key: "daily", Meter: "calls", Quota: new(dec("100")), Window: period.Day})
				one := w.begin(1)
				w.draw(1, one.Epoch, w.daily(10, 0, "daily"))
				slow := w.slowly(errors.New("the database is gone"))
				first, second := make(chan error), make(chan error)
				go func() { first <- call(w, one.Epoch, 1) }()
				<-slow.begun
				go func() { second <- call(w, one.Epoch, 2) }()
				synctest.Wait()
				select {
				case err := <-second:
					t.Errorf("answered before the records have it: %v", err)
				default:
				}
				close(slow.end)
				if err := <-first; err == nil {
					t.Error("the first caller hears nothing of the failure")
				}
				if err := <-second; err != nil {
					t.Error(err)
				}
				rows, err := w.records.LeasesOf(ctx, w.daily(0, 0).Counter)
				if err != nil || len(rows) != 1 || rows[0].Closed != (name == "given back") || !rows[0].Closed && rows[0].Charged < 50 {
					t.Errorf("written %+v, %v", rows, err)
				}
			})
		})
	}
}
