package wire

import (
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// Held is what became of a call about an explicit reservation.
type Held struct {
	Held   *enforce.Held `json:"held,omitempty"`
	Denied *Denied       `json:"denied,omitempty"`
	Fault  string        `json:"fault,omitempty"`
}

// Faults of such a call.
const (
	HeldUnknown = "unknown" // there is none of that id
	HeldEnded   = "ended"   // it has ended in another way
	HeldParts   = "parts"   // it was extended too often
	HeldNotYet  = "not_yet" // the gateway has not begun
)

// heldFaults are those that callers tell apart.
var heldFaults = map[string]error{ //nolint:gochecknoglobals // a table
	HeldUnknown: enforce.ErrReservationUnknown,
	HeldEnded:   enforce.ErrReservationEnded,
	HeldParts:   enforce.ErrReservationParts,
	HeldNotYet:  enforce.ErrReservationAway,
}

// HeldOf makes one; what is no error of that kind is returned.
func HeldOf(h *enforce.Held, denied *enforce.Admission, err error) (*Held, error) {
	out := &Held{Held: h, Denied: deniedOf(denied)}
	if err == nil {
		return out, nil
	}
	for name, known := range heldFaults {
		if errors.Is(err, known) {
			out.Fault = name
			return out, nil
		}
	}
	return nil, err
}

// Value is the way back.
func (h *Held) Value() (*enforce.Held, *enforce.Admission, error) {
	if h == nil {
		return nil, nil, invalid("the answer says nothing of the reservation")
	}
	var err error
	if h.Fault != "" {
		if err = heldFaults[h.Fault]; err == nil {
			err = invalid("%.20q is no fault of a reservation", h.Fault)
		}
	}
	return h.Held, h.Denied.value(), err
}

// Denied is what a caller is told of a refused extension: the fields of an enforce.Admission.
type Denied struct {
	Outcome    receipt.Outcome  `json:"outcome"`
	Code       string           `json:"code"`
	DecisionID string           `json:"decision_id"`
	Detail     string           `json:"detail"`
	Fix        string           `json:"fix"`
	Policies   []enforce.Policy `json:"policies,omitempty"`
	Violated   []string         `json:"violated,omitempty"`
	RetryAfter time.Duration    `json:"retry_after,omitempty"`
}

func deniedOf(a *enforce.Admission) *Denied {
	if a == nil || a.Allowed() {
		return nil
	}
	return &Denied{a.Outcome, a.Code, a.DecisionID, a.Detail, a.Fix, a.Policies, a.Violated, a.RetryAfter}
}

func (d *Denied) value() *enforce.Admission {
	if d == nil {
		return nil
	}
	return &enforce.Admission{
		Outcome: d.Outcome, Code: d.Code, DecisionID: d.DecisionID, Detail: d.Detail, Fix: d.Fix, Policies: d.Policies, Violated: d.Violated, RetryAfter: d.RetryAfter,
	}
}
