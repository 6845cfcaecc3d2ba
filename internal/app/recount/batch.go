package recount

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

// batch is one page of events as it is read.
type batch struct {
	*Service
	job       Job
	read      func(meter.Event) ([]meter.Resolution, error)
	closes    map[string][]store.Close // by subscription
	revisions []store.Revision
	customers []string // whose usage changes
}

// reason names the job in the journal.
func reason(job Job) string {
	return fmt.Sprintf("recount %s of meter %s: %s", job.ID, job.Meter, job.Reason)
}

// all reads the events that the job reaches, and writes what it makes of them; it answers the positions written.
func (b *batch) all(ctx context.Context, records []store.Record) ([]uint64, error) {
	for _, r := range records {
		if r.Position <= b.job.Done || r.Position > b.job.Total {
			continue
		}
		if err := b.add(ctx, r); err != nil {
			return nil, err
		}
	}
	return b.revise(ctx)
}

// add reads one event, and revises it where the meter makes something else of it than before.
func (b *batch) add(ctx context.Context, r store.Record) error {
	b.job.Done = r.Position
	if !b.job.In.Contains(r.Event.Time) {
		return nil
	}
	b.job.Read++
	if r.Voided || r.Erased || r.Flags&store.Held != 0 {
		return nil
	}
	old, others := split(r.Resolutions, b.job.Meter)
	fresh, err := b.read(r.Event)
	if err == nil && len(fresh) > 0 && len(r.Resolutions) == 0 && r.Flags&store.Filtered == 0 { // it is unmatched
		var all []meter.Resolution
		_, all, err = b.cfg.Resolve(r.Event)
		_, others = split(all, b.job.Meter)
	}
	if err == nil && len(others)+len(fresh) > resolutionsMax {
		err = fmt.Errorf("at most %d meters read one event", resolutionsMax)
	}
	if err != nil {
		b.job.Unreadable++
		if b.job.Problem == "" {
			b.job.Problem = shorten(fmt.Sprintf("event %q of %q: %v", r.Event.ID, r.Event.Source, err))
		}
		return nil // the event's fault: it is counted, and the first one is told
	}
	if slices.EqualFunc(old, fresh, alike) {
		return b.finished(ctx, r)
	}
	if r.Origin == meter.Admitted && enforced(r, b.job.Meter) {
		b.job.Admitted++
		return nil
	}
	closed, err := b.inClosed(ctx, r.Event.Time, append(slices.Clone(old), fresh...))
	if err != nil {
		return err
	}
	if closed && !b.job.IncludeClosed {
		b.job.Closed++
		return nil
	}
	if err := b.count(old, fresh); err != nil {
		return err
	}
	b.revisions = append(b.revisions, store.Revision{
		Source: r.Event.Source, ID: r.Event.ID, Kind: store.Resolve, Resolutions: append(others, fresh...), If: r.Revision,
	})
	for _, res := range slices.Concat(old, fresh, others) {
		b.customers = append(b.customers, res.CustomerID)
	}
	return nil
}

// count adds a change to the job's figures.
func (b *batch) count(old, fresh []meter.Resolution) (err error) {
	b.job.Changed++
	difference := b.job.Difference
	for _, r := range fresh {
		if difference, err = difference.Add(r.Value); err != nil {
			return fmt.Errorf("difference: %w", err)
		}
	}
	for _, r := range old {
		if difference, err = difference.Sub(r.Value); err != nil {
			return fmt.Errorf("difference: %w", err)
		}
	}
	b.job.Difference = difference
	return nil
}

// finished counts what this job itself changed and could not store that it had: a crash came between the journal and the
// records.
func (b *batch) finished(ctx context.Context, r store.Record) error {
	if r.Revision <= b.job.Seen || b.job.DryRun {
		return nil
	}
	history, err := b.cfg.Journal.History(ctx, r.Event.Source, r.Event.ID)
	if err != nil {
		return fmt.Errorf("history of event %q: %w", r.Event.ID, err)
	}
	for i := len(history) - 1; i > 0 && history[i].Position > b.job.Seen; i-- {
		if !strings.HasPrefix(history[i].Reason, "recount "+b.job.ID+" ") {
			continue
		}
		old, _ := split(history[i-1].Resolutions, b.job.Meter)
		fresh, _ := split(history[i].Resolutions, b.job.Meter)
		return b.count(old, fresh)
	}
	return nil
}

// revise writes the batch's revisions, and answers their positions.
func (b *batch) revise(ctx context.Context) ([]uint64, error) {
	if b.job.DryRun || len(b.revisions) == 0 {
		return nil, nil
	}
	positions, err := b.cfg.Journal.Revise(ctx, store.Revisions{
		Actor: b.job.Actor, Reason: reason(b.job), At: period.Truncate(b.cfg.Now()), List: b.revisions,
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(b.customers)
	b.cfg.Counted(slices.Compact(b.customers))
	return positions, nil
}

// inClosed says whether an event's time lies in a closed billing period of a customer that it counts for, before or after.
func (b *batch) inClosed(ctx context.Context, at time.Time, list []meter.Resolution) (bool, error) {
	var seen []string
	for _, r := range list {
		if slices.Contains(seen, r.CustomerID) {
			continue
		}
		seen = append(seen, r.CustomerID)
		for _, sub := range b.cfg.Directory.SubscriptionsOf(r.CustomerID) {
			if !sub.Active(at) {
				continue
			}
			closes, ok := b.closes[sub.ID]
			if !ok {
				var err error
				if closes, err = b.cfg.Records.Closes(ctx, sub.ID); err != nil {
					return false, fmt.Errorf("closed periods of %s: %w", sub.ID, err)
				}
				b.closes[sub.ID] = closes
			}
			if slices.ContainsFunc(closes, func(c store.Close) bool { return !c.Period.Empty() && c.Period.Contains(at) }) {
				return true, nil
			}
		}
	}
	return false, nil
}

// enforced says whether a gateway counted the event by the meter. Where that cannot be told, it did.
func enforced(r store.Record, meterKey string) bool {
	decision, err := receipt.Decode(r.Receipt)
	if err != nil || decision.Meter == "" {
		return slices.ContainsFunc(r.Resolutions, func(x meter.Resolution) bool { return x.Meter == meterKey })
	}
	return decision.Meter == meterKey
}

// split parts a meter's resolutions from all others'.
func split(list []meter.Resolution, meterKey string) (its, others []meter.Resolution) {
	for _, r := range list {
		if r.Meter == meterKey {
			its = append(its, r)
		} else {
			others = append(others, r)
		}
	}
	return its, others
}

// alike says that two resolutions count the same, whatever catalog version they are from.
func alike(a, b meter.Resolution) bool {
	return a.CustomerID == b.CustomerID && a.Meter == b.Meter && a.Distinct == b.Distinct && a.Value.Cmp(b.Value) == 0 &&
		slices.Equal(a.Dimensions, b.Dimensions)
}

// shorten cuts a text to what the records take.
func shorten(s string) string {
	if len(s) <= textMax {
		return s
	}
	return strings.ToValidUTF8(s[:textMax], "") + "…"
}
