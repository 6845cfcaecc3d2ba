package quota

// Return gives back a cost, or the part of it, that was reserved and not used. reserved is the instant Decide was
// called with. A window that does not hold that instant has been rolled since and keeps its count. Requests at once are given
// back by End.
//
// A bucket takes back only what it has not refilled by itself since then, at the rate of the whole bucket. More would admit
// twice: the place of a request that ran for a while has been given to others already. A Soft or Shadow bucket takes back what it was
// not charged, too: it then reports too little.
func Return(limits []Limit, states []*State, cost, reserved int64) {
	if cost <= 0 {
		return
	}
	states = states[:len(limits)]
	for i := range limits {
		l, s := &limits[i], states[i]
		switch {
		case l.Kind == TokenBucket:
			s.Debt = max(0, s.Debt-l.unfilled(s, cost, reserved))
		case l.Kind != Concurrency && l.covers(s, reserved):
			s.Consumed = max(0, s.Consumed-cost)
		}
	}
}

// unfilled is the part of a cost that the bucket has not refilled by itself since an instant, in the state's unit of debt.
func (l *Limit) unfilled(s *State, cost, since int64) int64 {
	weight, ok := product(cost, l.Per)
	if !ok || l.Per <= 0 {
		return 0
	}
	left := drain(weight, l.Rate, since, s.Last)
	if s.Per > 0 {
		left = scale(left, s.Per, l.Per)
	}
	return left
}

// Settle replaces what was reserved by what it came to. reserved and actual are in the meter's scale; at is the instant Decide was
// called with. Less is given back as by Return. More goes through: it is counted, beyond leases and ceilings too, and
// returned as overshoot. A window that does not hold the instant has been rolled since and keeps its count; a bucket owes the
// overshoot from its last charge on. Requests at once are given back by End.
func Settle(limits []Limit, states []*State, reserved, actual, at int64) (overshoot int64) {
	reserved, actual = max(0, reserved), max(0, actual)
	if actual <= reserved {
		Return(limits, states, reserved-actual, at)
		return 0
	}
	overshoot = actual - reserved
	states = states[:len(limits)]
	for i := range limits {
		l, s := &limits[i], states[i]
		switch {
		case l.Kind == TokenBucket:
			_, per, _ := l.share(s)
			s.Debt = add(max(0, s.Debt), size(overshoot, per))
		case l.Kind != Concurrency && l.covers(s, at):
			s.Consumed = add(s.Consumed, overshoot)
		}
	}
	return overshoot
}

// End gives back the places of a request that has ended, settled or released. It is called once for each that was admitted.
func End(limits []Limit, states []*State) {
	states = states[:len(limits)]
	for i := range limits {
		if s := states[i]; limits[i].Kind == Concurrency {
			s.Consumed = max(0, s.Consumed-1)
		}
	}
}
