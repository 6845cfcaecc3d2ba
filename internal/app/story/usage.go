package story

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
)

// batch is how many events one call reports: one sync of the journal answers for them.
const batch = 1000

// report reports what was used since the last time, up to an instant.
func (y *year) report(ctx context.Context, until time.Time) error {
	var list []meter.Event
	for i := range y.cast {
		c := &y.cast[i]
		if c.sub == "" {
			continue
		}
		zone := period.MustZone(c.zone)
		yr, m, d := zone.Date(y.until)
		for day := d; ; day++ {
			start, next := zone.StartOfDay(yr, m, day), zone.StartOfDay(yr, m, day+1)
			if !start.Before(until) {
				break
			}
			for _, e := range c.used(start, next) {
				_, active := y.Govern.ActiveSubscription(c.id, e.Time)
				if active && !e.Time.Before(y.until) && e.Time.Before(until) {
					list = append(list, e)
				}
			}
		}
	}
	y.until = until
	return y.send(ctx, list)
}

// send reports events; all of them must be new and right.
func (y *year) send(ctx context.Context, events []meter.Event) error {
	for part := range slices.Chunk(events, batch) {
		outcomes, err := y.Ingest.Report(ctx, actor, part)
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			if o.Status != "accepted" {
				return fmt.Errorf("event %s: %s %s", o.ID, o.Status, o.Rule)
			}
		}
	}
	y.told.Events += int64(len(events))
	return nil
}

// used is what the customer uses on one of its days: requests of three kinds, a picture now and then, and on Sundays the level of
// what it stores.
func (c *customer) used(start, next time.Time) []meter.Event {
	date := start.In(period.MustZone(c.zone).Location()).Format(time.DateOnly)
	dice := c.chance(date)
	at := func() time.Time {
		return period.Truncate(start.Add(time.Duration(dice.Int64N(int64(next.Sub(start))))))
	}
	growth := 100 + 4*int64(start.Month()-time.January)
	weekday := start.In(period.MustZone(c.zone).Location()).Weekday()
	if weekday == time.Saturday || weekday == time.Sunday {
		growth /= 3
	}
	var list []meter.Event
	for i, api := range []string{"tiles", "geocode", "routes"} {
		mean := c.daily * growth / 100 * []int64{60, 30, 10}[i] / 100
		count := mean*3/4 + dice.Int64N(mean/2+1)
		region := "eu"
		if dice.IntN(3) == 0 != (c.currency() == "USD") {
			region = "us"
		}
		list = append(list, c.event(date, len(list), "maps.requests", at(), fmt.Sprintf(`{"api":%q,"count":%d,"region":%q}`, api, count, region)))
	}
	if dice.IntN(4) == 0 && c.seats > 0 {
		list = append(list, c.event(date, len(list), "maps.imagery", at(), fmt.Sprintf(`{"price":%d.%04d}`, dice.IntN(12), dice.IntN(10_000))))
	}
	if weekday == time.Sunday && c.seats > 0 {
		list = append(list, c.event(date, len(list), "maps.stored", at(), fmt.Sprintf(`{"gb":%d.%03d}`, 5+dice.IntN(40), dice.IntN(1000))))
	}
	return list
}

func (c *customer) event(date string, n int, kind string, at time.Time, data string) meter.Event {
	return meter.Event{Source: "maps/edge", ID: fmt.Sprintf("%s-%s-%d", c.key, date, n), Type: kind, Subject: c.key, Time: at, Data: []byte(data)}
}
