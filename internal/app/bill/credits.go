package bill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/credit"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/store"
)

// burning is what usage credits burn at a closing.
type burning struct {
	money credit.Pool
	units []unitPool
}

// unitPool is the credits of one meter's units, and all usage of the meter since they began.
type unitPool struct {
	credit.Pool
	meter string
	spans []piece
}

// split cuts the pieces of charges where credits start, end or are refilled, so that each piece is of one state of them.
func (st *statement) split() {
	if len(st.grants) == 0 {
		return
	}
	holder := credit.Holder{Zone: st.term.customer.Zone, Grants: st.grants, Subscriptions: st.service.cfg.Directory.SubscriptionsOf(st.term.CustomerID)}
	until := st.horizon()
	st.burn.money = holder.Money(until)
	var meters []string
	for i := range st.grants {
		if m := st.grants[i].Meter; m != "" && !slices.Contains(meters, m) {
			meters = append(meters, m)
		}
	}
	byMoney := starts(st.burn.money.Slices(until))
	for _, m := range meters {
		if pool := holder.Units(m, until); len(pool.Grants) > 0 && !until.Before(pool.Start) {
			st.burn.units = append(st.burn.units, unitPool{Pool: pool, meter: m})
		}
	}
	for _, c := range st.charges {
		if c.sliced() {
			c.pieces = pieces(c.Service, byMoney)
		}
	}
	for i := range st.burn.units {
		st.splitUnits(&st.burn.units[i], byMoney, until)
	}
}

// splitUnits cuts the usage of a meter in the same places for its pool and for all charges on it.
func (st *statement) splitUnits(u *unitPool, cuts []time.Time, until time.Time) {
	cuts = append(slices.Clone(cuts), starts(u.Slices(until))...)
	for _, c := range st.charges {
		if c.Price.Meter == u.meter && c.sliced() {
			cuts = append(cuts, c.Service.Start, c.Service.End)
		}
	}
	for _, c := range st.charges {
		if c.Price.Meter == u.meter && c.sliced() {
			c.pieces = pieces(c.Service, cuts)
		}
	}
	u.spans = pieces(period.Interval{Start: u.Start, End: until}, cuts)
}

// horizon is up to where usage is looked at.
func (st *statement) horizon() time.Time {
	at := st.closing.in.End
	for _, c := range st.charges {
		if !c.Price.Licensed() && c.Service.End.After(at) {
			at = c.Service.End
		}
	}
	return at
}

// sliced says that a charge is the sum of its pieces' charges, and that units can be taken off each of them.
func (c *charge) sliced() bool {
	return !c.Price.Licensed() && !apart(c.series.kind) && c.Price.Model != price.Percentage
}

// unitsOff says that credits in units may pay for usage of the charge: its quantity is not an amount of money.
func (c *charge) unitsOff() bool {
	return c.sliced() && c.Price.Model != price.Dynamic && c.Price.Model != price.GraduatedPercentage
}

func starts(list []period.Interval) []time.Time {
	out := make([]time.Time, len(list))
	for i := range list {
		out[i] = list[i].Start
	}
	return out
}

// pieces tile an interval, cut where it contains a cut.
func pieces(in period.Interval, cuts []time.Time) []piece {
	cuts = slices.Clone(cuts)
	slices.SortFunc(cuts, time.Time.Compare)
	out := []piece{{Interval: in}}
	for _, at := range cuts {
		last := &out[len(out)-1]
		if at.After(last.Start) && at.Before(in.End) {
			last.End = at
			out = append(out, piece{Interval: period.Interval{Start: at, End: in.End}})
		}
	}
	return out
}

// readUnits reads all usage of the meters that credits in units are for.
func (st *statement) readUnits(v store.View) error {
	for i := range st.burn.units {
		u := &st.burn.units[i]
		s := series{SeriesKey: store.SeriesKey{CustomerID: st.term.CustomerID, Meter: u.meter}}
		for j := range u.spans {
			var err error
			if u.spans[j].reading, err = s.read(v, u.spans[j].Interval, st.closing.position); err != nil {
				return err
			}
		}
	}
	return nil
}

// burnUnits takes the units that credits pay for off the pieces. A filter's part of the usage gets what is left by those before it.
func (st *statement) burnUnits() error {
	for i := range st.burn.units {
		u := &st.burn.units[i]
		uses := make([]ledger.Use, len(u.spans))
		for j := range u.spans {
			uses[j] = ledger.Use{At: u.spans[j].Start, Quantity: u.spans[j].quantity.Rational().Max(money.Rational{}), Meter: u.meter}
		}
		out, err := ledger.Burn(u.Start, u.Grants, uses, u.Resets, time.Time{})
		if err != nil {
			return fmt.Errorf("credits of meter %q: %w", u.meter, err)
		}
		paid := map[int64]money.Decimal{}
		for _, b := range out.Burned {
			amount, _, err := b.Amount.Decimal()
			at := u.spans[b.Use].Start.UnixMicro()
			if err == nil {
				paid[at], err = paid[at].Add(amount)
			}
			if err != nil {
				return fmt.Errorf("credits of meter %q: %w", u.meter, err)
			}
		}
		if err := st.payUnits(u.meter, paid); err != nil {
			return err
		}
	}
	return nil
}

