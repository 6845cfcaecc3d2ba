// Package story is a year of a made-up company: 50 customers who subscribe, change, pay, or do not, with usage every day. It goes
// through the services that the API uses, on a test clock, and adds up what came of it.
//
// The same catalog gives the same year: what is by chance comes from fixed seeds.
package story

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// actor is who did all of it, as the audit log has it.
const actor = "story"

// Year is the one that is told: it has a 29 February.
const Year = 2028

// stride is how many days lie between two looks at what is due.
const stride = 5

// Begin is the instant at which the clock must stand when a year begins: the day before it, at noon.
func Begin() time.Time { return noon(time.January, 0) }

// end is when the last periods of the year are closed and billed, in every zone.
func end() time.Time { return noon(time.December, 32) }

// noon is noon of a day in UTC.
func noon(m time.Month, day int) time.Time { return time.Date(Year, m, day, 12, 0, 0, 0, time.UTC) }

// Config is what a year needs; all fields are required.
type Config struct {
	Catalog []byte // YAML
	Govern  *govern.Service
	Credits *credits.Service
	Ingest  *ingest.Service
	Correct *correct.Service
	Bill    *bill.Service
	Collect *collect.Service
	// Advance moves the clock and then does what became due. What meanwhile reports is there before anything is billed.
	Advance func(ctx context.Context, to time.Time, meanwhile func(context.Context) error) error
}

// Told is what a year was made of.
type Told struct {
	Customers int
	Events    int64 // reported, late ones among them
	Steps     int   // of the clock
}

// act is one thing that happens.
type act struct {
	at   time.Time
	what string
	do   func(ctx context.Context) error
}

// year is a year while it is told. One goroutine owns it.
type year struct {
	Config

	cast   []customer
	acts   []act
	until  time.Time // usage is reported up to here
	open   []invoice.Invoice
	number int64 // of the newest invoice that was looked at
	told   Told
}

// Run tells the year from the beginning to the end. The clock stands at Begin, and the stores are empty.
func Run(ctx context.Context, cfg Config) (Told, error) {
	y := &year{Config: cfg, cast: cast(), until: Begin()}
	y.told.Customers = len(y.cast)
	if _, _, err := y.Govern.ApplyCatalog(ctx, actor, "year.yaml", y.Catalog); err != nil {
		return y.told, err
	}
	y.plot()
	for _, at := range y.instants() {
		if at.After(Begin()) {
			if err := y.Advance(ctx, at, func(ctx context.Context) error { return y.report(ctx, at) }); err != nil {
				return y.told, fmt.Errorf("advance to %s: %w", period.Format(at), err)
			}
			y.told.Steps++
		}
		if err := y.happen(ctx, at); err != nil {
			return y.told, err
		}
	}
	return y.told, nil
}

// instants are when something happens or is looked at, rising.
func (y *year) instants() []time.Time {
	list := []time.Time{end()}
	for at := Begin(); at.Before(end()); at = at.AddDate(0, 0, stride) {
		list = append(list, at)
	}
	for _, a := range y.acts {
		list = append(list, a.at)
	}
	slices.SortFunc(list, time.Time.Compare)
	return slices.CompactFunc(list, time.Time.Equal)
}

// happen does what happens at an instant, then customers pay.
func (y *year) happen(ctx context.Context, at time.Time) error {
	for _, a := range y.acts {
		if !a.at.Equal(at) {
			continue
		}
		if err := a.do(ctx); err != nil {
			return fmt.Errorf("%s, %s: %w", at.Format(time.DateOnly), a.what, err)
		}
	}
	return y.pay(ctx, at)
}

// pay has customers pay what they owe, each when it is used to.
func (y *year) pay(ctx context.Context, at time.Time) error {
	if err := y.issued(ctx); err != nil {
		return err
	}
	left := y.open[:0]
	for _, inv := range y.open {
		c := y.customer(inv.CustomerID)
		if c.pays(inv.FinalizedAt).After(at) {
			left = append(left, inv)
			continue
		}
		views, err := y.Collect.Views(ctx, []invoice.Invoice{inv})
		if err != nil {
			return err
		}
		v := views[0]
		if v.Status != invoice.Finalized || v.Remaining.Minor() <= 0 {
			continue
		}
		if _, _, err := y.Collect.Pay(ctx, actor, inv.ID, collect.NewPayment{
			Amount: v.Remaining, Method: "transfer", Reference: fmt.Sprintf("bank %s%d", inv.Series, inv.Number),
		}); err != nil {
			return fmt.Errorf("payment of invoice %d: %w", inv.Number, err)
		}
	}
	y.open = left
	return nil
}

// issued takes up the invoices that were finalized since the last look, oldest first.
func (y *year) issued(ctx context.Context) error {
	var fresh []invoice.Invoice
	err := invoices(ctx, y.Bill, func(inv invoice.Invoice) bool {
		if inv.Number <= y.number {
			return false
		}
		fresh = append(fresh, inv)
		return true
	})
	if err != nil || len(fresh) == 0 {
		return err
	}
	y.number = fresh[0].Number
	slices.Reverse(fresh)
	y.open = append(y.open, fresh...)
	return nil
}

// invoices hands over the finalized ones, newest number first, until use has enough.
func invoices(ctx context.Context, b *bill.Service, use func(invoice.Invoice) bool) error {
	const page = 100
	q := store.Query{Limit: page}
	for {
		list, err := b.Invoices(ctx, q)
		if err != nil {
			return err
		}
		for _, inv := range list {
			if !use(inv) {
				return nil
			}
		}
		if len(list) < page {
			return nil
		}
		q.Cursor = list[len(list)-1].ID
	}
}

// customer is the one with an id.
func (y *year) customer(id string) *customer {
	for i := range y.cast {
		if y.cast[i].id == id {
			return &y.cast[i]
		}
	}
	panic("story: an invoice of a customer that is not of this year: " + id)
}

// named is the one with a key.
func (y *year) named(key string) *customer {
	for i := range y.cast {
		if y.cast[i].key == key {
			return &y.cast[i]
		}
	}
	panic("story: there is no customer " + key)
}

// latest is a customer's newest invoice of a total above 0, which nothing was paid of.
func (y *year) latest(key string) (invoice.Invoice, error) {
	id := y.named(key).id
	for _, inv := range slices.Backward(y.open) {
		if inv.CustomerID == id && inv.Total.Minor() > 0 && inv.Balance.Minor() == 0 {
			return inv, nil
		}
	}
	return invoice.Invoice{}, fmt.Errorf("%s has no open invoice: %w", key, errNothing)
}

// errNothing is a plot that does not fit its catalog.
var errNothing = errors.New("the story has a hole")

// half of an amount, rounded down.
func half(a money.Amount) money.Amount { return money.NewAmount(a.Minor()/2, a.Currency()) }
