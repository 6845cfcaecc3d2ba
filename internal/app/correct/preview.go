package correct

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of one preview: events read, and effects told.
const (
	previewEvents  = 1_000_000
	previewEffects = 10_000
	previewView    = 32 // effects compared in one view of the journal: appends wait for it
)

// Preview is what a backfill would do to usage: closing it, when it is open; reverting it, when it is closed.
type Preview struct {
	Backfill  Backfill
	Position  uint64 // of the journal, that From is of
	Events    int64  // looked at
	Unmatched int64  // that would count for nothing
	Voided    int64  // that were voided one by one, and stay so
	Complete  bool   // false: it has more events or effects than one preview takes
	Effects   []Effect
}

// Effect is the change of one customer's meter in one billing period.
type Effect struct {
	Customer account.Customer
	Meter    string
	Period   period.Interval // a calendar month where the customer had no subscription
	Billed   bool            // Period is a billing period
	Close    *store.Close    // of the period, when it is closed: its invoice stays, the change is late
	Events   int64
	From     money.Decimal
	To       *money.Decimal // nil: usage of this meter does not add up, so the outcome is not known before
}

// effectKey finds an effect.
type effectKey struct {
	customerID, meter string
	start             int64
}

// effect is one being summed up.
type effect struct {
	Effect
	sum money.Decimal
}

// Preview reads all events of a backfill, at most a million. account.ErrNotFound; account.ErrState while it is at work, or after
// it was reverted.
func (s *Service) Preview(ctx context.Context, ref string) (Preview, error) {
	b, err := s.Backfill(ctx, ref)
	if err != nil {
		return Preview{}, err
	}
	if b.State != store.BackfillOpen && b.State != store.BackfillClosed {
		return Preview{}, fmt.Errorf("%w: backfill %q is %s; there is nothing to decide about it", account.ErrState, b.Name, b.State)
	}
	out := Preview{Backfill: b, Complete: true}
	effects := map[effectKey]*effect{}
	for cursor := ""; ; {
		page, err := s.cfg.Journal.Scan(ctx, store.Scan{Unit: b.ID, Cursor: cursor, Limit: pageMax})
		if err != nil {
			return Preview{}, fmt.Errorf("preview backfill %q: %w", b.Name, err)
		}
		for _, r := range page.Records {
			if err := s.affect(&out, effects, r); err != nil {
				return Preview{}, fmt.Errorf("preview backfill %q: %w", b.Name, err)
			}
		}
		if cursor = page.Next; cursor == "" {
			break
		}
		if out.Events >= previewEvents {
			out.Complete = false
			break
		}
	}
	if err := s.compare(ctx, &out, effects); err != nil {
		return Preview{}, fmt.Errorf("preview backfill %q: %w", b.Name, err)
	}
	return out, nil
}

// affect adds one event up.
func (s *Service) affect(out *Preview, effects map[effectKey]*effect, r store.Record) error {
	out.Events++
	if r.Voided || r.Erased {
		out.Voided++
		return nil
	}
	list := r.Resolutions
	if out.Backfill.State == store.BackfillOpen {
		list = s.resolved(r)
	}
	if len(list) == 0 {
		out.Unmatched++
	}
	for _, x := range list {
		customer, ok := s.cfg.Directory.Customer(x.CustomerID)
		if !ok {
			continue
		}
		_, in, billed := s.periodOf(customer, r)
		key := effectKey{customer.ID, x.Meter, in.Start.UnixMicro()}
		e := effects[key]
		if e == nil {
			if len(effects) >= previewEffects {
				out.Complete = false
				continue
			}
			e = &effect{Effect: Effect{Customer: customer, Meter: x.Meter, Period: in, Billed: billed}}
			effects[key] = e
		}
		var err error
		if e.sum, err = e.sum.Add(x.Value); err != nil {
			return err
		}
		e.Events++
	}
	return nil
}

