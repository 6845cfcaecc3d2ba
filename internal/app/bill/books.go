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

// Books balances every additive meter, customer and billing period at one cut, and checks the others' lines apart. Rows
// without any figure are left out; the others stand newest period first, then by customer key and meter. customerRef "" is all; account.ErrNotFound for an
// unknown customer.
//
// The records are read before the journal: subscriptions, then closes, then invoices, and then one View. What changes in
// between can not make a false difference: a period closed after its close was looked for counts as open, and is rated
// from the same View as it is metered from.
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
	rows, apart, err := file.rows(out.Position)
	if err != nil {
		return Books{}, fmt.Errorf("books: %w", err)
	}
	if out.Report, err = books.Balance(rows, apart...); err != nil {
		return Books{}, err
	}
	return out, nil
}

// span is one billing period of a contract as the records have it.
type span struct {
	contract contract
	period   period.Interval
	closing  *store.Close   // nil: none has begun
	lines    []invoice.Line // of the stored invoice, once closed; else of a preview
	unrated  error          // why there is no preview
}

func (sp *span) closed() bool { return sp.closing != nil && sp.closing.Done }

// reading is what the journal says of one series in one span. Outside of all spans, span is nil.
type reading struct {
	store.SeriesKey
	span                                      *span
	admitted, reported, voided, metered, late money.Decimal
	kind                                      meter.Aggregation // of a meter that does not add up: metered is at the close, without late
}

// file is one balance in the making.
type file struct {
	customerID string // empty: all
	customers  map[string]account.Customer
	spans      map[string][]*span // by customer id
	readings   []reading
	kinds      map[string]meter.Aggregation // by meter
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
	f := &file{customers: map[string]account.Customer{}, spans: map[string][]*span{}}
	if customerRef != "" {
		c, err := s.customer(customerRef)
		if err != nil {
			return nil, err
		}
		customers, f.customerID = []account.Customer{c}, c.ID
	}
	billed := map[string]*span{} // by invoice id
	for _, customer := range customers {
		f.customers[customer.ID] = customer
		contracts, err := s.contracts(ctx, customer)
		if err != nil {
			return nil, err
		}
		for _, c := range contracts {
			if err := s.addSpans(ctx, f, c, now, billed); err != nil {
				return nil, err
			}
		}
	}
	return f, s.addLines(ctx, f.customerID, billed)
}

// addSpans adds a contract's periods with their closes.
func (s *Service) addSpans(ctx context.Context, f *file, c contract, now time.Time, billed map[string]*span) error {
	closes, err := s.cfg.Invoices.Closes(ctx, c.ID)
	if err != nil {
		return fmt.Errorf("read closes of subscription %s: %w", c.ID, err)
	}
	ends := make(map[int64]*store.Close, len(closes))
	for i := range closes {
		if !closes[i].Period.Empty() {
			ends[closes[i].Period.End.UnixMicro()] = &closes[i]
		}
	}
	for _, p := range c.periods(now) {
		sp := &span{contract: c, period: p, closing: ends[p.End.UnixMicro()]}
		if sp.closed() && sp.closing.InvoiceID != "" {
			billed[sp.closing.InvoiceID] = sp
		}
		f.spans[c.CustomerID] = append(f.spans[c.CustomerID], sp)
	}
	return nil
}

// addLines gives the closed spans their invoices' lines. An invoice that is missing leaves its span without lines, which
// shows as a difference.
func (s *Service) addLines(ctx context.Context, customerID string, billed map[string]*span) error {
	q := store.Query{CustomerID: customerID, Limit: pageMax}
	for {
		page, err := s.cfg.Invoices.ListInvoices(ctx, q)
		if err != nil {
			return fmt.Errorf("list invoices: %w", err)
		}
		for _, inv := range page {
			if sp := billed[inv.ID]; sp != nil {
				sp.lines = inv.Lines
			}
		}
		if len(page) < q.Limit {
			return nil
		}
		q.Cursor = page[len(page)-1].ID
	}
}

