package bill

import (
	"slices"

	"github.com/tallystick/tallystick/internal/core/books"
	"github.com/tallystick/tallystick/internal/core/money"
)

// row is one line of the balance. Unpriced comes from the journal alone and rated from lines alone, so neither can hide
// what is wrong with the other.
func (f *file) row(r figures) (books.Row, error) {
	row := books.Row{
		CustomerID: r.CustomerID,
		Customer:   f.customers[r.CustomerID].Key,
		Meter:      r.Meter,
		Admitted:   r.admitted,
		Reported:   r.reported,
		Voided:     r.voided,
		Metered:    r.metered,
		Unpriced:   r.metered,
	}
	if r.span == nil {
		return row, nil
	}
	row.Period = r.span.in
	covered, late, err := r.span.covered()
	if err != nil {
		return row, err
	}
	if row.Late = late; len(r.span.shares) == 0 {
		row.Late = r.late
	}
	if row.Unpriced, err = row.Metered.Sub(covered); err != nil {
		return row, err
	}
	if row.Unpriced.Sign() < 0 {
		row.Unpriced = money.Decimal{} // filters that overlap cover more than there is
	}
	if row.Unpriced, err = row.Unpriced.Add(late); err != nil {
		return row, err
	}
	wrong, err := r.span.wrong()
	if err != nil {
		return row, err
	}
	if len(r.span.shares) > 0 {
		if row.Rated, err = row.Metered.Sub(row.Unpriced); err == nil {
			row.Rated, err = row.Rated.Add(wrong)
		}
	}
	if failed := r.span.folder.failed; failed != nil && slices.ContainsFunc(r.span.shares, func(sh *share) bool { return !sh.final }) {
		row.Error = failed.Error()
	}
	return row, err
}

// covered is the usage of the span that prices are on, each event once, and the part of it that is on no line because it came
// late. Prices without a filter come first; those with one are looked at where none is.
func (sp *span) covered() (all, late money.Decimal, err error) {
	var taken []*share
	for _, filtered := range []bool{false, true} {
		for _, sh := range sp.shares {
			if filtered != (len(sh.Price.Filter) > 0) {
				continue
			}
			again := slices.ContainsFunc(taken, func(o *share) bool {
				overlaps := o.Service.Start.Before(sh.Service.End) && sh.Service.Start.Before(o.Service.End)
				return overlaps && (len(o.Price.Filter) == 0 || o.group.filter == sh.group.filter)
			})
			if again {
				continue
			}
			taken = append(taken, sh)
			if all, err = all.Add(sh.now); err != nil {
				return all, late, err
			}
			part, err := sh.now.Sub(sh.then)
			if err == nil {
				late, err = late.Add(part)
			}
			if err != nil {
				return all, late, err
			}
		}
	}
	return all, late, nil
}

// wrong is by how much the lines of the first key that says something else than the journal differ from it.
func (sp *span) wrong() (money.Decimal, error) {
	for i, sh := range sp.shares {
		if slices.ContainsFunc(sp.shares[:i], func(o *share) bool { return o.key == sh.key }) {
			continue
		}
		difference, err := sp.folder.difference(sh)
		if err != nil || !difference.IsZero() {
			return difference, err
		}
	}
	return money.Decimal{}, nil
}

// difference is what the lines of a share's key say less what the journal says. Lines that are final have what was there at the last
// close, those to come what is there now.
func (l *folder) difference(of *share) (money.Decimal, error) {
	if of.frozen {
		return money.Decimal{}, nil
	}
	var expected money.Decimal
	closed := false
	for _, sh := range l.shares {
		if sh.key != of.key {
			continue
		}
		closed = closed || sh.closed
		var err error
		if expected, err = expected.Add(sh.then); err != nil {
			return expected, err
		}
	}
	book := l.ahead
	if closed {
		book = l.begun
	}
	var lines money.Decimal
	if book != nil {
		if b := book.Billed(of.key); b != nil {
			lines = b.Quantity
		}
	}
	return lines.Sub(expected)
}

// measured adds what is checked apart: a line for each time that has a price of its own, and one for a period without any.
func (f *file) measured(out []books.Measured, r figures) ([]books.Measured, error) {
	base := books.Measured{CustomerID: r.CustomerID, Customer: f.customers[r.CustomerID].Key, Meter: r.Meter, Aggregation: r.kind, Period: r.span.in}
	if len(r.span.shares) == 0 {
		if base.Metered = r.metered; !base.Metered.IsZero() {
			out = append(out, base)
		}
		return out, nil
	}
	for i, sh := range r.span.shares {
		again := slices.ContainsFunc(r.span.shares[:i], func(o *share) bool {
			return o.Service.Equal(sh.Service) && o.group.filter == sh.group.filter
		})
		if again {
			continue
		}
		m := base
		m.Priced, m.Period, m.Metered = true, sh.Service, sh.then
		var err error
		if m.Late, err = sh.now.Sub(sh.then); err != nil {
			return out, err
		}
		m.Rated = m.Metered
		for _, o := range r.span.shares { // all prices on the same usage
			if !o.Service.Equal(sh.Service) || o.group.filter != sh.group.filter || m.Rated.Cmp(m.Metered) != 0 {
				continue
			}
			wrong, err := r.span.folder.difference(o)
			if err == nil {
				m.Rated, err = m.Metered.Add(wrong)
			}
			if err != nil {
				return out, err
			}
		}
		if failed := r.span.folder.failed; failed != nil && !sh.final {
			m.Error = failed.Error()
		}
		out = append(out, m)
	}
	return out, nil
}

func blank(r books.Row) bool {
	for _, d := range []money.Decimal{r.Admitted, r.Reported, r.Voided, r.Metered, r.Rated, r.Unpriced, r.Late} {
		if !d.IsZero() {
			return false
		}
	}
	return true
}
