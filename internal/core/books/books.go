// Package books checks promise P1: admitted + reported = metered = rated + unpriced, row by row, at one cut.
package books

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Row is one (customer, meter, billing period). Period is zero for usage outside every subscription period.
// The quantities come from separate places; only then does their agreement prove something.
type Row struct {
	CustomerID, Customer, Meter string
	Period                      period.Interval
	Admitted, Reported          money.Decimal // running totals of enforcement; receipts of ingest
	Metered                     money.Decimal // rollups
	Rated                       money.Decimal // quantities on invoice and preview lines
	Unpriced                    money.Decimal // no price on the meter, no subscription, or late
	Late                        money.Decimal // the part of Unpriced that arrived after its period was closed
	Difference                  money.Decimal // |admitted+reported−metered| + |metered−rated−unpriced|
	Error                       string        // why the usage could not be rated; it shows in Difference. Empty: it was
}

// Report is all rows and their sums. Difference is the sum of the rows' differences, so errors never cancel.
type Report struct {
	Admitted, Reported, Metered, Rated, Unpriced, Late, Difference money.Decimal
	Rows                                                           []Row
}

// Balance computes the differences and totals. The rows given are not changed; their Difference is not read.
// money.ErrOverflow.
func Balance(rows []Row) (Report, error) {
	report := Report{Rows: make([]Row, 0, len(rows))}
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
	return report, nil
}

func (r Row) difference() (money.Decimal, error) {
	counted, err := r.Admitted.Add(r.Reported)
	if err != nil {
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
