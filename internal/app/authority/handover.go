package authority

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// A run of the authority is what knows of leases in memory. It ends with its process, unless that leaves its memory to the next one: a
// server that is restarted, or hands its lead over, does. Then the run goes on there, and gateways notice nothing.

const (
	memoryFormat = 1
	// MemoryMax bounds what a run may leave, in bytes. More than that is not left: the next process begins a run.
	MemoryMax = 32 << 20
	// memoryAge is how old what was left may be. Older, it may be of a copy of the records that was restored.
	memoryAge = time.Minute
)

// calls are those that run. mu guards all fields.
type calls struct {
	mu      sync.Mutex
	frozen  bool
	running int
	idle    chan struct{} // closed when none runs; nil: nobody waits
}

func (c *calls) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen {
		return fmt.Errorf("%w: it is handed over", ErrUnreachable)
	}
	c.running++
	return nil
}

func (c *calls) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running--; c.running == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// freeze lets none in any more and waits for those that run.
func (c *calls) freeze(ctx context.Context) error {
	c.mu.Lock()
	c.frozen = true
	if c.running == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// memory is what a run leaves to the next process: JSON. Instants are microseconds of business time.
type memory struct {
	Format    int              `json:"format"`
	Run       string           `json:"run"`
	At        int64            `json:"at"`
	Started   int64            `json:"started"`
	Ahead     int64            `json:"ahead"`
	Stamped   int64            `json:"stamped"`
	Settles   int64            `json:"settles,omitempty"`
	Foreign   bool             `json:"foreign,omitempty"`
	Unsure    bool             `json:"unsure,omitempty"`
	Customers []customerMemory `json:"customers"`
}

type customerMemory struct {
	ID       string          `json:"id"`
	Buckets  []bucketMemory  `json:"buckets,omitempty"`
	Counters []counterMemory `json:"counters,omitempty"`
}

// keyMemory is a store.CounterKey without its customer; what lives in memory has no calendar window.
type keyMemory struct {
	Meter  string `json:"meter"`
	Scope  string `json:"scope,omitempty"`
	Length int64  `json:"length,omitempty"`
	Start  int64  `json:"start,omitempty"`
}

func keyOf(k store.CounterKey) keyMemory { return keyMemory{k.Meter, k.Scope, k.Length, k.Start} }

func (k keyMemory) of(customerID string) store.CounterKey {
	return store.CounterKey{CustomerID: customerID, Meter: k.Meter, Scope: k.Scope, Length: k.Length, Start: k.Start}
}

type bucketMemory struct {
	keyMemory
	Rate   int64         `json:"rate"`
	Per    int64         `json:"per"`
	Burst  int64         `json:"burst"`
	Debt   int64         `json:"debt"`
	Last   int64         `json:"last"`
	Shares []shareMemory `json:"shares,omitempty"`
}

type shareMemory struct {
	Node     uint16 `json:"node"`
	Epoch    uint32 `json:"epoch"`
	Rate     int64  `json:"rate"`
	Per      int64  `json:"per"`
	Burst    int64  `json:"burst"`
	WasRate  int64  `json:"was_rate"`
	WasBurst int64  `json:"was_burst"`
	AddDebt  int64  `json:"add_debt"`
	AddLast  int64  `json:"add_last"`
	Pending  bool   `json:"pending,omitempty"`
	Stamp    uint64 `json:"stamp"`
	Answered uint64 `json:"answered"`
	Lacked   bool   `json:"lacked,omitempty"`
	Told     uint64 `json:"told"`
	Seq      uint64 `json:"seq"`
}

type counterMemory struct {
	keyMemory
	AtOnce   bool          `json:"at_once,omitempty"`
	End      int64         `json:"end"`
	Counts   int64         `json:"counts,omitempty"`
	Unleased int64         `json:"unleased,omitempty"`
	Begun    bool          `json:"begun,omitempty"`
	Leases   []leaseMemory `json:"leases,omitempty"`
}

type leaseMemory struct {
	Node    uint16 `json:"node"`
	Epoch   uint32 `json:"epoch"`
	Boot    string `json:"boot"`
	Charged int64  `json:"charged"`
	Settled int64  `json:"settled"`
	Closed  bool   `json:"closed,omitempty"`
	Told    int64  `json:"told"`
	Seq     uint64 `json:"seq"`
}

// Run names the run. It stays the same in the next process where that goes on with it.
func (s *Service) Run() string { return s.run }

// Freeze ends the authority in this process, for good: calls that come later are answered ErrUnreachable, those that run end first.
// It returns what the next process needs to go on with the run, for its Config.Memory, which may be used once. An error, also when
// ctx ends before the calls do: nothing can be left, and the next process begins a run.
func (s *Service) Freeze(ctx context.Context) ([]byte, error) {
	if err := s.calls.freeze(ctx); err != nil {
		return nil, fmt.Errorf("wait for calls about leases: %w", err)
	}
	if _, err := s.node(ctx, s.cfg.Local); err != nil { // which others there are
		return nil, err
	}
	s.mu.RLock()
	m := memory{
		Format: memoryFormat, Run: s.run, At: s.cfg.Now().UnixMicro(), Started: s.started, Ahead: s.ahead.Load(), Stamped: s.stamped.Load(),
		Settles: s.settles, Foreign: s.foreign, Unsure: s.unsure,
	}
	s.mu.RUnlock()
	size := 0
	for _, c := range s.all() {
		one, err := c.leave(m.At)
		if err != nil {
			return nil, err
		}
		if one == nil {
			continue
		}
		b, err := json.Marshal(one)
		if err != nil {
			return nil, fmt.Errorf("leave leases in memory: %w", err)
		}
		if size += len(b); size > MemoryMax {
			return nil, fmt.Errorf("leave leases in memory: they take more than %d bytes", MemoryMax)
		}
		m.Customers = append(m.Customers, *one)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("leave leases in memory: %w", err)
	}
	return b, nil
}

// leave is what is only in memory of a customer; nil: nothing.
func (c *customer) leave(now int64) (*customerMemory, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := customerMemory{ID: c.id}
	for key, b := range c.buckets {
		b.settle(now)
		m := bucketMemory{keyMemory: keyOf(key), Rate: b.rate, Per: b.per, Burst: b.burst, Debt: b.debt, Last: b.last}
		for i := range b.shares {
			sh := &b.shares[i]
			m.Shares = append(m.Shares, shareMemory{
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
		m := counterMemory{keyMemory: keyOf(id.CounterKey), AtOnce: id.kind == quota.Concurrency, End: ctr.end, Counts: ctr.counts, Unleased: ctr.unleased, Begun: ctr.begun}
		for i := range ctr.leases {
			l := &ctr.leases[i]
			m.Leases = append(m.Leases, leaseMemory{
				Node: l.node, Epoch: l.epoch, Boot: l.boot, Charged: l.charged, Settled: l.settled, Closed: l.closed, Told: l.told, Seq: l.seq,
			})
		}
		out.Counters = append(out.Counters, m)
	}
	if len(out.Buckets)+len(out.Counters) == 0 {
		return nil, nil
	}
	return &out, nil
}

// goOn takes up a run that another process left. What cannot be used is passed over, and a run begins.
func (s *Service) goOn(left []byte) {
	var m memory
	err := json.Unmarshal(left, &m)
	now := s.cfg.Now().UnixMicro()
	switch age := arith.Sub(now, m.At); {
	case err != nil || m.Format != memoryFormat || m.Run == "":
		err = errors.Join(err, errors.New("it is not of this release"))
	case age < 0 || age > memoryAge.Microseconds():
		err = fmt.Errorf("it is %v old", time.Duration(age)*time.Microsecond)
	}
	if err != nil {
		s.cfg.Log.Info("what the server before left of leases in memory is not used: rate limits and short windows wait for what may still be held", slog.Any("error", err))
		return
	}
	s.run, s.continued, s.started, s.foreign, s.unsure = m.Run, true, m.Started, m.Foreign, m.Unsure
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
func (c *customer) take(m *customerMemory, mono time.Duration) {
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
		c.buckets[from.of(c.id)] = b
	}
	for i := range m.Counters {
		from := &m.Counters[i]
		kind := quota.Quota
		if from.AtOnce {
			kind = quota.Concurrency
		}
		ctr := &counter{id: counterID{from.of(c.id), kind}, end: from.End, counts: from.Counts, unleased: from.Unleased, begun: from.Begun, used: mono}
		for k := range from.Leases {
			l := &from.Leases[k]
			ctr.leases = append(ctr.leases, lease{
				node: l.Node, epoch: l.Epoch, boot: l.Boot, charged: l.Charged, settled: l.Settled, closed: l.Closed, told: l.Told, seq: l.Seq,
			})
		}
		c.counters[ctr.id] = ctr
	}
}
