package enforce

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// counters are running totals since start.
type counters struct {
	admitted, settled, released, incomplete, recovered, writtenOff, conflicts, marksLost, nameless, voided, expired atomic.Int64
	byOutcome                                                                                                       [receipt.Outcomes]atomic.Int64
}

// Stats are running totals since start, and gauges of now.
type Stats struct {
	Admitted, DeniedRate, DeniedQuota, DeniedSpend, DeniedKey, DeniedSubscription, Unavailable int64
	Settled, Released, Incomplete, Recovered, WrittenOff, Conflicts, Draws, MarksLost          int64
	Nameless, Voided                                                                           int64 // leases that the spool could not account for: written off if the process is killed
	Held, Expired                                                                              int64 // explicit reservations that are open now, and that ended by their expiry
	DeniedConcurrency, DeniedCredits, DeniedEntitlement, DeniedAbnormal                        int64
	// Lessee: counters and leases.
	Lessee     lessee.Stats
	Open       int64 // requests reserved and not yet settled or released
	SpoolBytes int64 // kept in the spool
	SpoolLag   int64 // not yet shipped
}

// Stats reads them; each is exact, together they are of about one instant.
func (e *Enforcer) Stats() Stats {
	s, by := &e.stats, &e.stats.byOutcome
	e.ship.mu.Lock()
	next := e.ship.next
	e.ship.mu.Unlock()
	end, held := e.cfg.Spool.End(), e.lessee.Stats()
	return Stats{
		Admitted: s.admitted.Load(), DeniedRate: by[receipt.DeniedRate].Load(), DeniedQuota: by[receipt.DeniedQuota].Load(),
		DeniedSpend: by[receipt.DeniedSpend].Load(), DeniedKey: by[receipt.DeniedKey].Load(),
		DeniedSubscription: by[receipt.DeniedSubscription].Load(), Unavailable: by[receipt.Unavailable].Load(),
		Settled: s.settled.Load(), Released: s.released.Load(), Incomplete: s.incomplete.Load(), Recovered: s.recovered.Load(),
		WrittenOff: s.writtenOff.Load(), Conflicts: s.conflicts.Load(), Draws: held.Draws, MarksLost: s.marksLost.Load(),
		Nameless: s.nameless.Load(), Voided: s.voided.Load(), Held: int64(e.held.open()), Expired: s.expired.Load(),
		DeniedConcurrency: by[receipt.DeniedConcurrency].Load(), DeniedCredits: by[receipt.DeniedCredits].Load(),
		DeniedEntitlement: by[receipt.DeniedEntitlement].Load(), DeniedAbnormal: by[receipt.DeniedAbnormal].Load(), Lessee: held,
		Open: e.inflight.total(), SpoolBytes: end - e.cfg.Spool.Start(), SpoolLag: end - next,
	}
}

// Recent is one line of the recent-decisions list.
type Recent struct {
	DecisionID, CustomerID, Customer, Plan, Route, Limit, Code string
	Outcome                                                    receipt.Outcome
	Time                                                       time.Time
	Cost                                                       money.Decimal
}

// Rate counts one second's decisions.
type Rate struct {
	Second           int64 // since 1970, business time
	Admitted, Denied int64
}

const (
	recentKept = 1024
	ratesKept  = 128
)

// recent keeps the last decisions and the last seconds' rates, both bounded. mu owns all fields.
type recent struct {
	mu    sync.Mutex
	lines [recentKept]recentLine
	n     uint64
	rates [ratesKept]Rate
}

type recentLine struct {
	id, customerID, customer, plan, route, limit, code string
	outcome                                            receipt.Outcome
	micros, cost                                       int64
	scale                                              int
}

func (r *recent) add(a *Admission, rec *receipt.Receipt, limit string) {
	second := rec.Time / 1e6
	r.mu.Lock()
	r.lines[r.n%recentKept] = recentLine{
		a.DecisionID, rec.CustomerID, rec.Customer, rec.Plan, rec.Route, limit, a.Code, a.Outcome, rec.Time, rec.Cost, rec.Scale,
	}
	r.n++
	rate := &r.rates[second%ratesKept]
	if rate.Second != second {
		*rate = Rate{Second: second}
	}
	if a.Outcome == receipt.Allowed {
		rate.Admitted++
	} else {
		rate.Denied++
	}
	r.mu.Unlock()
}

// Recent lists the last decisions, newest first; customerID "" is all. At most 1024 are kept.
func (e *Enforcer) Recent(customerID string, n int) []Recent {
	r := &e.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Recent
	for i := r.n; i > 0 && r.n-i < recentKept && len(out) < n; i-- {
		l := &r.lines[(i-1)%recentKept]
		if customerID != "" && l.customerID != customerID {
			continue
		}
		out = append(out, Recent{
			DecisionID: l.id, CustomerID: l.customerID, Customer: l.customer, Plan: l.plan, Route: l.route, Limit: l.limit, Code: l.code,
			Outcome: l.outcome, Time: time.UnixMicro(l.micros).UTC(), Cost: money.FromScaled(l.cost, l.scale),
		})
	}
	return out
}

// Rates are the decisions of the last n whole seconds before now, oldest first; n is at most 127.
func (e *Enforcer) Rates(n int) []Rate {
	now := e.cfg.Now().Unix()
	n = min(n, ratesKept-1)
	out := make([]Rate, 0, n)
	r := &e.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := now - int64(n); s < now; s++ {
		rate := r.rates[((s%ratesKept)+ratesKept)%ratesKept]
		if rate.Second != s {
			rate = Rate{Second: s}
		}
		out = append(out, rate)
	}
	return out
}
