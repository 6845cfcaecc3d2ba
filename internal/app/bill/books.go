package bill

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/books"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Books is P1 at one cut: journal position and business time.
type Books struct {
	books.Report
	Position uint64
	At       time.Time
}

// Books balances every additive meter, customer and billing period at one cut, and checks the others' lines apart. A price with
// a longer period has rows of its periods. Rows without any figure are left out; the others stand newest period first, then by
// customer key and meter. customerRef "" is all; account.ErrNotFound for an unknown customer.
//
// The records are read before the journal: subscriptions, then closes, then invoices, and then one View. What changes in
// between can not make a false difference: a period closed after its close was looked for counts as open, and is rated
// at the same position as it is metered at.
func (s *Service) Books(ctx context.Context, customerRef string) (Books, error) {
	out := Books{At: s.cfg.Now()}
	file, err := s.openFile(ctx, customerRef, out.At)
	if err != nil {
		return Books{}, fmt.Errorf("books: %w", err)
	}
	if err := s.readKinds(ctx, file); err != nil {
		return Books{}, fmt.Errorf("books: %w", err)
	}
	err = s.cfg.Journal.View(ctx, func(v store.View) error {
		out.Position = v.Position()
		return file.read(v)
	})
	if err != nil {
		return Books{}, fmt.Errorf("books: read journal: %w", err)
	}
	for _, l := range file.ledgers {
		l.open(ctx, s, out.Position, out.At)
	}
	rows, apart, err := file.rows()
	if err != nil {
		return Books{}, fmt.Errorf("books: %w", err)
	}
	if out.Report, err = books.Balance(rows, apart...); err != nil {
		return Books{}, err
	}
	return out, nil
}

// folder is one subscription with what was billed to it.
type folder struct {
	term   *term
	billed billed
	last   *closing      // that is done or begun
	shares []*share      // the charges on usage, oldest first
	begun  *invoice.Book // with the closes that were begun
	ahead  *invoice.Book // with those that follow
	failed error         // why what is not billed yet cannot be rated
}

// share is one charge on usage, as books check it: its line says what the journal says.
type share struct {
	*charge
	key    invoice.Key
	closed bool          // its lines are final, or begun: what came since is late
	final  bool          // its lines are final
	frozen bool          // there is nothing to compare: nothing looks at it any more, or no line of it is due yet
	then   money.Decimal // at the close that its lines are of; of an open one, now
	now    money.Decimal
}

// span is what one row is about: the billing periods that the prices on a meter go together over.
type span struct {
	folder *folder
	in     period.Interval
	starts []int64 // of its billing periods
	shares []*share
}

// figures are a row in the making: what the journal says of one series in one span. Outside of all spans, span is nil.
type figures struct {
	store.SeriesKey
	span                                *span
	admitted, reported, voided, metered money.Decimal
	late                                money.Decimal // of a span without a price
	kind                                meter.Aggregation
}

// file is one balance in the making.
type file struct {
	customerID string // empty: all
	customers  map[string]account.Customer
	ledgers    []*folder
	figures    []figures
	kinds      map[string]meter.Aggregation // by meter
	now        time.Time
}

