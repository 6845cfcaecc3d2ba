package enforce

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"math/bits"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

func (e *Enforcer) refuse(a *Admission, x *scratch, o receipt.Outcome, code, detail, fix string) {
	e.inflight.Leave(a.entry)
	rec := &x.receipt
	rec.Outcome, rec.ID = o, e.nextID()
	a.Outcome, a.Code, a.Detail, a.Fix = o, code, detail, fix
	a.DecisionID = e.seal(x, x.encode())
	e.stats.of(a).byOutcome[o].Add(1)
	limit := ""
	if rec.Deciding >= 0 && rec.Deciding < len(rec.Limits) {
		limit = rec.Limits[rec.Deciding].Key
	}
	e.note(a, rec, limit)
}

// denyKey says no more than the outcome: who asked is not known, or no longer welcome.
func (e *Enforcer) denyKey(a *Admission, x *scratch, fault account.KeyFault) {
	x.receipt.Time, x.receipt.Detail = e.cfg.Now().UnixMicro(), string(fault)
	detail, fix := "This key is not known here.", "Check the key for typing errors, or create a new one."
	switch fault {
	case account.FaultMissing:
		detail, fix = "The request carries no API key.", "Send it as \"Authorization: Bearer KEY\"."
	case account.FaultRevoked:
		detail, fix = "This key has been revoked.", "Use another key, or create a new one."
	case account.FaultExpired:
		detail, fix = "This key has expired.", "Create a new key."
	case account.FaultUnknown:
	}
	e.refuse(a, x, receipt.DeniedKey, string(fault), detail, fix)
}

// deny answers with the limit that clears last.
func (e *Enforcer) deny(ctx context.Context, a *Admission, x *scratch) {
	q, rec := &x.ask, &x.receipt
	d, s := &q.Decision, q.Set
	l := &s.Limits[d.Deciding]
	rec.WouldPassOn = e.lessee.WouldPassOn(ctx, q)
	if d.ClearsAt > 0 {
		rec.Limits[d.Deciding].ResetAt = d.ClearsAt
	}
	for v := d.Violated; v != 0; v &= v - 1 {
		a.Violated = append(a.Violated, s.Limits[bits.TrailingZeros64(v)].Key)
	}
	a.shape(&s.Rules[d.Deciding].Declared, d.ClearsAt, q.Now)
	whose := whoseText(s.Rules[d.Deciding].Declared.Per)
	outcome, code, detail, fix := receipt.DeniedQuota, "quota_exceeded", "", "Wait for the reset, or change to a plan with a higher quota."
	switch l.Kind {
	case quota.SpendCap:
		outcome, code, fix = receipt.DeniedSpend, "spend_cap_reached", "Raise the spend cap, or wait for the next billing period."
		detail = fmt.Sprintf("The spend cap %q is reached for this billing period.", l.Key)
		if s.Rules[d.Deciding].Declared.Credits {
			outcome, code, fix = receipt.DeniedCredits, "credits_exhausted", "Get more credits."
			detail = fmt.Sprintf("The credits in money of the limit %q are used up.", l.Key)
		}
	case quota.Credits:
		outcome, code, fix = receipt.DeniedCredits, "credits_exhausted", "Get more credits."
		detail = fmt.Sprintf("The credits of the limit %q are used up.", l.Key)
	case quota.TokenBucket:
		outcome, code, fix = receipt.DeniedRate, "rate_exceeded", "Slow down; wait as Retry-After says."
		detail = fmt.Sprintf("Too many requests at once for the limit %q%s.", l.Key, whose)
	case quota.Concurrency:
		outcome, code, fix = receipt.DeniedConcurrency, "concurrency_exceeded", "Let running requests end before you send more."
		detail = fmt.Sprintf("Too many requests run at the same time for the limit %q%s.", l.Key, whose)
	case quota.Quota:
		detail = fmt.Sprintf("The quota %q%s is used up for this %s.", l.Key, whose, strings.ReplaceAll(l.Window.String(), "_", " "))
	case quota.Fixed:
		detail = fmt.Sprintf("The quota %q%s is used up for this window of %s.", l.Key, whose, span(l.Length))
	case quota.Rolling:
		fix = "Wait as Retry-After says, until earlier use is out of the window, or change to a plan with a higher quota."
		detail = fmt.Sprintf("The quota %q%s is used up for the last %s.", l.Key, whose, span(l.Length))
	}
	e.refuse(a, x, outcome, code, detail, fix)
	if d.ClearsAt > 0 {
		a.RetryAfter = retryAfter(d.ClearsAt-q.Now, rec.KeyID)
	}
}

