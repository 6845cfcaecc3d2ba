package calc

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Bounds of a burn.
const (
	grantsMax   = 1_000
	usageMax    = 10_000
	resetsMax   = 1_000
	priorityMax = 1_000_000
)

// burnt is the answer of burn.
type burnt struct {
	Balances map[string]string `json:"balances"`
	Overage  string            `json:"overage"`
	Usage    string            `json:"usage"`
}

// burn pays usage with grants, by ledger.Burn. Times of recurrences are those of UTC.
func burn(in *object) (any, *Fault) {
	start, until := in.time("start"), in.maybeTime("until")
	grants, uses, resets := in.grants(start), in.uses(), in.resets()
	if !until.IsZero() && until.Before(start) {
		in.fail("until", "it is before the start")
	}
	if fault := in.done(); fault != nil {
		return nil, fault
	}
	out, err := ledger.Burn(start, grants, uses, resets, until)
	if err != nil {
		return nil, faulty(err)
	}
	p := printer{}
	answer := burnt{Balances: make(map[string]string, len(out.Balances))}
	for id, balance := range out.Balances {
		answer.Balances[id], _ = p.exact(balance)
	}
	answer.Overage, _ = p.exact(out.Overage)
	answer.Usage, _ = p.exact(out.Usage)
	return answer, nil
}

// grants reads the grants. One that says no effective_at is effective from start on.
func (o *object) grants(start time.Time) (list []ledger.Grant) {
	ids := map[string]bool{}
	o.each("grants", grantsMax, func(_ int, in *object) {
		g := ledger.Grant{
			ID: in.text("id"), Amount: in.positive("amount"), EffectiveAt: start,
			ExpiresAt: in.maybeTime("expires_at"), VoidedAt: in.maybeTime("voided_at"),
			MinRollover: in.maybePositive("min_rollover"), MaxRollover: in.maybePositive("max_rollover"),
		}
		if in.has("priority") {
			g.Priority = in.whole("priority", -priorityMax, priorityMax)
		}
		if in.has("effective_at") {
			g.EffectiveAt = in.time("effective_at")
		}
		if in.has("recurs") {
			recurs := in.object("recurs")
			every, err := period.ParseEvery(recurs.text("every"))
			if err != nil {
				recurs.fail("every", `expected day, week, month, quarter, year or a multiple such as "2 weeks"`)
			}
			g.Every, g.Anchor = &every, g.EffectiveAt
			if recurs.has("anchor") {
				g.Anchor = recurs.time("anchor")
			}
			recurs.done()
		}
		switch {
		case g.ID == "" || ids[g.ID]:
			in.fail("id", "expected a name that no other grant has")
		case !g.ExpiresAt.IsZero() && !g.EffectiveAt.Before(g.ExpiresAt):
			in.fail("expires_at", "it is not after effective_at")
		}
		ids[g.ID] = true
		list = append(list, g)
	})
	return list
}

func (o *object) uses() (list []ledger.Use) {
	o.each("usage", usageMax, func(_ int, in *object) {
		list = append(list, ledger.Use{At: in.time("at"), Quantity: in.positive("quantity").Rational()})
	})
	return list
}

func (o *object) resets() (list []ledger.Reset) {
	seen := map[time.Time]bool{}
	o.each("resets", resetsMax, func(_ int, in *object) {
		r := ledger.Reset{At: in.time("at"), PreserveOverage: in.maybeBool("preserve_overage")}
		if seen[r.At] {
			in.fail("at", "another reset is at the same time")
		}
		seen[r.At] = true
		list = append(list, r)
	})
	return list
}
