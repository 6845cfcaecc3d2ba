package catalog

// Outcome is how a request to an upstream ended, before anything of the answer was passed on.
type Outcome uint8

// The outcomes.
const (
	Answered    Outcome = iota // the upstream's headers are there, with a status
	Unreachable                // the upstream could not be reached, or broke off before its headers
	TimedOut                   // no headers in the route's time
	ClientGone                 // the client left before the headers
)

// Refunds says whether an outcome gives the cost back. status counts with Answered only. An upstream that cannot be reached did
// no work: that is always refunded. Statuses nil stands for 500 to 599, none at all for an empty list.
func (r Refund) Refunds(o Outcome, status int) bool {
	switch o {
	case Unreachable:
		return true
	case TimedOut:
		return r.Timeout
	case ClientGone:
		return r.ClientGone
	case Answered:
	}
	if r.Statuses == nil {
		return status >= 500 && status <= 599
	}
	for _, s := range r.Statuses {
		if status >= s.First && status <= s.Last {
			return true
		}
	}
	return false
}
