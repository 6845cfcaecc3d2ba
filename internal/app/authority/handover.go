package authority

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/app/authority/memory"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// A run of the authority is what knows of leases in memory. It ends with its process, unless that leaves its memory to the next one: a
// server that is restarted, or hands its lead over, does. Then the run goes on there, and gateways notice nothing.

// memoryAge is how old what was left may be. Older, it may be of a copy of the records that was restored.
const memoryAge = time.Minute

var errLeft = fmt.Errorf("%w: it is left to another process", ErrUnreachable)

// Run names the run. It stays the same in the next process where that goes on with it.
func (s *Service) Run() string { return s.run }

// Freeze ends the authority in this process, for good: calls that come later are answered ErrUnreachable, those that run end first.
// It returns what the next process needs to go on with the run, for its Config.Memory, which may be used once. An error, also when
// ctx ends before the calls do: nothing can be left, and the next process begins a run.
func (s *Service) Freeze(ctx context.Context) ([]byte, error) {
	if err := s.calls.Close(ctx); err != nil {
		return nil, fmt.Errorf("wait for calls about leases: %w", err)
	}
	if _, err := s.node(ctx, s.cfg.Local); err != nil { // which others there are
		return nil, err
	}
	s.mu.RLock()
	m := memory.Run{
		Name: s.run, At: s.cfg.Now().UnixMicro(), Started: s.started, Ahead: s.ahead.Load(), Stamped: s.stamped.Load(),
		Settles: s.settles, Foreign: s.foreign, Unsure: s.unsure,
	}
	s.mu.RUnlock()
	for _, c := range s.all() {
		if one := c.leave(m.At); len(one.Buckets)+len(one.Counters) > 0 {
			m.Customers = append(m.Customers, one)
		}
	}
	return memory.Encode(m)
}

// leave is what is only in memory of a customer.
func (c *customer) leave(now int64) memory.Customer {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := memory.Customer{ID: c.id}
	for key, b := range c.buckets {
		b.settle(now)
		m := memory.Bucket{Key: memory.KeyOf(key), Rate: b.rate, Per: b.per, Burst: b.burst, Debt: b.debt, Last: b.last}
		for i := range b.shares {
			sh := &b.shares[i]
			m.Shares = append(m.Shares, memory.Share{
				Node: sh.node, Epoch: sh.epoch, Rate: sh.rate, Per: sh.per, Burst: sh.burst, WasRate: sh.wasRate, WasBurst: sh.wasBurst,
				AddDebt: sh.addDebt, AddLast: sh.addLast, Pending: sh.pending, Stamp: sh.stamp, Answered: sh.answered, Lacked: sh.lacked, Told: sh.told, Seq: sh.seq,
			})
		}
		out.Buckets = append(out.Buckets, m)
	}
	for id, ctr := range c.counters {
		if id.durable() || !ctr.begun && len(ctr.leases) == 0 { // the records have it, or it counts nothing
			continue
		}
		m := memory.Counter{Key: memory.KeyOf(id.CounterKey), AtOnce: id.kind == quota.Concurrency, End: ctr.end, Counts: ctr.counts, Unleased: ctr.unleased, Begun: ctr.begun}
		for i := range ctr.leases {
			l := &ctr.leases[i]
			m.Leases = append(m.Leases, memory.Lease{
				Node: l.node, Epoch: l.epoch, Boot: l.boot, Charged: l.charged, Settled: l.settled, Closed: l.closed, Told: l.told, Seq: l.seq,
			})
		}
		out.Counters = append(out.Counters, m)
	}
	return out
}

// goOn takes up a run that another process left. What cannot be used is passed over, and a run begins.
func (s *Service) goOn(left []byte) {
	m, err := memory.Decode(left)
	now := s.cfg.Now().UnixMicro()
	if age := arith.Sub(now, m.At); err == nil && (age < 0 || age > memoryAge.Microseconds()) {
		err = fmt.Errorf("it is %v old", time.Duration(age)*time.Microsecond)
	}
	if err != nil {
		s.cfg.Log.Info("what the server before left of leases in memory is not used: rate limits and short windows wait for what may still be held", slog.Any("error", err))
		return
	}
	s.run, s.continued, s.started, s.foreign, s.unsure = m.Name, true, m.Started, m.Foreign, m.Unsure
	if wait := (validFor + RenewWithin).Microseconds(); m.Foreign && m.At < max(m.Settles, arith.Add(m.Started, wait)) {
		s.settles = arith.Add(now, wait) // nobody could tell which requests run while no process was there
	}
	s.ahead.Store(m.Ahead)
	s.stamped.Store(m.Stamped)
	for i := range m.Customers {
		c := newCustomer(m.Customers[i].ID)
		c.take(&m.Customers[i], s.cfg.Mono())
		s.customers[c.id] = c
	}
}

// take is the inverse of leave. The customer is nobody else's yet.
func (c *customer) take(m *memory.Customer, mono time.Duration) {
	for i := range m.Buckets {
		from := &m.Buckets[i]
		b := &bucket{rate: from.Rate, per: from.Per, burst: from.Burst, debt: from.Debt, last: from.Last, used: mono}
		for k := range from.Shares {
			sh := &from.Shares[k]
			b.shares = append(b.shares, share{
				node: sh.Node, epoch: sh.Epoch, rate: sh.Rate, per: sh.Per, burst: sh.Burst, wasRate: sh.WasRate, wasBurst: sh.WasBurst,
				addDebt: sh.AddDebt, addLast: sh.AddLast, pending: sh.Pending, stamp: sh.Stamp, answered: sh.Answered, lacked: sh.Lacked, told: sh.Told, seq: sh.Seq,
			})
		}
		c.buckets[from.Of(c.id)] = b
	}
	for i := range m.Counters {
		from := &m.Counters[i]
		kind := quota.Quota
		if from.AtOnce {
			kind = quota.Concurrency
		}
		ctr := &counter{id: counterID{from.Of(c.id), kind}, end: from.End, counts: from.Counts, unleased: from.Unleased, begun: from.Begun, used: mono}
		for k := range from.Leases {
			l := &from.Leases[k]
			ctr.leases = append(ctr.leases, lease{
				node: l.Node, epoch: l.Epoch, boot: l.Boot, charged: l.Charged, settled: l.Settled, closed: l.Closed, told: l.Told, seq: l.Seq,
			})
		}
		c.counters[ctr.id] = ctr
	}
}
