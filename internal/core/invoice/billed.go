package invoice

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// Key names what is billed: a charge (subscription.Key), or with a Commitment a plan's minimum or maximum of a billing period.
// It is what subscription.Key is, but comparable: Start is in microseconds since 1970.
type Key struct {
	Plan, AddOn, Price string
	Start              int64
	Commitment         LineKind
}

// KeyOf is a charge's.
func KeyOf(c *subscription.Charge) Key {
	k := c.Key()
	return Key{Plan: k.Plan, AddOn: k.AddOn, Price: k.Price, Start: k.Start.UnixMicro()}
}

// key is what a line of an invoice was billed under; ok is false for lines that are for the whole invoice.
func (l *Line) key(inv *Invoice) (k Key, ok bool) {
	start := l.Period.Start
	if !l.Begins.IsZero() {
		start = l.Begins
	}
	switch {
	case l.Kind == CreditLine || l.Kind == CouponLine:
		return Key{}, false
	case l.Price == "":
		return Key{Start: start.UnixMicro(), Commitment: l.Kind}, true
	}
	k = Key{AddOn: l.AddOn, Price: l.Price, Start: start.UnixMicro()}
	if k.AddOn == "" {
		k.Plan = cmp.Or(l.Plan, inv.Plan)
	}
	return k, true
}

// KeyOf is what one of the invoice's lines was billed under; ok is false for credits and coupons.
func (inv *Invoice) KeyOf(l *Line) (k Key, ok bool) { return l.key(inv) }

// step is a quantity for a time, as it was billed; those of one key add up.
type step struct {
	period.Interval
	quantity money.Decimal
}

// Billed is what earlier invoices hold under one key.
type Billed struct {
	Amount   money.Rational
	Quantity money.Decimal
	Credited money.Decimal
	First    Line // the first line under the key
	Invoice  string
	Ends     time.Time // the latest end of a line's period

	steps []step
}

// Book is what a subscription's earlier invoices billed, by key, and what credits and coupons paid, also on invoices of other
// subscriptions of the customer. The zero value is empty.
type Book struct {
	subscription string
	billed       map[Key]*Billed
	keys         []Key // in the order in which they were first billed
	sources      map[source]*Payment
	coupons      map[string]map[string]bool // by redemption: the invoices that have its line
}

// source is who paid for lines of a product.
type source struct{ id, product string }

// Payment is what a grant or a redemption paid of lines of one product. Amounts are above 0.
type Payment struct {
	Exact   money.Rational
	Rounded money.Amount
}

// NewBook is an empty one for a subscription.
func NewBook(subscriptionID string) *Book { return &Book{subscription: subscriptionID} }

// Clone is a copy that can be added to alone.
func (b *Book) Clone() *Book {
	out := &Book{subscription: b.subscription, keys: slices.Clone(b.keys), billed: make(map[Key]*Billed, len(b.billed))}
	out.sources, out.coupons = make(map[source]*Payment, len(b.sources)), make(map[string]map[string]bool, len(b.coupons))
	for k, v := range b.billed {
		one := *v
		one.steps = slices.Clone(v.steps)
		out.billed[k] = &one
	}
	for k, v := range b.sources {
		out.sources[k] = new(*v)
	}
	for k, v := range b.coupons {
		out.coupons[k] = maps.Clone(v)
	}
	return out
}

// Billed finds a key; nil: nothing was billed under it.
func (b *Book) Billed(k Key) *Billed { return b.billed[k] }

// Keys are all that something was billed under, in order.
func (b *Book) Keys() []Key { return b.keys }

// Invoices counts the invoices that a redemption took something off.
func (b *Book) Invoices(redemptionID string) int { return len(b.coupons[redemptionID]) }

// Took says whether an invoice has a line of a redemption.
func (b *Book) Took(redemptionID, invoiceID string) bool { return b.coupons[redemptionID][invoiceID] }

