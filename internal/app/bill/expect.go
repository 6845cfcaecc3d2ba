package bill

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// LookBack is how long after a price's period has ended its usage is looked at again, when something else is closed: late events
// and revisions of older ones change no invoice.
const LookBack = 400 * 24 * time.Hour

// closing is one step in which a subscription is billed, and what is known at it.
type closing struct {
	in          period.Interval // empty [t, t) where no billing period ends
	progressive bool            // bills usage of open periods so far
	position    uint64          // of the journal
	known       time.Time       // when it was begun: what was decided until then
	changes     int             // how many changes of the history that were
	version     int64           // of the catalog whose rules of billing hold; 0: the newest
}

func closingOf(c *store.Close) closing {
	return closing{in: c.Period, progressive: c.Progressive, position: c.Position, known: c.ClosedAt, changes: c.Changes, version: c.CatalogVersion}
}

// statement is what a closing is computed from.
type statement struct {
	service *Service
	term    *term
	closing closing
	before  *closing // the closing before; nil: this is the first
	book    *invoice.Book
	preview bool
	// everything lists all charges, also those that no invoice has by now.
	everything bool

	grants  []account.Grant
	burn    burning
	from    time.Time // charges are listed of periods that end after it
	changed time.Time // the earliest instant that a decision since the closing before is about; zero: none was made
	charges []*charge // all that may be looked at, in the order of their lines

	commitments []invoice.Commitment // that are looked at
	revisit     []invoice.Key        // something was billed under them, and decisions since may have changed it
}

// charge is one that is expected by a closing, with the usage that it is on.
type charge struct {
	subscription.Charge
	series series  // of a metered one
	pieces []piece // of its service, in order; of a licensed one, none
	looked bool    // it stands on the invoice, in full or as an adjustment of nothing
	group  groupKey
	result price.Result
}

// piece is usage in a part of a charge's service in which no credit starts or ends.
type piece struct {
	period.Interval
	reading
	paid   money.Decimal  // units that credits pay for
	amount money.Rational // what the rest is charged
	count  int64          // events, of a price by single events
}

// groupKey names the splits of one period: they are rated one after the other.
type groupKey struct {
	meter, filter string
	start, end    int64
}

// statement begins one. A nil book is read from the records.
func (s *Service) statement(ctx context.Context, t *term, c closing, before *closing, book *invoice.Book, preview bool) (*statement, error) {
	st := &statement{service: s, term: t, closing: c, before: before, book: book, preview: preview}
	st.grants = slices.DeleteFunc(slices.Clone(s.cfg.Directory.Grants(t.customer.ID)), func(g account.Grant) bool { return g.CreatedAt.After(c.known) })
	st.findChanges()
	if err := st.list(ctx); err != nil {
		return nil, fmt.Errorf("subscription %s: %w", t.ID, err)
	}
	st.split()
	return st, nil
}

// since is the closing before, or the start.
func (st *statement) since() time.Time {
	if st.before == nil {
		return time.Time{}
	}
	return st.before.in.End
}

// findChanges finds from when on decisions since the closing before have effect: of the history, and of grants.
func (st *statement) findChanges() {
	if st.before == nil {
		return
	}
	see := func(decided, effective time.Time) {
		// What was decided at that very instant may have been known or not: to look again does no harm.
		if !decided.Before(st.before.known) && (st.changed.IsZero() || effective.Before(st.changed)) {
			st.changed = effective
		}
	}
	for i := range st.term.history.Changes {
		c := &st.term.history.Changes[i]
		see(c.CreatedAt, c.At.Add(-time.Microsecond)) // a period that the change has ended is over then, and had not been
	}
}

