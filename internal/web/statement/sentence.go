package statement

import (
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// The tones of a status. A page never says with a colour what it does not say in words.
const (
	Good   = "good"
	Notice = "notice"
	Bad    = "bad"
)

// Status is one sentence about where a customer stands: Label, a colon, Text, a full stop.
type Status struct{ Tone, Label, Text string }

// String is the sentence.
func (s Status) String() string { return s.Label + ": " + s.Text + "." }

// Allowance is what the prices of a meter give for nothing at the start of each period.
type Allowance struct {
	Priced     bool           // some price charges the meter
	Free       money.Decimal  // the first so many cost nothing; 0 without such a band
	Everything bool           // all of it costs nothing
	Next       *money.Decimal // what the next unit costs; nil where that is nothing or not one figure
}

// AllowanceOf reads it from the declared prices: with several prices on a meter only what all of them give is free.
func AllowanceOf(prices []price.Price, used money.Decimal) Allowance {
	out := Allowance{Priced: len(prices) > 0, Everything: len(prices) > 0}
	for i := range prices {
		free, everything := freeOf(&prices[i])
		if !everything && (out.Everything || free.Cmp(out.Free) < 0) {
			out.Everything, out.Free = false, free
		}
	}
	if len(prices) == 1 {
		out.Next = nextOf(&prices[0], used)
	}
	return out
}

// freeOf is how much of the meter's usage a price gives for nothing first: what it includes, and what its model leaves free. A
// price of single events or of a part of the usage gives nothing that a quantity tells.
func freeOf(p *price.Price) (free money.Decimal, everything bool) {
	if len(p.Filter) > 0 {
		return free, false
	}
	free, everything = modelFree(p)
	if everything {
		return free, true
	}
	sum, err := free.Add(p.Included)
	if err != nil {
		return free, false
	}
	return sum, false
}

func modelFree(p *price.Price) (free money.Decimal, everything bool) {
	switch p.Model {
	case price.Unit:
		return free, p.UnitAmount.IsZero()
	case price.Package:
		return p.Free, p.Amount.IsZero()
	case price.Percentage:
		return free, p.Percent.IsZero() && p.Fixed.IsZero() && p.Min == nil
	case price.Graduated, price.Volume, price.Stairstep, price.GraduatedPercentage:
	case price.Flat, price.Dynamic, price.Matrix:
		return free, false
	}
	for i := range p.Tiers {
		t := &p.Tiers[i]
		if !t.UnitAmount.IsZero() || !t.FlatAmount.IsZero() || !t.Percent.IsZero() {
			break
		}
		if t.UpTo == nil {
			return money.Decimal{}, true
		}
		free = *t.UpTo
	}
	if p.Model == price.Volume { // above it all is charged, also what was free
		return money.Decimal{}, false
	}
	return free, false
}

// nextOf is what one more unit costs where that is one figure.
func nextOf(p *price.Price, used money.Decimal) *money.Decimal {
	if len(p.Filter) > 0 || p.MinimumSpend != nil || p.MaximumSpend != nil {
		return nil
	}
	switch {
	case p.Model == price.Unit && !p.UnitAmount.IsZero():
		return &p.UnitAmount
	case p.Model != price.Graduated:
		return nil
	}
	used, err := used.Sub(p.Included)
	if err != nil {
		return nil
	}
	free, _ := modelFree(p)
	for i, t := range p.Tiers {
		inside := t.UpTo == nil || t.UpTo.Cmp(used) > 0 && t.UpTo.Cmp(free) > 0
		if !inside {
			continue
		}
		if t.UnitAmount.IsZero() || !t.FlatAmount.IsZero() {
			return nil
		}
		return &p.Tiers[i].UnitAmount
	}
	return nil
}

// State is what Sentence is a function of. Sums of money are text already.
type State struct {
	HasPlan    bool
	Begins     time.Duration // until a subscription begins; 0: none is to come
	Meter      bool          // there is something counted
	Unit       string
	Used       money.Decimal
	Allowance  Allowance
	Limits     []Limit
	PeriodLeft time.Duration
	Cost       string // of Used so far
	Next       string // what the next unit costs; empty: not one figure
	Bill       string // so far; empty: the plan has no price
}

// Sentence derives the status honestly: what stops requests comes first, then what is about to, then what costs money,
// then what is included. It claims nothing about a bill that the plan's prices do not say.
func Sentence(s State) Status {
	if !s.HasPlan {
		if s.Begins > 0 {
			return Status{Notice, "No active plan", "requests are refused until the subscription begins in " + ui.Left(s.Begins)}
		}
		return Status{Bad, "No active plan", "requests are refused until a subscription begins"}
	}
	out := s.judge()
	if s.Bill != "" {
		out.Text += "; bill so far " + s.Bill
	}
	return out
}

func (s State) judge() Status {
	tight := s.tightest()
	free := s.Allowance.Priced && !s.Allowance.Everything && s.Allowance.Free.Sign() > 0
	switch {
	case tight != nil && tight.Tone == Bad:
		return tight.stopped()
	case tight != nil && tight.Tone == Notice:
		return tight.close()
	case free && s.Used.Cmp(s.Allowance.Free) > 0:
		return s.beyond()
	case free && near(s.Used, s.Allowance.Free):
		return Status{Notice, "Nearly all included used", s.included() + s.further() + resets(s.PeriodLeft)}
	case free:
		return Status{Good, "On track", s.included() + resets(s.PeriodLeft)}
	case tight != nil && tight.Kind != quota.SpendCap:
		return Status{Good, "On track", tight.of() + resets(tight.ResetIn)}
	case s.Meter:
		return Status{Good, "On track", strings.TrimSpace(ui.Count(s.Used)+" "+s.Unit) + " this billing period"}
	}
	return Status{Good, "On track", "this plan counts nothing"}
}

// stopped is the status where a limit refuses.
func (l *Limit) stopped() Status {
	switch l.Kind {
	case quota.SpendCap:
		return Status{Bad, "Stopped", "the spend cap of " + l.quantity(l.Quota) + " is used up, priced requests are refused" + resets(l.ResetIn)}
	case quota.Credits:
		return Status{Bad, "Stopped", "credits used up, requests that need " + l.Unit + " are refused until more are granted"}
	case quota.Rolling:
		return Status{Bad, l.stop(), l.of() + ", further ones are refused until earlier ones are longer ago"}
	case quota.Quota, quota.Fixed, quota.TokenBucket, quota.Concurrency:
	}
	return Status{Bad, l.stop(), l.of() + ", further ones are refused" + resets(l.ResetIn)}
}

// stop is how much a limit stops: one with a scope only a part.
func (l *Limit) stop() string {
	if l.Scope != "" {
		return "Partly stopped"
	}
	return "Stopped"
}

// close is the status where a limit is nearly used up, or passed and does not refuse.
func (l *Limit) close() Status {
	switch {
	case l.Mode == quota.Grace && l.Remaining.Sign() <= 0:
		return Status{Notice, "In the grace", l.of() + ", requests are refused soon" + resets(l.ResetIn)}
	case l.Mode == quota.Soft && l.Overage.Sign() > 0:
		return Status{Notice, "Beyond the limit", l.of() + ", further ones are still admitted" + resets(l.ResetIn)}
	case l.Kind == quota.SpendCap:
		return Status{Notice, "Close to the spend cap", l.quantity(l.Consumed) + " of " + l.quantity(l.Quota) + " " + l.when() + resets(l.ResetIn)}
	case l.Kind == quota.Credits:
		return Status{Notice, "Credits nearly used up", l.quantity(l.Remaining) + " of " + l.quantity(l.Quota) + " " + l.Unit + " left"}
	}
	return Status{Notice, "Close to the limit", l.of() + resets(l.ResetIn)}
}

// tightest is the limit that says most: one that stops before one that is near before one with room; of equals the one
// that takes longest to clear when it stops, else the fullest. What clears by itself says nothing, and neither does what is never
// enforced, or is counted for each of many.
func (s State) tightest() *Limit {
	var best *Limit
	for i := range s.Limits {
		l := &s.Limits[i]
		if l.brief() || l.Template || l.Mode == quota.Shadow {
			continue
		}
		switch {
		case best == nil, l.rank() > best.rank():
			best = l
		case l.rank() == best.rank() && l.Tone != Bad && l.fullness() > best.fullness():
			best = l
		}
	}
	return best
}

// rank is how much a limit says. One that stops only a part stands behind one that stops all.
func (l *Limit) rank() int64 {
	const part, all, near, passed = 1 << 39, 1 << 40, 1 << 20, 1 << 19
	switch {
	case l.Tone == Bad && l.Scope != "":
		return part + ui.Seconds(l.ResetIn)
	case l.Tone == Bad && l.Kind == quota.Credits: // they never come back by themselves
		return all + part
	case l.Tone == Bad:
		return all + ui.Seconds(l.ResetIn)
	case l.Tone == Notice && l.Mode == quota.Soft:
		return passed
	case l.Tone == Notice:
		return near
	}
	return 0
}

func (l *Limit) fullness() int64 { return ui.Share(l.Consumed, l.Quota, 1000) }

// of is "93 of 100 api calls used today".
func (l *Limit) of() string {
	text := ui.Count(l.Consumed) + " of " + ui.Count(l.Quota) + " " + l.Unit + " used"
	if l.Kind != quota.Credits {
		text += " " + l.when()
	}
	if scope := l.scope(); scope != "" {
		text += " " + scope
	}
	return text
}

func (s State) included() string {
	return ui.Count(s.Used) + " of " + ui.Count(s.Allowance.Free) + " included " + s.Unit
}

func (s State) beyond() Status {
	over, err := s.Used.Sub(s.Allowance.Free)
	if err != nil {
		return Status{Notice, "Beyond the included", s.included() + resets(s.PeriodLeft)}
	}
	text := ui.Count(over) + " " + s.Unit + " more than the " + ui.Count(s.Allowance.Free) + " included"
	if s.Cost != "" {
		text += ", for " + s.Cost + " so far"
	}
	return Status{Notice, "Beyond the included", text + s.further() + resets(s.PeriodLeft)}
}

func (s State) further() string {
	if s.Next == "" {
		return ""
	}
	return ", each further one " + s.Next
}

func resets(in time.Duration) string {
	if in <= 0 {
		return ""
	}
	return ", resets in " + ui.Left(in)
}
