package bill_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/store"
)

// crasher ends the process, as far as stores can tell, at one of the steps that a run takes: before a call or right after its
// commit. From then on every call fails.
type crasher struct {
	store.Invoices
	at, steps int // the run crashes at step at; 0: never
	names     []string
	sealed    map[string]bool
}

// step says whether the process is gone.
func (c *crasher) step(name string) error {
	c.steps++
	c.names = append(c.names, name)
	if c.at > 0 && c.steps >= c.at {
		return errCrash
	}
	return nil
}

func (c *crasher) BeginCloses(ctx context.Context, list []store.Close) ([]store.Close, error) {
	if err := c.step("before begin"); err != nil {
		return nil, err
	}
	begun, err := c.Invoices.BeginCloses(ctx, list)
	return begun, errors.Join(err, c.step("after begin"))
}

func (c *crasher) FinishCloses(ctx context.Context, list []store.Finish, at time.Time) ([]*invoice.Invoice, error) {
	if err := c.step("before finish"); err != nil {
		return nil, err
	}
	finals, err := c.Invoices.FinishCloses(ctx, list, at)
	return finals, errors.Join(err, c.step("after finish"))
}

func (c *crasher) Closes(ctx context.Context, id string) ([]store.Close, error) {
	if err := c.step("read closes"); err != nil {
		return nil, err
	}
	return c.Invoices.Closes(ctx, id)
}

func (c *crasher) seal(_ context.Context, list []store.Sealing) error {
	for i := range list {
		key := fmt.Sprint(list[i].SubscriptionID, list[i].Period)
		was := encodeDraft(list[i].Draft)
		for other := range c.sealed {
			if len(other) > len(key) && other[:len(key)] == key && other != key+was {
				return fmt.Errorf("sealed before with another draft: %s", key)
			}
		}
		c.sealed[key+was] = true
	}
	return c.step("after seal")
}

func encodeDraft(inv invoice.Invoice) string {
	return fmt.Sprint(inv.ID, inv.Total, len(inv.Lines), inv.Position)
}

// TestCrashAtEveryStep crashes a run of several months and customers at each of its steps, one after the other, and goes on with a
// new process: the invoices are those of a run that nothing disturbed, byte by byte.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	bills := func(t *testing.T, at int) ([]invoice.Invoice, *crasher) {
		w := newWorld(t, t.TempDir(), date(2026, 1, 1))
		sealed := map[string]bool{}
		for i := range 7 {
			sub := w.subscribe(fmt.Sprintf("c%d", i), []string{"pro", "arrears", "free"}[i%3], "UTC", date(2026, 1, 1+i%2*14), 1+i%2*14)
			w.report(sub.CustomerID, fmt.Sprint("e", i), date(2026, 1, 20), int64(9_000+i*1_000))
		}
		w.now = date(2026, 3, 16)
		c := &crasher{Invoices: w.records, at: at, sealed: sealed}
		w.restart(func(cfg *bill.Config) { cfg.Invoices, cfg.Seal, cfg.Balances = c, c.seal, w.records })
		for more := true; more; {
			var err error
			if more, err = w.bill.Tick(t.Context()); err != nil && !errors.Is(err, errCrash) {
				t.Fatalf("Tick: %v", err)
			} else if err != nil {
				break
			}
		}
		if at > 0 { // a new process
			again := &crasher{Invoices: w.records, sealed: sealed}
			w.restart(func(cfg *bill.Config) {
				cfg.Invoices, cfg.Seal, cfg.Balances = again, again.seal, w.records
			})
			w.tick()
		}
		list := w.invoices()
		w.balanced()
		sums, err := w.records.Conservation(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sums {
			if s.Sum.Minor() != 0 || s.Difference.Minor() != 0 {
				t.Errorf("the ledger does not balance: %+v", s)
			}
		}
		return list, c
	}
	want, whole := bills(t, 0)
	if len(want) < 12 || whole.steps < 20 {
		t.Fatalf("%d invoices in %d steps", len(want), whole.steps)
	}
	for at := 1; at <= whole.steps; at++ {
		t.Run(fmt.Sprintf("%03d %s", at, whole.names[at-1]), func(t *testing.T) {
			t.Parallel()
			got, _ := bills(t, at)
			if diff := cmp.Diff(encode(t, want), encode(t, got)); diff != "" {
				t.Errorf("invoices (-undisturbed +crashed):\n%s", diff)
			}
		})
	}
}
