package usage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// plan is a question that was checked, with what it left out filled in.
type plan struct {
	Query
	meter      catalog.Meter
	zone       period.Zone
	named      []account.Customer // none: all
	byCustomer bool
	dimensions []string // GroupBy without the customer
	now        time.Time
	position   uint64 // of the first page; zero: this is it
	offset     int    // items before this page
}

// level says that the meter is one, whose value is divided by the length of the time measured.
func (p *plan) level() bool { return p.meter.Aggregation == meter.TimeWeighted }

// plain says that rollups add up to the answer.
func (p *plan) plain() bool {
	return p.meter.Aggregation.Additive() && len(p.dimensions) == 0 && len(p.Where) == 0
}

// tiledMax is the longest time that is tiled; of a longer one, those windows are looked for that hold usage.
const tiledMax = 3 * 366 * 24 * time.Hour

// tiled says that the windows are best asked for one by one, which copies no bucket: they are long, and none is left out.
func (p *plan) tiled() bool {
	return p.plain() && p.Window >= Day && p.Window <= Month && !p.In.Start.IsZero() && !p.In.End.IsZero() && p.In.End.Sub(p.In.Start) < tiledMax
}

// summed says that the windows add up to the whole, so that one series need not be read twice.
func (p *plan) summed() bool { return p.tiled() && len(p.named) == 1 }

