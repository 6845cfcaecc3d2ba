package wire

import (
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// PathReports takes what a gateway noticed.
const PathReports = "/v1/nodes/reports"

// Bounds of a Report.
const (
	NoticesMax = 500
	RefundsMax = 500
	wordMax    = 512 // bytes of each text in it
	scaleMax   = 18  // digits after the point of a meter
)

// Report is what a gateway noticed since the last one: thresholds passed, and sums of what was given back. It is repeated, as it
// is, until it is answered.
type Report struct {
	Epoch   uint32           `json:"epoch"`
	Seq     uint64           `json:"seq"` // rises by one with each report of an epoch, from 1
	Notices []enforce.Notice `json:"notices,omitempty"`
	Refunds []Refund         `json:"refunds,omitempty"`
	Lost    int64            `json:"lost,omitempty"` // refunds that stand in no line
}

// Refund is an enforce.Refund.
type Refund struct {
	Customer string `json:"customer"` // its id
	Route    string `json:"route"`
	Meter    string `json:"meter"`
	Reason   uint8  `json:"reason"`
	Day      int64  `json:"day"` // microseconds
	Refused  bool   `json:"refused,omitempty"`
	Count    int64  `json:"count"`
	Cost     string `json:"cost"` // decimal
}

// RefundsOf makes a list.
func RefundsOf(list []enforce.Refund) []Refund {
	return each(list, func(r enforce.Refund) Refund {
		return Refund{r.CustomerID, r.Route, r.Meter, uint8(r.Reason), r.Day.UnixMicro(), r.Refused, r.Count, r.Cost.String()}
	})
}

// Check says what is wrong with a report: store.ErrInvalid.
func (r *Report) Check() error {
	bad := func(what string) error { return fmt.Errorf("%s: %w", what, store.ErrInvalid) }
	switch {
	case r.Epoch == 0 || r.Seq == 0:
		return bad("a report has an epoch and a number")
	case len(r.Notices) > NoticesMax || len(r.Refunds) > RefundsMax || r.Lost < 0:
		return bad("a report is too long")
	}
	for i := range r.Notices {
		n := &r.Notices[i]
		if len(n.CustomerID) > wordMax || len(n.Limit) > wordMax || len(n.Meter) > wordMax || len(n.Scope) > wordMax {
			return bad("a notice is too long")
		}
		if n.Percent < 1 || n.Percent > 100 || n.Consumed < 0 || n.Quota < 0 || n.Scale < 0 || n.Scale > scaleMax || n.WindowEnd < 0 || n.At <= 0 {
			return bad("a notice's numbers are none")
		}
	}
	return nil
}

// Sums are the report's refunds, when all are well-formed: store.ErrInvalid.
func (r *Report) Sums() ([]enforce.Refund, error) {
	out := make([]enforce.Refund, 0, len(r.Refunds))
	for _, x := range r.Refunds {
		cost, err := money.ParseDecimal(x.Cost)
		if err != nil || len(x.Cost) > wordMax || len(x.Customer) > wordMax || len(x.Route) > wordMax || len(x.Meter) > wordMax {
			return nil, fmt.Errorf("a refund's line is malformed: %w", store.ErrInvalid)
		}
		if x.Count < 1 || cost.Sign() < 0 || enforce.Reason(x.Reason).String() == "unknown" {
			return nil, fmt.Errorf("a refund's numbers are none: %w", store.ErrInvalid)
		}
		out = append(out, enforce.Refund{
			CustomerID: x.Customer, Route: x.Route, Meter: x.Meter, Reason: enforce.Reason(x.Reason), Day: time.UnixMicro(x.Day).UTC(), Refused: x.Refused,
			Count: x.Count, Cost: cost,
		})
	}
	return out, nil
}
