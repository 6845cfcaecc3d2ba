package collect_test

import (
	"errors"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/store"
)

const stepsMax = 12

// owed is an invoice as a clerk with a notebook keeps it.
type owed struct {
	inv                  invoice.Invoice
	status               invoice.Status
	remaining            int64
	paid, credited       int64
	lines                []int64 // what is left to credit, without tax
	taxLeft, taxes, base int64
}

// clerk is the naive model: sums on paper, no ledger.
type clerk struct {
	*world
	invoices []*owed
	balance  int64
	notes    int64
}

func (c *clerk) open(o *owed) {
	if o.status == invoice.Finalized && o.remaining == 0 {
		o.status = invoice.Paid
	}
}

func (c *clerk) pick(r *rapid.T) *owed {
	return rapid.SampledFrom(c.invoices).Draw(r, "invoice")
}

// did checks an answer: want nil, or what it is refused with.
func did(r *rapid.T, what string, err, want error) {
	if !errors.Is(err, want) {
		r.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func (c *clerk) Finalize(r *rapid.T) {
	lines := rapid.SliceOfN(rapid.Int64Range(-50, 400), 1, 3).Draw(r, "lines")
	inv := c.finalize(rapid.IntRange(0, 5).Draw(r, "days"), rapid.SampledFrom([]int64{0, 19}).Draw(r, "tax"), lines...)
	o := &owed{inv: inv, status: invoice.Finalized, remaining: max(inv.Total.Minor(), 0), lines: lines, taxLeft: inv.Tax.Minor(), taxes: inv.Tax.Minor(), base: inv.Subtotal.Minor()}
	c.balance -= min(inv.Total.Minor(), 0)
	c.open(o)
	c.invoices = append(c.invoices, o)
	if err := c.tick(); err != nil { // it is posted
		r.Fatal(err)
	}
}

func (c *clerk) Pay(r *rapid.T) {
	o := c.pick(r)
	n := rapid.Int64Range(1, 500).Draw(r, "amount")
	_, _, err := c.Service.Pay(r.Context(), "op", o.inv.ID, paid(n))
	if o.status == invoice.Void {
		did(r, "pay", err, account.ErrState)
		return
	}
	did(r, "pay", err, nil)
	if o.status == invoice.Uncollectible {
		o.status = invoice.Finalized
	}
	applied := min(n, o.remaining)
	o.remaining, o.paid, c.balance = o.remaining-applied, o.paid+applied, c.balance+n-applied
	c.open(o)
}

// PayTwice records a payment by its reference, crashes, and records it again.
func (c *clerk) PayTwice(r *rapid.T) {
	o := c.pick(r)
	if o.status == invoice.Void {
		return
	}
	n := rapid.Int64Range(1, 500).Draw(r, "amount")
	p := collect.NewPayment{Amount: eur(n), Reference: rapid.StringMatching("[a-z]{12}").Draw(r, "reference")}
	if rapid.Bool().Draw(r, "effect") {
		c.r.behind = 1
	} else {
		c.r.before = 1
	}
	if _, _, err := c.Service.Pay(r.Context(), "op", o.inv.ID, p); !errors.Is(err, errCrash) {
		r.Fatalf("no crash: %v", err)
	}
	c.restart()
	_, _, err := c.Service.Pay(r.Context(), "op", o.inv.ID, p)
	did(r, "pay again", err, nil)
	if o.status == invoice.Uncollectible {
		o.status = invoice.Finalized
	}
	applied := min(n, o.remaining)
	o.remaining, o.paid, c.balance = o.remaining-applied, o.paid+applied, c.balance+n-applied
	c.open(o)
}

func (c *clerk) Deposit(r *rapid.T) {
	n := rapid.Int64Range(1, 500).Draw(r, "amount")
	_, err := c.Service.Deposit(r.Context(), "op", "acme", paid(n))
	did(r, "deposit", err, nil)
	c.balance += n
}

func (c *clerk) Withdraw(r *rapid.T) {
	n := rapid.Int64Range(1, 500).Draw(r, "amount")
	_, err := c.Service.Withdraw(r.Context(), "op", "acme", paid(n))
	if n > c.balance {
		did(r, "withdraw", err, account.ErrState)
		return
	}
	did(r, "withdraw", err, nil)
	c.balance -= n
}

func (c *clerk) Void(r *rapid.T) {
	o := c.pick(r)
	_, err := c.Service.Void(r.Context(), "op", o.inv.ID, "r")
	if o.status != invoice.Finalized && o.status != invoice.Uncollectible || o.paid > 0 || o.credited > 0 {
		did(r, "void", err, account.ErrState)
		return
	}
	did(r, "void", err, nil)
	o.status, o.remaining = invoice.Void, 0
}

func (c *clerk) GiveUp(r *rapid.T) {
	o := c.pick(r)
	_, err := c.Uncollectible(r.Context(), "op", o.inv.ID, "r")
	if o.status != invoice.Finalized {
		did(r, "give up", err, account.ErrState)
		return
	}
	did(r, "give up", err, nil)
	o.status = invoice.Uncollectible
}

// CreditAll takes back what is left.
func (c *clerk) CreditAll(r *rapid.T) {
	o := c.pick(r)
	note, _, err := c.CreditNote(r.Context(), "op", o.inv.ID, nil, "r")
	left := max(o.inv.Total.Minor(), 0) - o.credited
	switch {
	case o.status == invoice.Void || o.status == invoice.Uncollectible || left == 0:
		if err == nil {
			r.Fatalf("credited %s of an invoice that is %s, %d left", note.Total, o.status, left)
		}
	default:
		did(r, "credit all", err, nil)
		c.took(r, o, note, left)
		o.lines = make([]int64, len(o.lines))
	}
}

// CreditLine takes back a part of a line. What tax goes with it is checked by its bounds.
func (c *clerk) CreditLine(r *rapid.T) {
	o := c.pick(r)
	i := rapid.IntRange(0, len(o.lines)-1).Draw(r, "line")
	n := rapid.Int64Range(1, 300).Draw(r, "amount")
	note, _, err := c.CreditNote(r.Context(), "op", o.inv.ID, []collect.TakeBack{{Line: o.inv.Lines[i].ID, Amount: eur(n)}}, "r")
	if err != nil {
		fits := o.status == invoice.Finalized || o.status == invoice.Paid
		fits = fits && n <= o.lines[i] && n+max(o.taxes, 0) <= o.inv.Total.Minor()-o.credited
		if fits {
			r.Fatalf("credit %d of line %d: %v", n, i+1, err)
		}
		return
	}
	if n > o.lines[i] || note.Net != eur(n) {
		r.Fatalf("credited %s of line %d, of which %d were left", note.Net, i+1, o.lines[i])
	}
	o.lines[i] -= n
	c.took(r, o, note, note.Total.Minor())
}

// took is what every credit note does.
func (c *clerk) took(r *rapid.T, o *owed, note store.CreditNote, total int64) {
	c.notes++
	o.credited += total
	o.taxLeft -= note.Tax.Minor()
	if note.Total != eur(total) || note.Number != c.notes || o.taxLeft < 0 || o.credited > o.inv.Total.Minor() || o.credited == o.inv.Total.Minor() && o.taxLeft != 0 && note.Lines == nil {
		r.Fatalf("note %+v: %d credited of %s, %d of tax left, note %d", note, o.credited, o.inv.Total, o.taxLeft, c.notes)
	}
	off := min(total, o.remaining)
	o.remaining, c.balance = o.remaining-off, c.balance+total-off
	c.open(o)
}

// Check is done after each step.
func (c *clerk) Check(r *rapid.T) {
	c.conserved()
	open := int64(0)
	for _, o := range c.invoices {
		v := c.view(o.inv)
		if v.Status != o.status || v.Remaining != eur(o.remaining) || v.Paid != eur(o.paid) || v.Credited != eur(o.credited) {
			r.Fatalf("%s: %+v, want %+v", o.inv.ID, v, *o)
		}
		if o.status == invoice.Finalized {
			open += o.remaining
		}
	}
	got, err := c.BalanceOf(r.Context(), "cus_1")
	if err != nil || got != eur(c.balance) {
		r.Fatalf("balance %s, want %d: %v", got, c.balance, err)
	}
	if got, err = c.Owed(r.Context(), "cus_1"); err != nil || got != eur(open) {
		r.Fatalf("owed %s, want %d: %v", got, open, err)
	}
}

// TestMatchesAClerk draws histories of payments, deposits, credit notes, voids and crashes, and compares each step with sums on
// paper; the ledger has to add up at every step.
func TestMatchesAClerk(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "") //nolint:usetesting // one for each draw
		if err != nil {
			r.Fatal(err)
		}
		c := &clerk{world: newWorld(r, dir)}
		actions := []func(*rapid.T){
			c.Finalize, c.Pay, c.PayTwice, c.Deposit, c.Withdraw, c.Void, c.GiveUp, c.CreditAll, c.CreditLine,
		}
		c.Finalize(r)
		for range rapid.IntRange(1, stepsMax).Draw(r, "steps") {
			rapid.SampledFrom(actions).Draw(r, "action")(r)
			c.Check(r)
		}
	})
}