func (s *Service) plan(ctx context.Context, q Query) (*plan, error) {
	p := &plan{Query: q, now: period.Truncate(s.cfg.Now())}
	if len(q.Customers) > MaxCustomers {
		return nil, &Invalid{"/customer", fmt.Sprintf("at most %d customers may be named", MaxCustomers), "name fewer, or none for all"}
	}
	for _, ref := range q.Customers {
		c, ok := s.cfg.Directory.Customer(ref)
		if !ok {
			return nil, fmt.Errorf("there is no customer %q, `tally customers list` shows all: %w", ref, account.ErrNotFound)
		}
		if !slices.ContainsFunc(p.named, func(o account.Customer) bool { return o.ID == c.ID }) {
			p.named = append(p.named, c)
		}
	}
	var err error
	if p.meter, err = s.meterOf(ctx, q.Meter, p.named); err != nil {
		return nil, err
	}
	for _, check := range []func(*plan) error{groups, conditions, bounds, s.zone, s.span} {
		if err := check(p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// meterOf finds a meter in the catalog, or what a meter that the catalog has no more was when it last counted.
func (s *Service) meterOf(ctx context.Context, key string, named []account.Customer) (catalog.Meter, error) {
	current := s.cfg.Directory.Current()
	if m, ok := current.Meter(key); ok {
		return m, nil
	}
	var old store.SeriesKey
	err := s.cfg.Journal.View(ctx, func(v store.View) error {
		for _, x := range v.Series() {
			if x.Meter == key && (len(named) == 0 || slices.ContainsFunc(named, func(c account.Customer) bool { return c.ID == x.CustomerID })) {
				old = x.SeriesKey
				break
			}
		}
		return nil
	})
	if err != nil {
		return catalog.Meter{}, fmt.Errorf("look for meter %q: %w", key, err)
	}
	if old == (store.SeriesKey{}) {
		return catalog.Meter{}, noMeter(current, key)
	}
	page, err := s.cfg.Journal.Scan(ctx, store.Scan{SeriesKey: old, NewestFirst: true, Limit: 1})
	if err != nil {
		return catalog.Meter{}, fmt.Errorf("look for meter %q: %w", key, err)
	}
	for _, r := range page.Records {
		for _, res := range r.Resolutions {
			if res.Meter != key {
				continue
			}
			c, err := s.cfg.Directory.Version(ctx, res.CatalogVersion)
			if err != nil {
				return catalog.Meter{}, fmt.Errorf("look for meter %q: %w", key, err)
			}
			if m, ok := c.Meter(key); ok {
				return m, nil
			}
		}
	}
	return catalog.Meter{Key: key, Aggregation: meter.Sum}, nil // all its events are voided
}

func noMeter(c *catalog.Compiled, key string) error {
	names := make([]string, 0, len(c.Meters))
	for _, m := range c.Meters {
		names = append(names, m.Key)
	}
	if near := catalog.Suggest(key, names); near != "" {
		return fmt.Errorf("there is no such meter, did you mean %q: %w", near, account.ErrNotFound)
	}
	return fmt.Errorf("there is no such meter, the catalog has %q: %w", names, account.ErrNotFound)
}

// groups checks what is grouped by.
func groups(p *plan) error {
	for i, name := range p.GroupBy {
		switch {
		case slices.Contains(p.GroupBy[:i], name):
			return &Invalid{"/group_by", "must name each group once", "leave the second one out"}
		case name == CustomerGroup:
			p.byCustomer = true
		default:
			if err := dimension(p, "/group_by", name); err != nil {
				return err
			}
			p.dimensions = append(p.dimensions, name)
		}
	}
	if len(p.dimensions) > MaxNames {
		return &Invalid{"/group_by", fmt.Sprintf("at most %d dimensions", MaxNames), "group by fewer"}
	}
	// What several customers have distinct or latest does not follow from what each has.
	if a := p.meter.Aggregation; len(p.named) != 1 && !p.byCustomer && (a == meter.Unique || a == meter.Latest) {
		return &Invalid{"/group_by", "must have customer: this meter's values of several customers do not add up", "add group_by=customer, or name one customer"}
	}
	return nil
}

// dimension checks that the meter has it.
func dimension(p *plan, pointer, name string) error {
	if slices.Contains(p.meter.Dimensions, name) {
		return nil
	}
	fix := fmt.Sprintf("the meter has none; give it dimensions in the catalog: {key: %s, dimensions: [NAME]}", p.meter.Key)
	if len(p.meter.Dimensions) > 0 {
		fix = "the meter has " + strings.Join(p.meter.Dimensions, ", ")
	}
	if near := catalog.Suggest(name, p.meter.Dimensions); near != "" {
		fix = "did you mean " + near + "? " + fix
	}
	return &Invalid{pointer, "must be a dimension of the meter", fix}
}

func conditions(p *plan) error {
	if len(p.Where) > MaxNames {
		return &Invalid{"/where", fmt.Sprintf("at most %d conditions", MaxNames), "leave some out"}
	}
	for i, d := range p.Where {
		if err := dimension(p, "/where", d.Name); err != nil {
			return err
		}
		if slices.ContainsFunc(p.Where[:i], func(o meter.Dimension) bool { return o.Name == d.Name }) {
			return &Invalid{"/where", "must name each dimension once: an event has one value of it", "ask twice, or group by it"}
		}
	}
	return nil
}

// bounds checks paging.
func bounds(p *plan) error {
	switch {
	case p.Top < 0 || p.Top > MaxGroups:
		return &Invalid{"/top", fmt.Sprintf("must be 1 to %d", MaxGroups), "leave it out for all"}
	case p.Limit < 0 || p.Limit > LimitMax:
		return &Invalid{"/limit", fmt.Sprintf("must be 1 to %d", LimitMax), "take the rest by cursor"}
	case p.Limit == 0:
		p.Limit = LimitUsual
	}
	if p.Cursor == "" {
		return nil
	}
	position, offset, ok := strings.Cut(p.Cursor, ".")
	var err1, err2 error
	p.position, err1 = strconv.ParseUint(position, 10, 64)
	p.offset, err2 = strconv.Atoi(offset)
	if !ok || err1 != nil || err2 != nil || p.offset < 1 || p.offset > MaxGroups {
		return ErrCursor
	}
	return nil
}

// zone finds the zone of the windows.
func (s *Service) zone(p *plan) (err error) {
	one := len(p.named) == 1
	if p.Window == BillingPeriod && !one && !p.byCustomer {
		return &Invalid{"/window", "must be another one: customers have billing periods of their own", "add group_by=customer, or name one customer"}
	}
	if one {
		p.zone = p.named[0].Zone
	}
	if p.Zone == "" {
		return nil
	}
	if p.Window == BillingPeriod && (!one || p.Zone != p.zone.String()) {
		return &Invalid{"/zone", "does not go with billing periods: they lie in the zone of their customer", "leave zone out"}
	}
	if p.zone, err = period.LoadZone(p.Zone); err != nil {
		return &Invalid{"/zone", "must be the IANA name of a time zone", "Europe/Paris, or UTC"}
	}
	return nil
}

// span fills in the time.
func (s *Service) span(p *plan) error {
	switch in := p.In; {
	case in.Start.IsZero() && in.End.IsZero() && len(p.named) == 1:
		p.In = s.current(p.named[0], p.now)
	case in.Start.IsZero() && in.End.IsZero():
		p.In, _ = Month.Containing(p.now, p.zone, account.Subscription{}) // months are always there
	case !in.Start.IsZero() && !in.End.IsZero() && !in.Start.Before(in.End):
		return &Invalid{"/to", "must lie after from", "from is " + period.Format(in.Start)}
	}
	return nil
}

// current is the billing period of now, cut where the subscription ends; open without one.
func (s *Service) current(c account.Customer, now time.Time) period.Interval {
	sub, ok := s.cfg.Directory.ActiveSubscription(c.ID, now)
	if !ok {
		return period.Interval{}
	}
	in, _ := BillingPeriod.Containing(now, c.Zone, sub) // it is active
	return in
}