func span(micros int64) string { return catalog.FormatSpan(time.Duration(micros) * time.Microsecond) }

// whoseText says whose counter a limit uses: " of this key".
func whoseText(per []catalog.Scope) string {
	if len(per) == 0 {
		return ""
	}
	words := make([]string, len(per))
	for i, p := range per {
		words[i] = "this " + p.String()
	}
	return " of " + strings.Join(words, " and ")
}

const (
	jitterFrom = 10 // seconds: a shorter wait is told as it is
	jitterPart = 10 // up to a jitterPart-th is added
	jitterMax  = 30 // seconds, at most
)

// retryAfter is a wait in whole seconds, at least 1 and never shorter than it is. Each key is told a little more of its own where
// the wait is long, so that not all come back in the second of the reset.
func retryAfter(micros int64, key string) time.Duration {
	wait := max(1, seconds(micros))
	if wait > jitterFrom {
		h := fnv.New32a()
		_, _ = h.Write([]byte(key))
		wait += int64(h.Sum32()) % (min(wait/jitterPart, jitterMax) + 1)
	}
	return time.Duration(wait) * time.Second
}

func (e *Enforcer) unavailable(ctx context.Context, a *Admission, x *scratch, err error) {
	rec := &x.receipt
	code, detail := "unavailable", "The gateway cannot account for this request at the moment."
	fix, retry := "Try again; tell the API's owner if it lasts.", time.Second
	switch {
	case errors.Is(err, store.ErrFull):
		code, detail = "spool_full", "The gateway has no room left to account for more requests."
	case errors.Is(err, authority.ErrUnreachable):
		code, detail = "authority_unreachable", "The gateway cannot reach the quota authority, and this limit must not be passed without it."
		if s := x.ask.Set; s != nil && x.ask.Refused >= 0 {
			detail = fmt.Sprintf("The gateway cannot reach the quota authority, and the limit %q must not be passed without it.", s.Limits[x.ask.Refused].Key)
		}
	case errors.Is(err, lessee.ErrCost):
		code, detail = CostInvalid, "The cost of this request is not a quantity of the route's meter."
		fix, retry = "Send a number that is not negative, with no more decimals than the meter has.", 0
	}
	if second := rec.Time / 1e6; retry > 0 && e.loggedAt.Swap(second) != second { // one line a second: a full disk refuses thousands
		e.cfg.Log.ErrorContext(ctx, "requests refused, they could not be accounted for", slog.String("code", code), slog.Any("error", err))
	}
	rec.Limits, rec.Deciding = nil, -1
	a.Policies, a.Violated = nil, nil
	e.refuse(a, x, receipt.Unavailable, code, detail, fix)
	a.RetryAfter = retry
}

// CostInvalid is the code of a request whose own cost is none of the meter's: of an API call, 422.
const CostInvalid = "cost_invalid"

