// Package books checks promise P1: admitted + reported = metered = rated + unpriced, row by row, at one cut.
package books

import (
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Row is one (customer, meter, billing period). Period is zero for usage outside every subscription period.
type Row struct {
	CustomerID, Customer, Meter string
	Period                      period.Interval
	Admitted, Reported          money.Decimal // running totals of enforcement; receipts of ingest
	Metered                     money.Decimal // rollups
	Rated                       money.Decimal // quantities on invoice and preview lines
	Unpriced                    money.Decimal // no price on the meter, no subscription, or late
	Late                        money.Decimal // the part of Unpriced that arrived after its period was closed
	Difference                  money.Decimal // |admitted+reported−metered| + |metered−rated−unpriced|
}

type Report struct {
	Admitted, Reported, Metered, Rated, Unpriced, Late, Difference money.Decimal // Difference is the sum of the rows' differences
	Rows                                                           []Row
}

// Balance computes the differences and totals.
func Balance(rows []Row) (Report, error) { panic("skeleton") }
