package enforce

import (
	"sync/atomic"

	"github.com/tallystick/tallystick/internal/app/enforce/inflight"
	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/app/enforce/recent"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// counters are running totals since start.
type counters struct {
	incomplete, recovered, writtenOff, conflicts, marksLost, nameless, voided, expired atomic.Int64
	hot                                                                                [inflight.Stripes]hot
}

// hot are those that every request counts.
type hot struct {
	admitted, settled, released, over atomic.Int64
	byOutcome                         [receipt.Outcomes]atomic.Int64
	_                                 [64]byte
}

// of are the totals in which an admission is counted.
func (c *counters) of(a *Admission) *hot { return &c.hot[a.entry.Stripe()] }

func (c *counters) sum(of func(*hot) *atomic.Int64) (n int64) {
	for i := range c.hot {
		n += of(&c.hot[i]).Load()
	}
	return n
}

// Stats are running totals since start, and gauges of now.
type Stats struct {
	Admitted, DeniedRate, DeniedQuota, DeniedSpend, DeniedKey, DeniedSubscription, Unavailable int64
	Settled, Released, Incomplete, Recovered, WrittenOff, Conflicts, Draws, MarksLost          int64
	Nameless, Voided                                                                           int64 // leases that the spool could not account for: written off if the process is killed
	Held, Expired                                                                              int64 // explicit reservations that are open now, and that ended by their expiry
	DeniedConcurrency, DeniedCredits, DeniedEntitlement, DeniedAbnormal, DeniedUnpaid          int64
	Over                                                                                       int64 // admitted although a soft, grace or shadow limit was passed
	// Lessee: counters and leases.
	Lessee     lessee.Stats
	Open       int64 // requests reserved and not yet settled or released
	SpoolBytes int64 // kept in the spool
	SpoolLag   int64 // not yet shipped
}

// Stats reads them; each is exact, together they are of about one instant. It waits for nothing: what it tells says that the process is
// alive.
func (e *Enforcer) Stats() Stats {
	s := &e.stats
	by := func(o receipt.Outcome) int64 { return s.sum(func(h *hot) *atomic.Int64 { return &h.byOutcome[o] }) }
	behind, end, held := e.ship.behind.Load(), e.cfg.Spool.End(), e.lessee.Stats()
	return Stats{
		Over:     s.sum(func(h *hot) *atomic.Int64 { return &h.over }),
		Admitted: s.sum(func(h *hot) *atomic.Int64 { return &h.admitted }), DeniedRate: by(receipt.DeniedRate), DeniedQuota: by(receipt.DeniedQuota),
		DeniedSpend: by(receipt.DeniedSpend), DeniedKey: by(receipt.DeniedKey),
		DeniedSubscription: by(receipt.DeniedSubscription), Unavailable: by(receipt.Unavailable),
		Settled: s.sum(func(h *hot) *atomic.Int64 { return &h.settled }), Released: s.sum(func(h *hot) *atomic.Int64 { return &h.released }), Incomplete: s.incomplete.Load(), Recovered: s.recovered.Load(),
		WrittenOff: s.writtenOff.Load(), Conflicts: s.conflicts.Load(), Draws: held.Draws, MarksLost: s.marksLost.Load(),
		Nameless: s.nameless.Load(), Voided: s.voided.Load(), Held: int64(e.held.open()), Expired: s.expired.Load(),
		DeniedConcurrency: by(receipt.DeniedConcurrency), DeniedCredits: by(receipt.DeniedCredits),
		DeniedEntitlement: by(receipt.DeniedEntitlement), DeniedAbnormal: by(receipt.DeniedAbnormal), DeniedUnpaid: by(receipt.DeniedUnpaid), Lessee: held,
		Open: e.inflight.Total(), SpoolBytes: end - e.cfg.Spool.Start(), SpoolLag: end - behind,
	}
}

// Recent is one line of the recent-decisions list.
type Recent = recent.Line

// Rate counts one second's decisions.
type Rate = recent.Rate

// note puts a decision into the list.
func (e *Enforcer) note(a *Admission, rec *receipt.Receipt, limit string) {
	e.recent.Add(&recent.Decision{
		ID: a.DecisionID, CustomerID: rec.CustomerID, Customer: rec.Customer, Plan: rec.Plan, Route: rec.Route, Limit: limit, Code: a.Code,
		Outcome: a.Outcome, Micros: rec.Time, Cost: rec.Cost, Scale: rec.Scale, Seq: rec.ID.Seq,
	})
}

// Recent lists the last decisions, newest first; customerID "" is all. At most 1024 are kept.
func (e *Enforcer) Recent(customerID string, n int) []Recent { return e.recent.Last(customerID, n) }

// Rates are the decisions of the last n whole seconds before now, oldest first; n is at most 127.
func (e *Enforcer) Rates(n int) []Rate { return e.recent.Rates(e.cfg.Now().Unix(), n) }
