package wire

import (
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
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
	HeldNotYet  = "not_yet" // the gateway has not begun, or is about to go
	HeldFull    = "full"    // its spool has no room
)

// heldFaults are those that callers tell apart.
var heldFaults = map[string]error{ //nolint:gochecknoglobals // a table
	HeldUnknown: enforce.ErrReservationUnknown,
	HeldEnded:   enforce.ErrReservationEnded,
	HeldParts:   enforce.ErrReservationParts,
	HeldNotYet:  enforce.ErrReservationAway,
	HeldFull:    store.ErrFull,
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

// Value is the way back, of a call about the reservation of that id.
func (h *Held) Value(id string) (*enforce.Held, *enforce.Admission, error) {
	switch {
	case h == nil, h.Held == nil && h.Fault == "", h.Held != nil && h.Held.ID != id:
		return nil, nil, invalid("the answer says nothing of the reservation")
	case h.Fault == "":
		return h.Held, h.Denied.value(), nil
	}
	err := heldFaults[h.Fault]
	if err == nil {
		err = invalid("%.20q is no fault of a reservation", h.Fault)
	}
	return h.Held, h.Denied.value(), err
}

// check says what no gateway of ours would answer: store.ErrInvalid.
func (h *Held) check() error {
	if h == nil {
		return nil
	}
	if v := h.Held; v != nil && (len(v.ID) > wordMax || len(v.CustomerID) > wordMax || len(v.Route) > scopeMax || len(v.Meter) > wordMax || v.State > enforce.HeldExpired) {
		return invalid("a reservation is malformed")
	}
	d := h.Denied
	if d == nil {
		return nil
	}
	if d.Outcome == receipt.Allowed || d.Outcome >= receipt.Outcomes || d.RetryAfter < 0 || len(d.Policies) > enforce.MaxPolicies || len(d.Violated) > limitsMax ||
		len(d.Code) > wordMax || len(d.DecisionID) > scopeMax || len(d.Detail) > scopeMax || len(d.Fix) > scopeMax {
		return invalid("a denial is malformed")
	}
	for _, key := range d.Violated {
		if len(key) > wordMax {
			return invalid("a denial is malformed")
		}
	}
	for i := range d.Policies {
		if len(d.Policies[i].Name) > wordMax {
			return invalid("a denial is malformed")
		}
	}
	return nil
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
