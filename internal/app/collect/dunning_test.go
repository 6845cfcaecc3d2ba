package collect_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
)

func TestDunning(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(t, t.TempDir()), t.Context()
	w.rules = catalog.Dunning{Reminders: []int{3, 7}, After: 14, Then: "suspend"}
	inv := w.finalize(10, 0, 1000)
	w.days(10)
	w.stands(inv, invoice.Finalized, 1000) // due at this instant, and not past it
	w.toldIs()
	w.now = w.now.Add(time.Hour)
	w.ok(w.tick())
	w.stands(inv, invoice.PastDue, 1000)
	w.toldIs(notify.InvoicePastDue)
	w.days(2)
	w.toldIs()
	w.days(1)
	w.days(1)
	w.toldIs(notify.InvoiceReminder + " 3")
	w.days(9)
	w.toldIs(notify.InvoiceReminder + " 7")
	if w.suspended["cus_1"] {
		t.Error("suspended early")
	}
	w.days(1)
	w.toldIs(notify.CustomerSuspended)
	if !w.suspended["cus_1"] {
		t.Error("not suspended")
	}
	w.restart()
	w.days(30)
	w.toldIs()
	if !w.suspended["cus_1"] {
		t.Error("forgotten after a restart")
	}
	_, _, err := w.Pay(ctx, "op", inv.ID, paid(999))
	w.ok(err)
	if !w.suspended["cus_1"] {
		t.Error("lifted by a part")
	}
	_, _, err = w.Pay(ctx, "op", inv.ID, paid(1))
	w.ok(err)
	if w.suspended["cus_1"] {
		t.Error("not lifted by the payment")
	}
	w.conserved()
}

func TestMissedRemindersAreOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir())
	w.rules = catalog.Dunning{Reminders: []int{3, 7, 9}, After: 30, Then: "uncollectible"}
	inv := w.finalize(0, 0, 1000)
	w.days(8)
	w.toldIs(notify.InvoicePastDue, notify.InvoiceReminder+" 7")
	w.days(1)
	w.toldIs(notify.InvoiceReminder + " 9")
	w.days(21)
	w.toldIs(notify.InvoiceUncollectible)
	w.stands(inv, invoice.Uncollectible, 1000)
	w.days(21)
	w.toldIs()
}

// The days are the customer's: the clock of Berlin goes forward on 29 March 2026, so that 30 days after 1 March are an hour less.
func TestDunningDaysAreLocal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir())
	w.rules = catalog.Dunning{Reminders: []int{30}}
	w.finalize(0, 0, 1000)
	w.now = start.AddDate(0, 0, 30).Add(-time.Hour - time.Second)
	w.ok(w.tick())
	w.toldIs(notify.InvoicePastDue)
	w.now = w.now.Add(2 * time.Minute)
	w.ok(w.tick())
	w.toldIs(notify.InvoiceReminder + " 30")
}

// till is a provider that is declined or lost at first.
type till struct {
	keys    []string
	answers []error
}

func (p *till) Charge(_ context.Context, c collect.Charge) (string, error) {
	p.keys = append(p.keys, c.Key)
	if len(p.answers) == 0 {
		return "ch_" + c.Key, nil
	}
	err := p.answers[0]
	p.answers = p.answers[1:]
	return "", err
}

func TestProviderRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir())
	w.rules = catalog.Dunning{Reminders: []int{3, 7}}
	p := &till{answers: []error{collect.ErrDeclined, errors.New("connection lost")}}
	w.provider = p
	w.restart()
	inv := w.finalize(0, 0, 1000)
	w.days(1)
	w.toldIs(notify.InvoicePastDue)
	w.days(1)
	w.now = w.now.AddDate(0, 0, 1)
	if err := w.tick(); err == nil {
		t.Error("a lost charge is no fault")
	}
	w.stands(inv, invoice.PastDue, 1000)
	w.toldIs() // it may have been paid
	w.restart()
	w.days(0)
	w.toldIs(notify.InvoicePaid)
	w.stands(inv, invoice.Paid, 0)
	w.days(30)
	if !slices.Equal(p.keys, []string{inv.ID + "/0", inv.ID + "/3", inv.ID + "/3"}) {
		t.Errorf("charged %q", p.keys)
	}
}

// TestDunningSurvivesCrashes lets each write of a dunned invoice's life fail in turn, with and without effect: all is told once.
func TestDunningSurvivesCrashes(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"suspend", "uncollectible"} {
		for write := 1; write <= 9; write++ {
			for _, effect := range []bool{false, true} {
				t.Run(fmt.Sprint(then, write, effect), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, t.TempDir())
					w.rules = catalog.Dunning{Reminders: []int{3}, After: 5, Then: then}
					inv := w.finalize(0, 0, 1000)
					if effect {
						w.r.behind = write
					} else {
						w.r.before = write
					}
					crashed := false
					for range 8 {
						w.now = w.now.AddDate(0, 0, 1)
						for {
							err := w.tick()
							if err == nil {
								break
							}
							if !errors.Is(err, errCrash) {
								t.Fatal(err)
							}
							crashed = true
							w.restart()
						}
					}
					if !crashed && write <= 6 { // the invoice itself was posted when it was finalized
						t.Errorf("there was no write %d", write)
					}
					want := []string{notify.InvoicePastDue, notify.InvoiceReminder + " 3", notify.CustomerSuspended}
					if then == "uncollectible" {
						want[2] = notify.InvoiceUncollectible
						w.stands(inv, invoice.Uncollectible, 1000)
					} else if !w.suspended["cus_1"] {
						t.Error("not suspended")
					}
					w.toldIs(want...)
					w.conserved()
				})
			}
		}
	}
}
