package statement

import (
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
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

// AllowanceOf reads it from the declared tiers: with several prices on a meter only what all of them give is free.
func AllowanceOf(prices []price.Price, used money.Decimal) Allowance {
	out := Allowance{Priced: len(prices) > 0, Everything: len(prices) > 0}
	for _, p := range prices {
		free, everything := freeOf(p)
		if !everything && (out.Everything || free.Cmp(out.Free) < 0) {
			out.Everything, out.Free = false, free
		}
	}
	if len(prices) == 1 {
		out.Next = nextOf(prices[0], used)
	}
	return out
}

func freeOf(p price.Price) (free money.Decimal, everything bool) {
	for _, t := range p.Tiers {
		if !t.UnitAmount.IsZero() || !t.FlatAmount.IsZero() {
			return free, false
		}
		if t.UpTo == nil {
			return free, true
		}
		free = *t.UpTo
	}
	return free, false
}

func nextOf(p price.Price, used money.Decimal) *money.Decimal {
	free, _ := freeOf(p)
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

// Limit is one limit of a customer's plan with its state now.
type Limit struct {
	enforce.LimitStatus
	Unit    string        // what it counts, in words; empty for money
	ResetIn time.Duration // until it is full again
	Tone    string
}

func limitOf(l enforce.LimitStatus, unit string, now time.Time) Limit {
	out := Limit{LimitStatus: l, Unit: unit, Tone: Good}
	if l.ResetsAt.After(now) && l.ResetsAt.Unix() > 0 {
		out.ResetIn = l.ResetsAt.Sub(now)
	}
	switch {
	case l.Kind == quota.TokenBucket: // refills by itself, sooner than one could act
	case l.Remaining.Sign() <= 0:
		out.Tone = Bad
	case near(l.Consumed, l.Quota):
		out.Tone = Notice
	}
	return out
}

// near is nine tenths or more.
func near(part, whole money.Decimal) bool {
	return whole.Sign() > 0 && ui.Share(part, whole, 10) >= 9
}

// quantity writes a figure of the limit, money as money.
func (l Limit) quantity(d money.Decimal) string {
	if l.Kind == quota.SpendCap {
		return ui.MoneyIn(d, l.Currency)
	}
	return ui.Count(d)
}

// when says over which time the limit counts.
func (l Limit) when() string {
	switch l.Window {
	case "hour":
		return "this hour"
	case "day":
		return "today"
	case "week":
		return "this week"
	case "month":
		return "this month"
	case "billing_period":
		return "this billing period"
	}
	return "at once"
}

// bound says how far the limit can be passed.
func (l Limit) bound() string {
	if l.Bound == "0" {
		return l.Enforcement + ", never passed"
	}
	return l.Enforcement + ", passed by at most " + l.Bound
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
	case tight != nil && tight.Tone == Bad && tight.Kind == quota.SpendCap:
		return Status{Bad, "Stopped", "the spend cap of " + tight.quantity(tight.Quota) + " is used up, priced requests are refused" + resets(tight.ResetIn)}
	case tight != nil && tight.Tone == Bad:
		return Status{Bad, "Stopped", tight.of() + ", further ones are refused" + resets(tight.ResetIn)}
	case tight != nil && tight.Tone == Notice && tight.Kind == quota.SpendCap:
		return Status{Notice, "Close to the spend cap", tight.quantity(tight.Consumed) + " of " + tight.quantity(tight.Quota) + " " + tight.when() + resets(tight.ResetIn)}
	case tight != nil && tight.Tone == Notice:
		return Status{Notice, "Close to the limit", tight.of() + resets(tight.ResetIn)}
	case free && s.Used.Cmp(s.Allowance.Free) > 0:
		return s.beyond()
	case free && near(s.Used, s.Allowance.Free):
		return Status{Notice, "Nearly all included used", s.included() + s.further() + resets(s.PeriodLeft)}
	case free:
		return Status{Good, "On track", s.included() + resets(s.PeriodLeft)}
	case tight != nil && tight.Kind == quota.Quota:
		return Status{Good, "On track", tight.of() + resets(tight.ResetIn)}
	case s.Meter:
		return Status{Good, "On track", strings.TrimSpace(ui.Count(s.Used)+" "+s.Unit) + " this billing period"}
	}
	return Status{Good, "On track", "this plan counts nothing"}
}

// tightest is the limit that says most: one that stops before one that is near before one with room; of equals the one
// that takes longest to clear when it stops, else the fullest. Token buckets clear by themselves and say nothing.
func (s State) tightest() *Limit {
	var best *Limit
	rank := func(l *Limit) int64 {
		switch l.Tone {
		case Bad:
			return 1<<40 + ui.Seconds(l.ResetIn)
		case Notice:
			return 1 << 20
		}
		return 0
	}
	for i := range s.Limits {
		l := &s.Limits[i]
		if l.Kind == quota.TokenBucket {
			continue
		}
		switch {
		case best == nil, rank(l) > rank(best):
			best = l
		case rank(l) == rank(best) && l.Tone != Bad && l.fullness() > best.fullness():
			best = l
		}
	}
	return best
}

func (l *Limit) fullness() int64 { return ui.Share(l.Consumed, l.Quota, 1000) }

// of is "93 of 100 api calls used today".
func (l *Limit) of() string {
	return ui.Count(l.Consumed) + " of " + ui.Count(l.Quota) + " " + l.Unit + " used " + l.when()
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
