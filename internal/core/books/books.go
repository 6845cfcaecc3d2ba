// Package books checks promise P1: admitted + reported − voided = metered = rated + unpriced, row by row, at one cut. What
// does not add up (a peak, an average) is apart: there metered = rated.
package books

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Row is one (customer, meter, billing period). Period is zero for usage outside every subscription period.
// The quantities come from separate places; only then does their agreement prove something.
type Row struct {
	CustomerID, Customer, Meter string
	Period                      period.Interval
	Admitted, Reported          money.Decimal // running totals of enforcement; receipts of ingest
	Voided                      money.Decimal // what revisions took away
	Metered                     money.Decimal // rollups
	Rated                       money.Decimal // quantities on invoice and preview lines
	Unpriced                    money.Decimal // no price on the meter, no subscription, or late
	Late                        money.Decimal // the part of Unpriced that arrived, less what was voided, after its period was closed
	Difference                  money.Decimal // |admitted+reported−voided−metered| + |metered−rated−unpriced|
	Error                       string        // why the usage could not be rated; it shows in Difference. Empty: it was
}

// Measured is one (customer, meter, billing period) of a meter that does not add up.
type Measured struct {
	CustomerID, Customer, Meter string
	Aggregation                 meter.Aggregation
	Period                      period.Interval
	Metered                     money.Decimal // what the journal measures, at the period's close or now
	Rated                       money.Decimal // the quantity on invoice and preview lines
	Late                        money.Decimal // by how much it measures more, or less, since the close
	Priced                      bool          // a price of the subscription is on the meter
	Difference                  money.Decimal // |metered−rated|; without a price |rated|
	Error                       string        // why it could not be rated; it shows in Difference. Empty: it was
}

// Report is all rows and their sums. Difference is the sum of all differences, Apart's too, so errors never cancel.
type Report struct {
	Admitted, Reported, Voided, Metered, Rated, Unpriced, Late, Difference money.Decimal
	Rows                                                                   []Row
	Apart                                                                  []Measured
}

// Balance computes the differences and totals. What is given is not changed; its Difference is not read. money.ErrOverflow.
func Balance(rows []Row, apart ...Measured) (Report, error) {
	report := Report{Rows: make([]Row, 0, len(rows)), Apart: make([]Measured, 0, len(apart))}
	for _, row := range rows {
		difference, err := row.difference()
		if err == nil {
			row.Difference = difference
			err = report.add(row)
		}
		if err != nil {
			return Report{}, fmt.Errorf("balance books of customer %s, meter %s: %w", row.CustomerID, row.Meter, err)
		}
		report.Rows = append(report.Rows, row)
	}
	for _, m := range apart {
		expected := m.Metered
		if !m.Priced {
			expected = money.Decimal{}
		}
		difference, err := expected.Sub(m.Rated)
		if err == nil {
			m.Difference = difference.Abs()
			report.Difference, err = report.Difference.Add(m.Difference)
		}
		if err != nil {
			return Report{}, fmt.Errorf("balance books of customer %s, meter %s: %w", m.CustomerID, m.Meter, err)
		}
		report.Apart = append(report.Apart, m)
	}
	return report, nil
}

func (r Row) difference() (money.Decimal, error) {
	counted, err := r.Admitted.Add(r.Reported)
	if err != nil {
		return money.Decimal{}, err
	}
	if counted, err = counted.Sub(r.Voided); err != nil {
		return money.Decimal{}, err
	}
	billed, err := r.Rated.Add(r.Unpriced)
	if err != nil {
		return money.Decimal{}, err
	}
	atMeter, err := counted.Sub(r.Metered)
	if err != nil {
		return money.Decimal{}, err
	}
	atBill, err := r.Metered.Sub(billed)
	if err != nil {
		return money.Decimal{}, err
	}
	return atMeter.Abs().Add(atBill.Abs())
}

func (r *Report) add(row Row) error {
	for _, column := range []struct {
		sum   *money.Decimal
		value money.Decimal
	}{
		{&r.Admitted, row.Admitted},
		{&r.Reported, row.Reported},
		{&r.Voided, row.Voided},
		{&r.Metered, row.Metered},
		{&r.Rated, row.Rated},
		{&r.Unpriced, row.Unpriced},
		{&r.Late, row.Late},
		{&r.Difference, row.Difference},
	} {
		sum, err := column.sum.Add(column.value)
		if err != nil {
			return err
		}
		*column.sum = sum
	}
	return nil
}