// read takes the journal's side at one cut.
func (f *file) read(v store.View) error {
	for _, key := range f.series(v) {
		if err := f.readSeries(v, key); err != nil {
			return fmt.Errorf("customer %s, meter %s: %w", key.CustomerID, key.Meter, err)
		}
	}
	return nil
}

// series are the journal's and those that only an invoice knows.
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
	for customerID, spans := range f.spans {
		for _, sp := range spans {
			for _, l := range sp.lines {
				if l.Kind == invoice.UsageLine {
					add(store.SeriesKey{CustomerID: customerID, Meter: l.Meter})
				}
			}
		}
	}
	return keys
}

// readSeries reads a series in each of its customer's spans. What the whole series has beyond them is outside.
func (f *file) readSeries(v store.View, key store.SeriesKey) error {
	if kind := f.kinds[key.Meter]; apart(kind) {
		return f.readMeasured(v, key, kind)
	}
	outside := reading{SeriesKey: key}
	all, err := v.Usage(key, period.Interval{})
	if err != nil {
		return err
	}
	outside.metered = all.Sum
	if outside.reported, err = v.Reported(key, period.Interval{}); err != nil {
		return err
	}
	if outside.voided, err = v.Voided(key, period.Interval{}); err != nil {
		return err
	}
	known := map[int64]bool{}
	for _, sp := range f.spans[key.CustomerID] {
		r, err := readSpan(v, key, sp)
		if err != nil {
			return fmt.Errorf("period %s: %w", period.Format(sp.period.Start), err)
		}
		if outside.metered, err = outside.metered.Sub(r.metered); err != nil {
			return err
		}
		if outside.reported, err = outside.reported.Sub(r.reported); err != nil {
			return err
		}
		if outside.voided, err = outside.voided.Sub(r.voided); err != nil {
			return err
		}
		known[sp.period.Start.UnixMicro()] = true
		f.readings = append(f.readings, r)
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
	f.readings = append(f.readings, outside)
	return nil
}

// readMeasured reads a series that does not add up in each of its customer's spans. There is nothing to balance outside.
func (f *file) readMeasured(v store.View, key store.SeriesKey, kind meter.Aggregation) error {
	for _, sp := range f.spans[key.CustomerID] {
		r := reading{SeriesKey: key, span: sp, kind: kind}
		var err error
		if r.metered, err = measure(v, key, sp.period, kind, sp.closing); err != nil {
			return err
		}
		if sp.closing != nil {
			now, err := measure(v, key, sp.period, kind, nil)
			if err != nil {
				return err
			}
			if r.late, err = now.Sub(r.metered); err != nil {
				return err
			}
		}
		f.readings = append(f.readings, r)
	}
	return nil
}

func readSpan(v store.View, key store.SeriesKey, sp *span) (r reading, err error) {
	r = reading{SeriesKey: key, span: sp}
	used, err := v.Usage(key, sp.period)
	if err != nil {
		return r, err
	}
	r.metered = used.Sum
	if r.reported, err = v.Reported(key, sp.period); err != nil {
		return r, err
	}
	if r.voided, err = v.Voided(key, sp.period); err != nil {
		return r, err
	}
	if r.admitted, err = v.Admitted(key, sp.period.Start.UnixMicro()); err != nil {
		return r, err
	}
	if sp.closing != nil {
		r.late, err = v.Late(key, sp.period, sp.closing.Position)
	}
	return r, err
}

// rows brings both sides together.
func (f *file) rows(position uint64) ([]books.Row, []books.Measured, error) {
	f.rateOpen(position)
	var rows []books.Row
	var apart []books.Measured
	for _, r := range f.readings {
		if r.kind != 0 {
			if m := f.measured(r); m.Priced || !m.Metered.IsZero() || !m.Rated.IsZero() || !m.Late.IsZero() {
				apart = append(apart, m)
			}
			continue
		}
		row, err := f.row(r)
		if err != nil {
			return nil, nil, fmt.Errorf("customer %s, meter %s: %w", r.CustomerID, r.Meter, err)
		}
		if !blank(row) {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b books.Row) int {
		return cmp.Or(b.Period.Start.Compare(a.Period.Start), cmp.Compare(a.Customer, b.Customer),
			cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(a.Meter, b.Meter))
	})
	slices.SortFunc(apart, func(a, b books.Measured) int {
		return cmp.Or(b.Period.Start.Compare(a.Period.Start), cmp.Compare(a.Customer, b.Customer),
			cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(a.Meter, b.Meter))
	})
	return rows, apart, nil
}

// measured is one line of what is checked apart.
func (f *file) measured(r reading) books.Measured {
	m := books.Measured{
		CustomerID: r.CustomerID, Customer: f.customers[r.CustomerID].Key, Meter: r.Meter, Aggregation: r.kind,
		Period: r.span.period, Metered: r.metered, Late: r.late,
		Priced: slices.Contains(r.span.contract.meters, r.Meter),
	}
	expected := m.Metered
	if !m.Priced {
		expected = money.Decimal{}
	} else if r.span.unrated != nil {
		m.Error = r.span.unrated.Error()
	}
	m.Rated = r.span.rated(r.Meter, expected)
	return m
}

// rateOpen gives the spans that are not closed the lines of a preview of what was read. One that cannot be rated has none and
// says why: its usage is a difference then, and the other rows are there all the same.
func (f *file) rateOpen(position uint64) {
	used := map[*span][]invoice.Usage{}
	for _, r := range f.readings {
		if r.span == nil || r.span.closed() {
			continue
		}
		quantity := r.metered
		if r.kind == 0 {
			var err error
			if quantity, err = r.metered.Sub(r.late); err != nil {
				r.span.unrated = err
			}
		}
		used[r.span] = append(used[r.span], invoice.Usage{Meter: r.Meter, Quantity: quantity})
	}
	for sp, usage := range used {
		if sp.unrated != nil {
			continue
		}
		inv, err := sp.contract.draft(sp.period, usage, position, true)
		sp.lines, sp.unrated = inv.Lines, err
	}
}

// row is one line of the balance. Unpriced comes from the journal alone and rated from lines alone, so neither can hide
// what is wrong with the other.
func (f *file) row(r reading) (books.Row, error) {
	row := books.Row{
		CustomerID: r.CustomerID,
		Customer:   f.customers[r.CustomerID].Key,
		Meter:      r.Meter,
		Admitted:   r.admitted,
		Reported:   r.reported,
		Voided:     r.voided,
		Metered:    r.metered,
		Unpriced:   r.metered,
		Late:       r.late,
	}
	if r.span == nil {
		return row, nil
	}
	row.Period = r.span.period
	if slices.Contains(r.span.contract.meters, r.Meter) {
		row.Unpriced = r.late
		if r.span.unrated != nil {
			row.Error = r.span.unrated.Error()
		}
	}
	expected, err := row.Metered.Sub(row.Unpriced)
	if err != nil {
		return books.Row{}, err
	}
	row.Rated = r.span.rated(r.Meter, expected)
	return row, nil
}

// rated is the quantity on the meter's lines. Each price on the meter has a line (one that is missing says 0) and all say
// the same; where one does not say what is expected, that one counts, so that it shows.
func (sp *span) rated(key string, expected money.Decimal) money.Decimal {
	found := map[string]money.Decimal{}
	for _, p := range sp.contract.plan.Prices {
		if p.Meter == key {
			found[p.Key] = money.Decimal{}
		}
	}
	var quantities []money.Decimal
	for _, l := range sp.lines {
		if l.Kind == invoice.UsageLine && l.Meter == key {
			delete(found, l.Price)
			quantities = append(quantities, l.Quantity)
		}
	}
	for range found {
		quantities = append(quantities, money.Decimal{})
	}
	for _, q := range quantities {
		if q.Cmp(expected) != 0 {
			return q
		}
	}
	if len(quantities) == 0 {
		return money.Decimal{}
	}
	return expected
}

func blank(r books.Row) bool {
	for _, d := range []money.Decimal{r.Admitted, r.Reported, r.Voided, r.Metered, r.Rated, r.Unpriced, r.Late} {
		if !d.IsZero() {
			return false
		}
	}
	return true
}