// list finds the charges to look at. Those whose turn it is, those that decisions since may have changed, and those with usage
// that may have come late.
func (st *statement) list(ctx context.Context) error {
	in := period.Interval{Start: st.since(), End: st.closing.in.End.Add(time.Microsecond)}
	if in.Start.IsZero() {
		in.Start = st.term.Start
	} else {
		if back := in.Start.Add(-LookBack); st.metered() {
			in.Start = back
		}
		if !st.changed.IsZero() && st.changed.Before(in.Start) {
			in.Start = st.changed
		}
		for i := range st.grants { // credits burn from the first one on
			if st.grants[i].EffectiveAt.Before(in.Start) {
				in.Start = st.grants[i].EffectiveAt
			}
		}
	}
	if in.Start.Before(st.term.Start) {
		in.Start = st.term.Start
	}
	if p, ok := st.term.period(in.Start); ok { // whole billing periods, for their minimum and maximum
		in.Start = p.Start
	}
	st.from = in.Start
	list, err := subscription.Charges(st.term.segments, st.term.customer.Zone, st.term.sold, in)
	if st.term.sold.err != nil {
		return st.term.sold.err
	}
	if err != nil {
		return err
	}
	if err := st.open(ctx, list); err != nil {
		return err
	}
	for i := range list {
		c := &charge{Charge: list[i]}
		if !st.expected(c) {
			continue
		}
		if !c.Price.Licensed() {
			c.series = series{
				SeriesKey: store.SeriesKey{CustomerID: st.term.CustomerID, Meter: c.Price.Meter}, filter: c.Price.Filter,
				kind: st.term.sold.kind(c.Version, c.Price.Meter), by: groupBy(&c.Price),
			}
			c.group = groupKey{c.Price.Meter, filterText(c.Price.Filter), c.Period.Start.UnixMicro(), c.Period.End.UnixMicro()}
			c.pieces = []piece{{Interval: c.Service}}
		}
		st.charges = append(st.charges, c)
	}
	slices.SortStableFunc(st.charges, func(a, b *charge) int { return cmp.Compare(a.Price.Charge, b.Price.Charge) })
	return st.term.sold.err
}

// open reads what was billed, unless it was given: as far back as one of the charges can have been billed, or all of it where a
// decision, a credit or a coupon may be about something older.
func (st *statement) open(ctx context.Context, list []subscription.Charge) (err error) {
	if st.book != nil {
		return nil
	}
	var from time.Time
	if st.changed.IsZero() && len(st.grants) == 0 {
		from = st.since()
		for i := range list {
			if list[i].Period.Start.Before(from) {
				from = list[i].Period.Start
			}
		}
	}
	st.book, err = st.service.bookOf(ctx, st.term, from, st.closing.in.End)
	return err
}

// metered says whether any plan or add-on of the subscription may have metered prices. All but free ones have.
func (st *statement) metered() bool {
	for i := range st.term.segments {
		g := &st.term.segments[i]
		if p, ok := st.term.sold.Plan(g.Version, g.Plan); len(g.AddOns) > 0 || ok && slices.ContainsFunc(p.Prices, func(p price.Price) bool { return !p.Licensed() }) {
			return true
		}
	}
	return false
}

// expected says whether a charge stands on an invoice by now. Usage of an open period does once a part of it was billed in the
// middle of the period.
func (st *statement) expected(c *charge) bool {
	if st.everything || !c.Due.After(st.closing.in.End) {
		return true
	}
	if c.Price.Licensed() || c.Service.Start.After(st.closing.in.End) || c.Price.Model == price.Volume || c.Price.Model == price.Stairstep {
		return false
	}
	if !st.closing.progressive && st.book.Billed(invoice.KeyOf(&c.Charge)) == nil {
		return false
	}
	c.Position = c.Position.Open() // what is due at the end of the period is not due yet
	return true
}