// periodOf is the billing period of an event's time; without a subscription, the month.
func (s *Service) periodOf(customer account.Customer, r store.Record) (subscriptionID string, in period.Interval, billed bool) {
	at := r.Event.Time
	for _, sub := range s.cfg.Directory.SubscriptionsOf(customer.ID) {
		if !sub.Active(at) {
			continue
		}
		if in, ok := sub.Anchor(customer.Zone).Period(at); ok {
			if !sub.End.IsZero() && sub.End.Before(in.End) {
				in.End = sub.End
			}
			return sub.ID, in, true
		}
	}
	in, _ = period.Month.Containing(at, customer.Zone, period.Anchor{}) // months are everywhere
	for _, sub := range s.cfg.Directory.SubscriptionsOf(customer.ID) {
		if sub.Start.After(at) && sub.Start.Before(in.End) {
			in.End = sub.Start
		}
		if !sub.End.IsZero() && !sub.End.After(at) && sub.End.After(in.Start) {
			in.Start = sub.End
		}
	}
	return "", in, false
}

// compare sets the sums beside today's usage.
func (s *Service) compare(ctx context.Context, out *Preview, effects map[effectKey]*effect) error {
	if err := s.flush(ctx); err != nil {
		return err
	}
	aggregations := s.aggregations()
	for chunk := range slices.Chunk(slices.Collect(maps.Values(effects)), previewView) {
		err := s.cfg.Journal.View(ctx, func(v store.View) error {
			if out.Position == 0 {
				out.Position = v.Position()
			}
			for _, e := range chunk {
				if err := e.compare(v, out, cmp.Or(aggregations[e.Meter], meter.Sum)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	known := map[string][]store.Close{}
	for _, e := range effects {
		var err error
		if e.Close, err = s.closeOf(ctx, known, e.Customer.ID, e.Period); err != nil {
			return err
		}
		out.Effects = append(out.Effects, e.Effect)
	}
	slices.SortFunc(out.Effects, func(a, b Effect) int {
		return cmp.Or(cmp.Compare(a.Customer.Key, b.Customer.Key), cmp.Compare(a.Meter, b.Meter), a.Period.Start.Compare(b.Period.Start))
	})
	return nil
}

// compare takes usage from the journal as it stood in the first view.
func (e *effect) compare(v store.View, out *Preview, a meter.Aggregation) (err error) {
	if e.From, err = usageAt(v, store.SeriesKey{CustomerID: e.Customer.ID, Meter: e.Meter}, e.Period, a, out.Position); err != nil || !a.Additive() {
		return err
	}
	sum := e.sum
	if out.Backfill.State == store.BackfillClosed {
		sum = sum.Neg()
	}
	to, err := e.From.Add(sum)
	e.To = &to
	return err
}

// usageAt is usage when the journal was at a position.
func usageAt(v store.View, k store.SeriesKey, in period.Interval, a meter.Aggregation, position uint64) (money.Decimal, error) {
	if v.Position() == position {
		return usage(v, k, in, a)
	}
	groups, err := v.Measure(k, in, store.Measure{Aggregation: a, UpTo: position})
	if err != nil || len(groups) == 0 {
		return money.Decimal{}, err
	}
	return groups[0].Value, nil
}

func (s *Service) aggregations() map[string]meter.Aggregation {
	out := map[string]meter.Aggregation{}
	for _, m := range s.cfg.Directory.Current().Meters {
		out[m.Key] = m.Aggregation
	}
	return out
}

// usage is a series' value over an interval; 0 where the series or its first event is still to come.
func usage(v store.View, k store.SeriesKey, in period.Interval, a meter.Aggregation) (money.Decimal, error) {
	if a.Additive() {
		rollup, err := v.Usage(k, in)
		return rollup.Sum, err
	}
	groups, err := v.Measure(k, in, store.Measure{Aggregation: a})
	if err != nil || len(groups) == 0 {
		return money.Decimal{}, err
	}
	return groups[0].Value, nil
}

// closeOf is the close of a customer's billing period; nil while there is none. known are those read already, by subscription.
func (s *Service) closeOf(ctx context.Context, known map[string][]store.Close, customerID string, in period.Interval) (*store.Close, error) {
	for _, sub := range s.cfg.Directory.SubscriptionsOf(customerID) {
		if !sub.Active(in.Start) {
			continue
		}
		closes, ok := known[sub.ID]
		if !ok {
			var err error
			if closes, err = s.cfg.Closes.Closes(ctx, sub.ID); err != nil {
				return nil, fmt.Errorf("closes of subscription %s: %w", sub.ID, err)
			}
			known[sub.ID] = closes
		}
		for _, c := range closes {
			if c.Period.Start.Equal(in.Start) && c.Period.End.Equal(in.End) {
				return &c, nil
			}
		}
	}
	return nil, nil
}
