// Package baseline learns what is usual for a customer at each hour of the week, and flags use that is far above it. What a plan
// makes of it, the plan says: nothing but a notice, or a throttle until the hour is over.
package baseline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/forecast"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

const (
	weeks = 4 // that are looked back
	// floor is the use in an hour below which nothing is abnormal, in units of the meter.
	floor = 100
	// customersMax is how many customers one Tick looks at; the next one goes on behind them.
	customersMax = 1000
)

// Directory is what baselines need of accounts and catalog.
type Directory interface {
	Current() *catalog.Compiled
	Customers() []account.Customer // by key
	ActiveSubscription(customerID string, at time.Time) (account.Subscription, bool)
}

// Config of a Service; all fields are required.
type Config struct {
	Directory Directory
	// Usage is what a customer used of a meter in an interval on the 15-minute grid.
	Usage func(ctx context.Context, customerID, meterKey string, in period.Interval) (money.Decimal, error)
	Now   func() time.Time // business clock
	// Flag is told when a customer's use becomes abnormal, and when it is usual again.
	Flag func(customerID string, abnormal bool)
	Tell func(notify.Message)
}

// Service is safe for concurrent use.
type Service struct {
	cfg Config

	mu      sync.Mutex
	next    int                // index of the customer that the next Tick begins with
	usual   map[series]learned // of the present hour
	flagged map[string]string  // customer id: the meter that is abnormal
}

type series struct{ customerID, meter string }

// learned is what is usual in an hour.
type learned struct {
	hour  int64 // its start, seconds
	usual int64
	known bool
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Usage == nil || cfg.Now == nil || cfg.Flag == nil || cfg.Tell == nil {
		return nil, errors.New("baseline: incomplete configuration")
	}
	return &Service{cfg: cfg, usual: map[series]learned{}, flagged: map[string]string{}}, nil
}

// Tick looks at some customers whose plan has a baseline. more says that others wait.
func (s *Service) Tick(ctx context.Context) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	customers := s.cfg.Directory.Customers()
	if s.next >= len(customers) {
		s.next = 0
	}
	end := min(len(customers), s.next+customersMax)
	for _, c := range customers[s.next:end] {
		if err := s.look(ctx, c); err != nil {
			return false, fmt.Errorf("baseline of customer %s: %w", c.Key, err)
		}
	}
	if s.next = end; end >= len(customers) {
		s.next = 0
		return false, nil
	}
	return true, nil
}

// Abnormal lists the customers whose use is abnormal, with the meter.
func (s *Service) Abnormal() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.flagged)
}

// look compares one customer's present hour; mu is held.
func (s *Service) look(ctx context.Context, c account.Customer) error {
	now := s.cfg.Now()
	cat := s.cfg.Directory.Current()
	sub, ok := s.cfg.Directory.ActiveSubscription(c.ID, now)
	plan, known := cat.Plan(sub.Plan)
	if !ok || !known || plan.Baseline.Factor <= 0 {
		s.settle(c, "", now)
		return nil
	}
	for _, m := range cat.Meters {
		if !m.Aggregation.Additive() || !limited(plan, m.Key) {
			continue
		}
		abnormal, err := s.compare(ctx, c, sub, m, plan.Baseline.Factor, now)
		if err != nil {
			return err
		}
		if abnormal {
			s.settle(c, m.Key, now)
			return nil
		}
	}
	s.settle(c, "", now)
	return nil
}

// limited says whether the plan has anything to do with a meter.
func limited(p catalog.Plan, meterKey string) bool {
	for _, l := range p.Limits {
		if l.Meter == meterKey {
			return true
		}
	}
	return len(p.PricesOf(meterKey)) > 0
}

// hourOf is the hour around t on the customer's clock, so many weeks earlier by the calendar.
func hourOf(t time.Time, z period.Zone, weeksBack int) period.Interval {
	local := t.In(z.Location())
	start := time.Date(local.Year(), local.Month(), local.Day()-7*weeksBack, local.Hour(), 0, 0, 0, z.Location()).UTC()
	return period.Interval{Start: start, End: start.Add(time.Hour)}
}

func (s *Service) compare(ctx context.Context, c account.Customer, sub account.Subscription, m catalog.Meter, factor int64, now time.Time) (bool, error) {
	hour := hourOf(now, c.Zone, 0)
	usual, err := s.learn(ctx, c, sub, m, hour, now)
	if err != nil || !usual.known {
		return false, err
	}
	used, err := s.units(ctx, c, m, hour)
	if err != nil || !forecast.Abnormal(used, usual.usual, scaledFloor(m), factor) {
		return false, err
	}
	if s.flagged[c.ID] == "" {
		s.cfg.Tell(notify.Message{
			Kind: notify.UsageAbnormal, CustomerID: c.ID, Once: fmt.Sprintf("%s|%s|%s|%d", notify.UsageAbnormal, c.ID, m.Key, hour.Start.Unix()), At: now,
			Meter: m.Key, Consumed: money.FromScaled(used, m.Scale), Usual: money.FromScaled(usual.usual, m.Scale), WindowStart: hour.Start, WindowEnd: hour.End,
		})
	}
	return true, nil
}

func scaledFloor(m catalog.Meter) int64 {
	n := int64(floor)
	for range m.Scale {
		n *= 10
	}
	return n
}

// learn is what is usual in the hour; it is asked for once an hour.
func (s *Service) learn(ctx context.Context, c account.Customer, sub account.Subscription, m catalog.Meter, hour period.Interval, now time.Time) (learned, error) {
	k := series{c.ID, m.Key}
	if l, ok := s.usual[k]; ok && l.hour == hour.Start.Unix() {
		return l, nil
	}
	var history []int64
	for back := 1; back <= weeks; back++ {
		earlier := hourOf(now, c.Zone, back)
		if earlier.Start.Before(sub.Start) {
			break
		}
		n, err := s.units(ctx, c, m, earlier)
		if err != nil {
			return learned{}, err
		}
		history = append(history, n)
	}
	l := learned{hour: hour.Start.Unix()}
	l.usual, l.known = forecast.Usual(history)
	s.usual[k] = l
	return l, nil
}

func (s *Service) units(ctx context.Context, c account.Customer, m catalog.Meter, in period.Interval) (int64, error) {
	d, err := s.cfg.Usage(ctx, c.ID, m.Key, in)
	if err != nil {
		return 0, err
	}
	n, err := d.Scaled(m.Scale)
	if err != nil { // finer than the meter counts, or more than an int64 holds
		return d.Floor().Scaled(0)
	}
	return n, nil
}

// settle notes what a customer's use is; meterKey is what is abnormal, "" for nothing. mu is held.
func (s *Service) settle(c account.Customer, meterKey string, now time.Time) {
	was := s.flagged[c.ID]
	switch {
	case meterKey != "" && was == "":
		s.flagged[c.ID] = meterKey
		s.cfg.Flag(c.ID, true)
	case meterKey == "" && was != "":
		delete(s.flagged, c.ID)
		s.cfg.Flag(c.ID, false)
		s.cfg.Tell(notify.Message{
			Kind: notify.UsageNormal, CustomerID: c.ID, Once: fmt.Sprintf("%s|%s|%s|%d", notify.UsageNormal, c.ID, was, now.Unix()/3600), At: now, Meter: was,
		})
	}
}