// PaidBy is what a grant or redemption paid of all products, rounded; the zero Amount: nothing.
func (b *Book) PaidBy(id string) (sum money.Amount, err error) {
	for k, p := range b.sources {
		if k.id != id {
			continue
		}
		if sum.Currency().Code() == "" {
			sum = p.Rounded
		} else if sum, err = sum.Add(p.Rounded); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// Add takes one invoice in; they come in the order in which they were made.
func (b *Book) Add(inv *Invoice) error {
	if b.billed == nil {
		b.billed, b.sources, b.coupons = map[Key]*Billed{}, map[source]*Payment{}, map[string]map[string]bool{}
	}
	for i := range inv.Lines {
		l := &inv.Lines[i]
		var err error
		if k, ok := l.key(inv); ok {
			if b.subscription == "" || b.subscription == inv.SubscriptionID {
				err = b.bill(k, inv, l)
			}
		} else {
			err = b.pay(inv, l)
		}
		if err != nil {
			return fmt.Errorf("invoice %s, line %d: %w", inv.ID, l.Number, err)
		}
	}
	return nil
}

func (b *Book) bill(k Key, inv *Invoice, l *Line) (err error) {
	at := b.billed[k]
	if at == nil {
		at = &Billed{First: *l, Invoice: inv.ID}
		at.First.Plan, at.First.AddOn = k.Plan, k.AddOn
		b.billed[k] = at
		b.keys = append(b.keys, k)
	}
	if at.Amount, err = at.Amount.Add(l.exact()); err != nil {
		return err
	}
	if l.Period.End.After(at.Ends) {
		at.Ends = l.Period.End
	}
	if l.Kind != UsageLine && l.Kind != FlatLine && l.Kind != AdjustmentLine {
		return nil
	}
	at.steps = append(at.steps, step{l.Period, l.Quantity})
	if at.Credited, err = at.Credited.Add(l.Credited); err != nil {
		return err
	}
	at.Quantity, err = at.Quantity.Add(l.Quantity)
	return err
}

func (b *Book) pay(inv *Invoice, l *Line) (err error) {
	k := source{l.Source, l.Product}
	p := b.sources[k]
	if p == nil {
		p = &Payment{Rounded: money.NewAmount(0, inv.Currency)}
		b.sources[k] = p
	}
	if l.Kind == CouponLine {
		if b.coupons[l.Source] == nil {
			b.coupons[l.Source] = map[string]bool{}
		}
		b.coupons[l.Source][inv.ID] = true
	}
	if p.Exact, err = p.Exact.Sub(l.exact()); err != nil {
		return err
	}
	p.Rounded, err = p.Rounded.Add(negated(l.Rounded))
	return err
}

// exact is the line's amount without any rounding.
func (l *Line) exact() money.Rational {
	if !l.Fraction.IsZero() {
		return l.Fraction
	}
	return l.Exact.Rational()
}

// change is where what is expected differs from what was billed: the span of it, and by which quantity, where that is one.
func change(expected, billed []step) (in period.Interval, delta money.Decimal, err error) {
	var edges []time.Time
	for _, list := range [][]step{expected, billed} {
		for _, s := range list {
			edges = append(edges, s.Start, s.End)
		}
	}
	slices.SortFunc(edges, time.Time.Compare)
	for i := 1; i < len(edges); i++ {
		at := edges[i-1]
		if !at.Before(edges[i]) {
			continue
		}
		now, err := quantityAt(expected, at)
		if err != nil {
			return in, delta, err
		}
		was, err := quantityAt(billed, at)
		if err != nil {
			return in, delta, err
		}
		if now.Cmp(was) == 0 {
			continue
		}
		if in.Start.IsZero() {
			in.Start = at
		}
		in.End = edges[i]
		if delta, err = now.Sub(was); err != nil {
			return in, delta, err
		}
	}
	return in, delta, nil
}

func quantityAt(list []step, t time.Time) (sum money.Decimal, err error) {
	for _, s := range list {
		if s.Contains(t) {
			if sum, err = sum.Add(s.quantity); err != nil {
				return sum, err
			}
		}
	}
	return sum, nil
}

// hull is the span of all steps.
func hull(list []step) (in period.Interval) {
	if len(list) == 0 {
		return in
	}
	in.Start = slices.MinFunc(list, func(a, b step) int { return cmp.Compare(a.Start.UnixMicro(), b.Start.UnixMicro()) }).Start
	in.End = slices.MaxFunc(list, func(a, b step) int { return cmp.Compare(a.End.UnixMicro(), b.End.UnixMicro()) }).End
	return in
}
