// Package recent keeps the last decisions and how many there were in each of the last seconds, both bounded.
package recent

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

const (
	kept      = 1024
	ratesKept = 128
	parts     = 8
	tail      = 8 // bytes
)

// Decision is what is kept of one.
type Decision struct {
	ID, CustomerID, Customer, Plan, Route, Limit, Code string
	Outcome                                            receipt.Outcome
	Micros, Cost                                       int64 // Cost in the meter's scale
	Scale                                              int
	Seq                                                uint64 // rises with each
}

// Line is a decision as it is listed.
type Line struct {
	DecisionID, CustomerID, Customer, Plan, Route, Limit, Code string
	Outcome                                                    receipt.Outcome
	Time                                                       time.Time
	Cost                                                       money.Decimal
}

// Rate counts one second's decisions.
type Rate struct {
	Second           int64 // since 1970, business time
	Admitted, Denied int64
}

// List has a part for some customers each, so that decisions about different ones do not wait for each other. The zero List is
// empty. It is safe for concurrent use.
type List struct{ parts [parts]part }

// part is one customer's, and some others'. mu owns all fields.
type part struct {
	mu    sync.Mutex
	lines [kept]Decision
	n     uint64
	rates [ratesKept]Rate
	_     [64]byte // no two parts in one cache line
}

// of tells customers apart by the end of their ids.
func (l *List) of(customerID string) *part {
	h := uint32(0)
	for i := max(0, len(customerID)-tail); i < len(customerID); i++ {
		h = h*31 + uint32(customerID[i])
	}
	return &l.parts[h%parts]
}

// Add puts a decision into the list, in place of an old one.
func (l *List) Add(d *Decision) {
	second := d.Micros / 1e6
	p := l.of(d.CustomerID)
	p.mu.Lock()
	p.lines[p.n%kept] = *d
	p.n++
	rate := &p.rates[((second%ratesKept)+ratesKept)%ratesKept]
	if rate.Second != second {
		*rate = Rate{Second: second}
	}
	if d.Outcome == receipt.Allowed {
		rate.Admitted++
	} else {
		rate.Denied++
	}
	p.mu.Unlock()
}

// Last lists the last decisions, newest first; customerID "" is all. At most 1024 are kept.
func (l *List) Last(customerID string, n int) []Line {
	n = max(0, min(n, kept))
	var found []Decision
	for i := range l.parts {
		p := &l.parts[i]
		if customerID != "" && p != l.of(customerID) {
			continue
		}
		p.mu.Lock()
		have := 0
		for k := p.n; k > 0 && p.n-k < kept && have < n; k-- {
			if d := &p.lines[(k-1)%kept]; customerID == "" || d.CustomerID == customerID {
				found = append(found, *d)
				have++
			}
		}
		p.mu.Unlock()
	}
	slices.SortFunc(found, func(a, b Decision) int { return cmp.Compare(b.Seq, a.Seq) })
	var out []Line
	for _, d := range found[:min(n, len(found))] {
		out = append(out, Line{
			DecisionID: d.ID, CustomerID: d.CustomerID, Customer: d.Customer, Plan: d.Plan, Route: d.Route, Limit: d.Limit, Code: d.Code,
			Outcome: d.Outcome, Time: time.UnixMicro(d.Micros).UTC(), Cost: money.FromScaled(d.Cost, d.Scale),
		})
	}
	return out
}

// Rates are the decisions of the last n whole seconds before now, oldest first; n is at most 127.
func (l *List) Rates(now int64, n int) []Rate {
	n = max(0, min(n, ratesKept-1))
	out := make([]Rate, n)
	for i := range out {
		out[i].Second = now - int64(n) + int64(i)
	}
	for i := range l.parts {
		p := &l.parts[i]
		p.mu.Lock()
		for k := range out {
			if r := p.rates[((out[k].Second%ratesKept)+ratesKept)%ratesKept]; r.Second == out[k].Second {
				out[k].Admitted += r.Admitted
				out[k].Denied += r.Denied
			}
		}
		p.mu.Unlock()
	}
	return out
}
