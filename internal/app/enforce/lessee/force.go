package lessee

import (
	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// force turns a denial of what was used already into an allowance: it is counted beyond the limits, which are reported as passed.
// States that are not those of s are left to overdraw.
func (s *Set) force(q *Question, states []*quota.State) {
	d := &q.Decision
	if !q.Regardless || d.Verdict != quota.Deny {
		return
	}
	for i, st := range states {
		switch {
		case st != s.states[i]:
		case s.Limits[i].Kind == quota.Concurrency:
			st.Consumed = arith.Add(st.Consumed, 1)
		default:
			quota.Settle(s.Limits[i:i+1], states[i:i+1], 0, q.Cost, q.Now)
		}
	}
	*d = quota.Decision{Verdict: quota.Allow, Deciding: -1, Over: d.Over | d.Violated}
}