// describe writes the limits' before and after into the receipt. After a denial both are the same.
func (e *Enforcer) describe(x *scratch) {
	q, rec := &x.ask, &x.receipt
	d, s, spent := &q.Decision, q.Set, q.Cost
	rec.Deciding = -1
	if d.Verdict == quota.Deny {
		spent, rec.Deciding = 0, d.Deciding
	}
	rec.Limits = x.limits[:len(s.Limits)]
	for i := range s.Limits {
		l, st, out := &s.Limits[i], &q.States[i], &rec.Limits[i]
		*out = receipt.Limit{Key: l.Key, Kind: uint8(l.Kind), Meter: l.Meter, Scale: s.Scale, Violated: d.Violated&(1<<i) != 0}
		out.WindowStart, out.ResetAt = st.WindowStart, st.WindowEnd
		switch l.Kind {
		case quota.TokenBucket:
			remaining, resetAt := quota.Remaining(l, st, q.Now)
			out.Quota, out.After, out.WindowStart, out.ResetAt = l.Burst, l.Burst-remaining, 0, resetAt
			out.Before = max(0, out.After-spent)
		case quota.SpendCap:
			if s.Rules[i].Declared.Credits {
				out.Quota, out.After, out.Before, out.ResetAt = st.Ceiling, st.Consumed, st.Consumed-spent, 0
				continue
			}
			describeCap(out, s.Rules[i].Cap, s.Meter, st.Consumed, spent)
		case quota.Concurrency:
			out.Scale, out.Quota, out.After, out.WindowStart, out.ResetAt = 0, l.Quota, st.Consumed, 0, 0
			if out.Before = out.After; d.Verdict == quota.Allow {
				out.Before--
			}
		case quota.Credits:
			out.Quota, out.After, out.Before, out.WindowStart, out.ResetAt = st.Ceiling, st.Consumed, st.Consumed-spent, 0, 0
		case quota.Rolling:
			out.Quota, out.After = l.Quota, lessee.Used(l, st)
			out.Before = out.After - spent
			_, out.ResetAt = quota.Remaining(l, st, q.Now)
			out.WindowStart = q.Now - l.Length
		case quota.Quota, quota.Fixed:
			out.Quota, out.After, out.Before = l.Quota, st.Consumed, st.Consumed-spent
		}
	}
}

// describeCap puts money into a limit's share, in 10^-capScale of the currency, rounded up.
func describeCap(out *receipt.Limit, k *lessee.Cap, meterKey string, consumed, spent int64) {
	out.Scale = capScale
	out.Quota = scaled(k.Amount, capScale)
	if after, err := k.Charge(meterKey, consumed); err == nil {
		out.After = scaled(after, capScale)
	}
	out.Before = out.After
	if spent > 0 {
		if before, err := k.Charge(meterKey, consumed-spent); err == nil {
			out.Before = scaled(before, capScale)
		}
	}
}

// capScale is how many decimals of the currency a receipt keeps of spend.
const capScale = 6

// showPolicies fills the RateLimit fields. What has no window is left out (spend caps, credits, requests at once), and so is what
// is never enforced.
func (e *Enforcer) showPolicies(a *Admission, q *lessee.Question) {
	s := q.Set
	unit := lessee.Pow10(s.Scale)
	n := 0
	for i := range s.Limits {
		l, st := &s.Limits[i], &q.States[i]
		if l.Mode == quota.Shadow || n == MaxPolicies {
			continue
		}
		p := &a.policies[n]
		remaining, resetAt := quota.Remaining(l, st, q.Now)
		*p = Policy{Name: l.Key, Quota: l.Quota / unit, Remaining: remaining / unit, Reset: seconds(resetAt - q.Now)}
		switch l.Kind {
		case quota.TokenBucket:
			p.Quota, p.Window = l.Burst/unit, max(1, seconds(mulSat(l.Burst, l.Per)/l.Rate))
		case quota.Fixed, quota.Rolling:
			p.Window = seconds(l.Length)
		case quota.Quota:
			p.Window = (st.WindowEnd - st.WindowStart) / 1e6
		case quota.SpendCap, quota.Credits, quota.Concurrency:
			continue
		}
		n++
	}
	a.Policies = a.policies[:n]
}

// seconds rounds microseconds up.
func seconds(micros int64) int64 {
	if micros <= 0 {
		return 0
	}
	return (micros-1)/1e6 + 1
}

// addSat adds without wrapping; quantities are never negative here.
func addSat(a, b int64) int64 {
	if s := a + b; s >= a || b < 0 {
		return s
	}
	return math.MaxInt64
}

func mulSat(a, b int64) int64 {
	if a > 0 && b > (1<<62)/a {
		return 1 << 62
	}
	return a * b
}

// scaled rounds up to a scale and stops at MaxInt64.
func scaled(d money.Decimal, scale int) int64 { return lessee.Scaled(d, scale) }