// look decides, with the usage read, which charges are compared with what was billed: all splits of a period together, and all
// charges of a key.
func (st *statement) look() error {
	since := st.since()
	groups := map[groupKey]bool{}
	keys := map[invoice.Key]bool{}
	for _, k := range st.book.Keys() {
		if !st.changed.IsZero() && st.book.Billed(k).Ends.After(st.changed) {
			st.revisit = append(st.revisit, k)
			keys[k] = true
		}
	}
	for _, c := range st.charges {
		touched := c.Due.After(since) || st.before == nil || !st.changed.IsZero() && c.Period.End.After(st.changed) || len(st.grants) > 0
		for i := range c.pieces {
			touched = touched || c.pieces[i].late
		}
		if touched {
			keys[invoice.KeyOf(&c.Charge)] = true
		}
	}
	commitments, err := st.bounds()
	if err != nil {
		return err
	}
	for _, b := range commitments {
		touched := b.Period.End.After(since) || !st.changed.IsZero() && b.Period.End.After(st.changed)
		for _, k := range b.Keys {
			touched = touched || keys[k]
		}
		if !touched {
			continue
		}
		st.commitments = append(st.commitments, b)
		for _, k := range b.Keys {
			keys[k] = true
		}
	}
	for more := true; more; {
		more = false
		for _, c := range st.charges {
			k := invoice.KeyOf(&c.Charge)
			if c.looked || !keys[k] && !groups[c.group] {
				continue
			}
			c.looked, keys[k], more = true, true, true
			if !c.Price.Licensed() {
				groups[c.group] = true
			}
		}
	}
	return nil
}

// bounds are the plans' minima and maxima of the billing periods that have ended, as far as charges are listed.
func (st *statement) bounds() ([]invoice.Commitment, error) {
	var out []invoice.Commitment
	for _, b := range st.term.periods(st.closing.in.End) {
		if b.End.After(st.closing.in.End) || b.Start.Before(st.from) {
			continue
		}
		plan, _, err := st.term.plan(b.End.Add(-time.Microsecond))
		if err != nil {
			return nil, err
		}
		c := invoice.Commitment{Period: b, Name: plan.Name, Minimum: plan.Terms.Minimum, Maximum: plan.Terms.Maximum}
		if c.Name == "" {
			c.Name = plan.Key
		}
		key := func(kind invoice.LineKind) bool {
			return st.book.Billed(invoice.Key{Start: b.Start.UnixMicro(), Commitment: kind}) != nil
		}
		if c.Minimum == nil && c.Maximum == nil && !key(invoice.MinimumLine) && !key(invoice.MaximumLine) {
			continue
		}
		if !st.chargeable(b) {
			c.Minimum, c.Maximum = nil, nil
		}
		for _, x := range st.charges {
			if !x.Price.Licensed() && x.Period.End.After(b.Start) && !x.Period.End.After(b.End) {
				c.Keys = append(c.Keys, invoice.KeyOf(&x.Charge))
			}
		}
		slices.SortFunc(c.Keys, compareKeys)
		c.Keys = slices.Compact(c.Keys)
		out = append(out, c)
	}
	return append(out, st.gone()...), nil
}

// gone are billing periods that a minimum or maximum was billed for, and that decisions since have made none, or not over yet.
func (st *statement) gone() (out []invoice.Commitment) {
	if st.changed.IsZero() {
		return nil
	}
	have := map[int64]bool{}
	for _, b := range st.term.periods(st.closing.in.End) {
		if !b.End.After(st.closing.in.End) {
			have[b.Start.UnixMicro()] = true
		}
	}
	for _, k := range st.book.Keys() {
		if k.Commitment != "" && !have[k.Start] {
			have[k.Start] = true
			out = append(out, invoice.Commitment{Period: st.book.Billed(k).First.Period})
		}
	}
	return out
}

func compareKeys(a, b invoice.Key) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.AddOn, b.AddOn), cmp.Compare(a.Price, b.Price))
}

// chargeable says that some part of a billing period is neither trial nor pause.
func (st *statement) chargeable(b period.Interval) bool {
	for i := range st.term.segments {
		g := &st.term.segments[i]
		if !g.Paused && !g.Trial && g.Start.Before(b.End) && (g.End.IsZero() || g.End.After(b.Start)) {
			return true
		}
	}
	return false
}
