package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Usage is a customer's metered quantity. Windows are the calendar windows of the customer's zone that hold usage, oldest
// first, clipped to In. Value is their sum.
type Usage struct {
	Customer account.Customer
	Meter    string
	In       period.Interval // zero bounds: all time
	Value    money.Decimal
	Windows  []UsageWindow
	Position uint64 // of the journal, that all figures are of
}

// UsageWindow is the usage of one window.
type UsageWindow struct {
	period.Interval
	Value money.Decimal
}

// Usage with a zero interval is the current billing period (all time without a subscription); one zero bound is open. A
// zero window is a day. Bounds lie on the 15-minute grid or where a subscription of the customer starts; other ones are an
// Invalid that names the nearest. account.ErrNotFound for an unknown customer or meter.
func (s *Service) Usage(ctx context.Context, customerRef, meterKey string, in period.Interval, window period.Window) (Usage, error) {
	customer, err := s.customer(customerRef)
	if err != nil {
		return Usage{}, err
	}
	if window == 0 {
		window = period.Day
	}
	if in.Start.IsZero() && in.End.IsZero() {
		in = s.current(customer)
	}
	if !in.Start.IsZero() && !in.End.IsZero() && !in.Start.Before(in.End) {
		return Usage{}, &Invalid{"/to", "must lie after from", fmt.Sprintf("from is %s", period.Format(in.Start))}
	}
	if err := s.flush(ctx); err != nil {
		return Usage{}, err
	}
	out := Usage{Customer: customer, Meter: meterKey, In: in}
	var buckets []store.Window
	key := SeriesKey{CustomerID: customer.ID, Meter: meterKey}
	err = s.cfg.Journal.View(ctx, func(v store.View) error {
		if err := s.known(v, key); err != nil {
			return err
		}
		out.Position = v.Position()
		used, err := v.Usage(key, in)
		if errors.Is(err, store.ErrInvalid) {
			return offGrid(v, key, in, err)
		}
		if err != nil {
			return err
		}
		out.Value = used.Sum
		buckets, err = v.Windows(key, in)
		return err
	})
	if err != nil {
		return Usage{}, fmt.Errorf("usage of %q: %w", meterKey, err)
	}
	if out.Windows, err = s.fold(customer, buckets, in, window); err != nil {
		return Usage{}, fmt.Errorf("usage of %q: %w", meterKey, err)
	}
	return out, nil
}

// current is the billing period of now, cut where the subscription ends.
func (s *Service) current(customer account.Customer) period.Interval {
	now := s.cfg.Now()
	sub, ok := s.cfg.Directory.ActiveSubscription(customer.ID, now)
	if !ok {
		return period.Interval{}
	}
	in, ok := sub.Anchor(customer.Zone).Period(now)
	if !ok {
		return period.Interval{}
	}
	if !sub.End.IsZero() && sub.End.Before(in.End) {
		in.End = sub.End
	}
	return in
}

// known refuses a meter that neither the catalog has nor the journal ever had for the customer.
func (s *Service) known(v store.View, key SeriesKey) error {
	c := s.cfg.Directory.Current()
	if _, ok := c.Meter(key.Meter); ok {
		return nil
	}
	if slices.ContainsFunc(v.Series(), func(x store.Series) bool { return x.SeriesKey == key }) {
		return nil
	}
	names := make([]string, 0, len(c.Meters))
	for _, m := range c.Meters {
		names = append(names, m.Key)
	}
	if near := catalog.Suggest(key.Meter, names); near != "" {
		return fmt.Errorf("there is no such meter, did you mean %q: %w", near, account.ErrNotFound)
	}
	return fmt.Errorf("there is no such meter, the catalog has %q: %w", names, account.ErrNotFound)
}

// offGrid names the bound that the journal refused, and its nearest grid points.
func offGrid(v store.View, key SeriesKey, in period.Interval, refused error) error {
	pointer, at := "/to", in.End
	if _, err := v.Usage(key, period.Interval{Start: in.Start}); err != nil {
		pointer, at = "/from", in.Start
	}
	if at.IsZero() {
		return refused
	}
	before := period.BucketStart(at)
	return &Invalid{
		pointer, "must be a whole quarter of an hour (UTC) or the start of a subscription",
		fmt.Sprintf("the nearest are %s and %s", period.Format(before), period.Format(before.Add(period.BucketLength))),
	}
}

// fold adds the journal's buckets up into calendar windows. No bucket crosses the bound of a window, since every local
// midnight and hour is on the grid and every start of a subscription is a cut.
func (s *Service) fold(customer account.Customer, buckets []store.Window, in period.Interval, window period.Window) ([]UsageWindow, error) {
	var out []UsageWindow
	var whole period.Interval // the window of out's last one, not clipped
	for _, b := range buckets {
		if len(out) == 0 || !whole.Contains(b.Start) {
			var ok bool
			if whole, ok = s.window(customer, b.Start, window); !ok {
				return nil, &Invalid{"/window", "must be another one: there is usage outside of all billing periods", "ask for days, or for a time within the subscription"}
			}
			if len(out) == windowsMax {
				return nil, &Invalid{"/window", fmt.Sprintf("would make more than %d windows", windowsMax), "ask for a shorter time or longer windows"}
			}
			out = append(out, UsageWindow{Interval: clip(whole, in)})
		}
		last := &out[len(out)-1]
		sum, err := last.Value.Add(b.Sum)
		if err != nil {
			return nil, err
		}
		last.Value = sum
	}
	return out, nil
}

func (s *Service) window(customer account.Customer, at time.Time, window period.Window) (period.Interval, bool) {
	var anchor period.Anchor
	if window == period.BillingPeriod {
		sub, ok := s.cfg.Directory.ActiveSubscription(customer.ID, at)
		if !ok {
			return period.Interval{}, false
		}
		anchor = sub.Anchor(customer.Zone)
	}
	return window.Containing(at, customer.Zone, anchor)
}

func clip(i, to period.Interval) period.Interval {
	if i.Start.Before(to.Start) {
		i.Start = to.Start
	}
	if !to.End.IsZero() && i.End.After(to.End) {
		i.End = to.End
	}
	return i
}
