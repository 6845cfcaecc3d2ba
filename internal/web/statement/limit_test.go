package statement

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// TestLimitWords: how a limit looks in the list.
func TestLimitWords(t *testing.T) {
	t.Parallel()
	line := func(kind quota.Kind, mode quota.Mode, window, consumed, remaining, over string) Limit {
		return limitAt(enforce.LimitStatus{
			Meter: "api_calls", Kind: kind, Mode: mode, Window: window, Consumed: dec(consumed), Quota: dec("10"), Remaining: dec(remaining), Overage: dec(over),
			Bound: "0",
		}, "calls", time.Hour)
	}
	template := line(quota.Quota, quota.Hard, "day", "0", "0", "0")
	template.Template, template.Scope = true, "per user, route"
	template = limitOf(template.LimitStatus, "calls", time.Time{})
	loose := line(quota.Quota, quota.Hard, "day", "10", "0", "0")
	loose.Bound = "no bound (why)"
	for name, tt := range map[string]struct {
		l                              Limit
		tone, stand, when, left, bound string
	}{
		"shadow":      {line(quota.Quota, quota.Shadow, "day", "15", "0", "5"), Good, "", "today", "5 beyond the limit", "shadow: only watched, never refuses"},
		"soft passed": {line(quota.Quota, quota.Soft, "year", "15", "0", "5"), Notice, "passed", "this year", "5 beyond the limit", "soft: what is beyond is admitted and counted"},
		"soft near":   {line(quota.Quota, quota.Soft, "billing_period", "9", "1", "0"), Notice, "nearly used up", "this billing period", "1 left", "soft: what is beyond is admitted and counted"},
		"grace":       {line(quota.Quota, quota.Grace, "week", "10", "0", "0"), Notice, "in its grace", "this week", "0 left", "grace: a part more is admitted, then refused"},
		"rolling":     {line(quota.Rolling, quota.Hard, "rolling 90m", "10", "0", "0"), Bad, "used up", "in the last 90\u00a0min", "0 left", "hard, never passed"},
		"a week":      {line(quota.Rolling, quota.Hard, "rolling 7d", "1", "9", "0"), Good, "", "in the last 7\u00a0d", "9 left", "hard, never passed"},
		"seconds":     {line(quota.Fixed, quota.Hard, "fixed 90s", "10", "0", "0"), Good, "", "in this window of 90\u00a0s", "0 left", "hard, never passed"},
		"concurrency": {line(quota.Concurrency, quota.Hard, "concurrency", "10", "0", "0"), Good, "", "at once", "0 more may run", "hard, never passed"},
		"credits":     {line(quota.Credits, quota.Hard, "credits", "4", "6", "0"), Good, "", "since the first grant", "6 credits left", "hard, never passed"},
		"template":    {template, Good, "", "today", "0 left", "hard, never passed"},
		"not exact":   {loose, Bad, "used up", "today", "0 left", "hard, can be passed: no bound (why)"},
	} {
		l := tt.l
		if l.Tone != tt.tone || l.stand() != tt.stand || l.when() != tt.when || l.left() != tt.left || l.bound() != tt.bound {
			t.Errorf("%s: %q %q %q %q %q", name, l.Tone, l.stand(), l.when(), l.left(), l.bound())
		}
	}
	if got := template.scope(); got != "for each user and route" {
		t.Errorf("scope %q", got)
	}
}
