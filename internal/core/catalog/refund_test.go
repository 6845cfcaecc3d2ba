package catalog

import "testing"

func TestRefunds(t *testing.T) {
	t.Parallel()
	chosen := Refund{Statuses: []StatusRange{{429, 429}, {502, 504}}}
	for _, c := range []struct {
		name   string
		refund Refund
		o      Outcome
		status int
		want   bool
	}{
		{"default 499", RefundDefault(), Answered, 499, false},
		{"default 500", RefundDefault(), Answered, 500, true},
		{"default 599", RefundDefault(), Answered, 599, true},
		{"default 600", RefundDefault(), Answered, 600, false},
		{"default unreachable", RefundDefault(), Unreachable, 0, true},
		{"default time-out", RefundDefault(), TimedOut, 0, true},
		{"default client gone", RefundDefault(), ClientGone, 0, true},
		{"nil is the default", Refund{}, Answered, 503, true},
		{"none at all", Refund{Statuses: []StatusRange{}}, Answered, 503, false},
		{"chosen first", chosen, Answered, 502, true},
		{"chosen last", chosen, Answered, 504, true},
		{"chosen one", chosen, Answered, 429, true},
		{"not chosen", chosen, Answered, 500, false},
		{"time-out off", chosen, TimedOut, 0, false},
		{"client gone off", chosen, ClientGone, 0, false},
		{"unreachable always", chosen, Unreachable, 0, true},
		{"the status is of no answer", chosen, TimedOut, 502, false},
	} {
		if got := c.refund.Refunds(c.o, c.status); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