func (st *statement) payUnits(meterKey string, paid map[int64]money.Decimal) error {
	type filtered struct {
		at     int64
		filter string
	}
	taken := map[filtered]money.Decimal{}
	left := map[int64]money.Decimal{} // for filtered prices
	for at, amount := range paid {
		left[at] = amount
	}
	for _, c := range st.charges {
		if c.Price.Meter != meterKey || !c.unitsOff() {
			continue
		}
		for i := range c.pieces {
			p := &c.pieces[i]
			at := filtered{p.Start.UnixMicro(), c.group.filter}
			if at.filter == "" {
				p.paid = least(paid[at.at], p.quantity)
				continue
			}
			if before, ok := taken[at]; ok { // another price on the same usage
				p.paid = before
				continue
			}
			p.paid = least(left[at.at], p.quantity)
			taken[at] = p.paid
			var err error
			if left[at.at], err = left[at.at].Sub(p.paid); err != nil {
				return err
			}
		}
	}
	return nil
}

func least(a, b money.Decimal) money.Decimal {
	if b.Cmp(a) < 0 {
		return b
	}
	return a
}

// use is one use of money, with the product of the charge.
type use struct {
	ledger.Use
	product string
	end     time.Time // of the charge's period
}

// credits are what grants of money pay for all charges that are due by the closing, whatever was billed before.
func (st *statement) credits(ctx context.Context) ([]invoice.Credit, error) {
	pool := &st.burn.money
	if len(pool.Grants) == 0 {
		return nil, nil
	}
	all, err := st.uses()
	if err != nil {
		return nil, err
	}
	for _, sub := range st.service.cfg.Directory.SubscriptionsOf(st.term.CustomerID) {
		if sub.ID == st.term.ID || sub.Start.After(st.closing.in.End) {
			continue
		}
		more, err := st.usesOf(ctx, sub.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	slices.SortStableFunc(all, func(a, b use) int { return a.At.Compare(b.At) })
	uses := make([]ledger.Use, len(all))
	for i := range all {
		uses[i] = all[i].Use
	}
	out, err := ledger.Burn(pool.Start, pool.Grants, uses, pool.Resets, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("credits: %w", err)
	}
	var list []invoice.Credit
	for i := range st.grants {
		g := &st.grants[i]
		if g.Meter != "" || g.GrantID != "" {
			continue
		}
		c := invoice.Credit{GrantID: g.ID, Name: creditName(g)}
		if g.Every == nil {
			c.Amount = &g.Amount
		}
		for _, b := range out.Burned {
			if b.GrantID == g.ID {
				c.Pays = append(c.Pays, invoice.Paying{Product: all[b.Use].product, Amount: b.Amount})
			}
		}
		list = append(list, c)
	}
	return list, nil
}

func creditName(g *account.Grant) string {
	switch g.Kind {
	case account.Prepaid:
		return "Prepaid credit"
	case account.TopUp:
		return "Topped-up credit"
	}
	return "Promotional credit"
}

// usesOf are those of another subscription of the customer, up to the same closing.
func (st *statement) usesOf(ctx context.Context, subscriptionID string) ([]use, error) {
	t, err := st.service.term(ctx, subscriptionID, st.term.customer, st.closing.known)
	if err != nil {
		return nil, err
	}
	c := st.closing
	c.in = period.Interval{Start: c.in.End, End: c.in.End}
	other, err := st.service.statement(ctx, &t, c, nil, &invoice.Book{}, false)
	if err != nil {
		return nil, err
	}
	if err := other.rate(ctx); err != nil {
		return nil, err
	}
	return other.uses()
}

// uses are the amounts of the charges, piece by piece. Where a cheaper tier pays a part back, or a plan has a maximum, what was
// charged last is not charged.
func (st *statement) uses() ([]use, error) {
	var out []use
	for _, c := range st.charges {
		if !c.looked || c.Price.Licensed() {
			continue
		}
		first := len(out)
		for i := range c.pieces {
			u := use{ledger.Use{At: c.pieces[i].Start, Quantity: c.pieces[i].amount, Meter: c.Price.Meter}, c.Price.Product, c.Period.End}
			if c.pieces[i].amount.Sign() >= 0 {
				out = append(out, u)
				continue
			}
			if err := takeBack(out[first:], u.Quantity.Neg()); err != nil {
				return nil, err
			}
		}
	}
	slices.SortStableFunc(out, func(a, b use) int { return a.At.Compare(b.At) })
	for _, b := range st.commitments {
		if b.Maximum == nil {
			continue
		}
		var in []use
		var at []int
		sum := b.Maximum.Rational().Neg()
		for i := range out {
			if out[i].end.After(b.Period.Start) && !out[i].end.After(b.Period.End) {
				in, at = append(in, out[i]), append(at, i)
				var err error
				if sum, err = sum.Add(out[i].Quantity); err != nil {
					return nil, err
				}
			}
		}
		if sum.Sign() <= 0 {
			continue
		}
		if err := takeBack(in, sum); err != nil {
			return nil, err
		}
		for i := range in {
			out[at[i]] = in[i]
		}
	}
	return out, nil
}

// takeBack takes an amount off uses, the last one first.
func takeBack(list []use, amount money.Rational) error {
	for i := len(list) - 1; i >= 0 && amount.Sign() > 0; i-- {
		part := list[i].Quantity.Min(amount)
		var err error
		if list[i].Quantity, err = list[i].Quantity.Sub(part); err == nil {
			amount, err = amount.Sub(part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
