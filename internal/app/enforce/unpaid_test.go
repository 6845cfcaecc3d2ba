package enforce

import (
	"testing"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// TestUnpaid: a suspended customer is refused whatever is left, and served again at once when it is lifted.
func TestUnpaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "10", period.Day))
	unpaid := func(on bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.unpaid = on
	}
	unpaid(true)
	if a := w.admit(); a.Outcome != receipt.DeniedUnpaid || a.Code != "unpaid" || a.RetryAfter != 0 || a.DecisionID == "" {
		t.Errorf("%v %s, again after %s, %q", a.Outcome, a.Code, a.RetryAfter, a.DecisionID)
	}
	unpaid(false)
	if n := w.calls(1); n != 1 {
		t.Error("still refused")
	}
}