// readKinds finds how the journal's meters aggregate, before the cut: catalog versions may have to be loaded for it.
func (s *Service) readKinds(ctx context.Context, f *file) error {
	var keys []store.SeriesKey
	err := s.cfg.Journal.View(ctx, func(v store.View) error {
		keys = f.series(v)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	f.kinds, err = s.kindsOf(ctx, keys)
	return err
}

// openFile reads the records' side.
func (s *Service) openFile(ctx context.Context, customerRef string, now time.Time) (*file, error) {
	customers := s.cfg.Directory.Customers()
	f := &file{customers: map[string]account.Customer{}, now: now}
	if customerRef != "" {
		c, err := s.customer(customerRef)
		if err != nil {
			return nil, err
		}
		customers, f.customerID = []account.Customer{c}, c.ID
	}
	for _, customer := range customers {
		f.customers[customer.ID] = customer
		terms, err := s.terms(ctx, customer, now)
		if err != nil {
			return nil, err
		}
		for i := range terms {
			folder, err := s.folder(ctx, &terms[i], now)
			if err != nil {
				return nil, err
			}
			f.ledgers = append(f.ledgers, folder)
		}
	}
	return f, nil
}

// folder lists the charges on usage of a subscription from its start to the end of the current period.
func (s *Service) folder(ctx context.Context, t *term, now time.Time) (*folder, error) {
	out := &folder{term: t}
	var err error
	if out.billed, err = s.billed(ctx, t); err != nil {
		return nil, err
	}
	if n := len(out.billed.closes); n > 0 {
		out.last = new(closingOf(&out.billed.closes[n-1]))
	}
	until := now
	if p, ok := t.period(now); ok {
		until = p.End
	}
	st := &statement{service: s, term: t, closing: closing{in: period.Interval{Start: until, End: until}}, everything: true, book: out.billed.book}
	if err := st.list(ctx); err != nil {
		return nil, err
	}
	if err := st.cut(ctx); err != nil {
		return nil, err
	}
	for _, c := range st.charges {
		if c.Price.Licensed() || c.Service.Start.After(now) {
			continue
		}
		sh := &share{charge: c, key: invoice.KeyOf(&c.Charge)}
		sh.closed = out.last != nil && !c.Due.After(out.last.in.End)
		done := out.billed.last()
		sh.final = done != nil && !c.Due.After(done.in.End)
		old := sh.closed && c.Period.End.Before(out.last.in.End.Add(-LookBack))
		sh.frozen = old || c.Due.After(until) && out.billed.book.Billed(sh.key) == nil
		out.shares = append(out.shares, sh)
	}
	return out, nil
}

// read takes the journal's side at one cut.
func (f *file) read(v store.View) error {
	for _, l := range f.ledgers {
		for _, sh := range l.shares {
			now, err := sh.series.read(v, sh.Service, v.Position())
			if err != nil {
				return fmt.Errorf("customer %s, meter %s: %w", l.term.CustomerID, sh.Price.Meter, err)
			}
			if sh.now, sh.then = now.quantity, now.quantity; !sh.closed {
				continue
			}
			then, err := sh.series.read(v, sh.Service, l.last.position)
			if err != nil {
				return fmt.Errorf("customer %s, meter %s: %w", l.term.CustomerID, sh.Price.Meter, err)
			}
			sh.then = then.quantity
		}
	}
	for _, key := range f.series(v) {
		if err := f.readSeries(v, key); err != nil {
			return fmt.Errorf("customer %s, meter %s: %w", key.CustomerID, key.Meter, err)
		}
	}
	return nil
}

// series are the journal's and those that only an invoice or a price knows.
func (f *file) series(v store.View) []store.SeriesKey {
	var keys []store.SeriesKey
	seen := map[store.SeriesKey]bool{}
	add := func(k store.SeriesKey) {
		if !seen[k] && (f.customerID == "" || f.customerID == k.CustomerID) {
			seen[k] = true
			keys = append(keys, k)
		}
	}
	for _, s := range v.Series() {
		add(s.SeriesKey)
	}
	for _, l := range f.ledgers {
		for _, k := range l.billed.book.Keys() {
			if m := l.billed.book.Billed(k).First.Meter; m != "" {
				add(store.SeriesKey{CustomerID: l.term.CustomerID, Meter: m})
			}
		}
		for _, sh := range l.shares {
			add(sh.series.SeriesKey)
		}
	}
	return keys
}

// spans are the rows of a meter in a subscription.
func (l *folder) spans(meterKey string, now time.Time) []*span {
	var out []*span
	for _, p := range l.term.periods(now) {
		joined := false
		if len(out) > 0 { // a price goes over the border
			border := out[len(out)-1].in.End
			joined = border.Equal(p.Start) && slices.ContainsFunc(l.shares, func(sh *share) bool {
				return sh.Price.Meter == meterKey && sh.Period.Start.Before(border) && sh.Period.End.After(border)
			})
		}
		if !joined {
			out = append(out, &span{folder: l, in: p})
		}
		s := out[len(out)-1]
		s.in.End = p.End
		s.starts = append(s.starts, p.Start.UnixMicro())
	}
	for _, sh := range l.shares {
		i := slices.IndexFunc(out, func(s *span) bool { return s.in.Contains(sh.Service.Start) })
		if sh.Price.Meter == meterKey && i >= 0 {
			out[i].shares = append(out[i].shares, sh)
		}
	}
	return out
}

// readSeries reads a series in each of its customer's spans. What the whole series has beyond them is outside.
func (f *file) readSeries(v store.View, key store.SeriesKey) error {
	kind := f.kinds[key.Meter]
	outside := figures{SeriesKey: key}
	if !apart(kind) {
		all, err := v.Usage(key, period.Interval{})
		if err == nil {
			outside.metered = all.Sum
			outside.reported, err = v.Reported(key, period.Interval{})
		}
		if err == nil {
			outside.voided, err = v.Voided(key, period.Interval{})
		}
		if err != nil {
			return err
		}
	}
	known := map[int64]bool{}
	for _, l := range f.ledgers {
		if l.term.CustomerID != key.CustomerID {
			continue
		}
		for _, sp := range l.spans(key.Meter, f.now) {
			r := figures{SeriesKey: key, span: sp, kind: kind}
			var err error
			if apart(kind) {
				err = r.measure(v)
			} else {
				err = r.count(v, &outside, known)
			}
			if err != nil {
				return fmt.Errorf("period %s: %w", period.Format(sp.in.Start), err)
			}
			f.figures = append(f.figures, r)
		}
	}
	if apart(kind) {
		return nil // there is nothing to balance outside
	}
	for _, start := range v.AdmittedPeriods(key) {
		if known[start] {
			continue
		}
		admitted, err := v.Admitted(key, start)
		if err != nil {
			return err
		}
		if outside.admitted, err = outside.admitted.Add(admitted); err != nil {
			return err
		}
	}
	f.figures = append(f.figures, outside)
	return nil
}

// measure reads a meter that does not add up.
func (r *figures) measure(v store.View) error {
	s := series{SeriesKey: r.SeriesKey, kind: r.kind}
	now, err := s.read(v, r.span.in, v.Position())
	r.metered = now.quantity
	return err
}

// lateUnpriced is what came after the close of a span that no price is on.
func (r *figures) lateUnpriced(v store.View) error {
	if len(r.span.shares) > 0 {
		return nil
	}
	for _, c := range r.span.folder.billed.closes {
		if !c.Period.Equal(r.span.in) {
			continue
		}
		var err error
		r.late, err = v.Late(r.SeriesKey, r.span.in, c.Position)
		return err
	}
	return nil
}

// count reads a span of a meter that adds up, and takes it off what is outside.
func (r *figures) count(v store.View, outside *figures, known map[int64]bool) error {
	used, err := v.Usage(r.SeriesKey, r.span.in)
	if err != nil {
		return err
	}
	r.metered = used.Sum
	if err := r.lateUnpriced(v); err != nil {
		return err
	}
	if r.reported, err = v.Reported(r.SeriesKey, r.span.in); err != nil {
		return err
	}
	if r.voided, err = v.Voided(r.SeriesKey, r.span.in); err != nil {
		return err
	}
	for _, start := range r.span.starts {
		known[start] = true
		admitted, err := v.Admitted(r.SeriesKey, start)
		if err == nil {
			r.admitted, err = r.admitted.Add(admitted)
		}
		if err != nil {
			return err
		}
	}
	if outside.metered, err = outside.metered.Sub(r.metered); err != nil {
		return err
	}
	if outside.reported, err = outside.reported.Sub(r.reported); err != nil {
		return err
	}
	outside.voided, err = outside.voided.Sub(r.voided)
	return err
}

// open rates what is not billed yet, at the cut. One that cannot be rated says why: its usage is a difference then, and the other
// rows are there all the same.
func (l *folder) open(ctx context.Context, s *Service, position uint64, now time.Time) {
	begun := slices.ContainsFunc(l.billed.closes, func(c store.Close) bool { return !c.Done })
	if l.begun = l.billed.book; begun {
		l.begun = l.billed.book.Clone()
		_, l.failed = s.ahead(ctx, l.term, billed{l.billed.closes, l.begun}, position, time.Time{})
	}
	if l.failed != nil || !slices.ContainsFunc(l.shares, func(sh *share) bool { return !sh.closed }) {
		return
	}
	l.ahead = l.billed.book.Clone()
	_, l.failed = s.ahead(ctx, l.term, billed{l.billed.closes, l.ahead}, position, now)
}

// rows brings both sides together.
func (f *file) rows() ([]books.Row, []books.Measured, error) {
	var rows []books.Row
	var apart []books.Measured
	for _, r := range f.figures {
		var err error
		if r.kind != 0 && r.span != nil && !r.kind.Additive() {
			apart, err = f.measured(apart, r)
		} else {
			var row books.Row
			if row, err = f.row(r); !blank(row) {
				rows = append(rows, row)
			}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("customer %s, meter %s: %w", r.CustomerID, r.Meter, err)
		}
	}
	slices.SortStableFunc(rows, func(a, b books.Row) int {
		return cmp.Or(b.Period.Start.Compare(a.Period.Start), cmp.Compare(a.Customer, b.Customer),
			cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(a.Meter, b.Meter))
	})
	slices.SortStableFunc(apart, func(a, b books.Measured) int {
		return cmp.Or(b.Period.Start.Compare(a.Period.Start), cmp.Compare(a.Customer, b.Customer),
			cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(a.Meter, b.Meter))
	})
	return rows, apart, nil
}
