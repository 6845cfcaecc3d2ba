package recount

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Tick does one batch of the oldest running job that can go on, at most 1,000 events, and says whether there is more to do. Its
// counts and its place are stored after the batch: a crash in between does the batch again, which finds it done.
func (s *Service) Tick(ctx context.Context) (more bool, err error) {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	jobs, err := s.cfg.Records.RunningRecounts(ctx)
	if err != nil {
		return false, fmt.Errorf("recount: %w", err)
	}
	var errs []error
	for _, job := range jobs {
		again, err := s.step(ctx, job)
		if err == nil {
			return again || len(jobs) > 1, nil
		}
		errs = append(errs, fmt.Errorf("recount %s: %w", job.ID, err))
	}
	return false, errors.Join(errs...)
}

// step does one batch of a job.
func (s *Service) step(ctx context.Context, job Job) (more bool, err error) {
	position, err := s.position(ctx)
	if err != nil {
		return false, err
	}
	version, read, err := s.cfg.Reread(job.Meter)
	switch {
	case errors.Is(err, account.ErrNotFound):
		job.Problem = "the catalog has no such meter any more"
		return false, s.save(ctx, job, store.RecountFailed)
	case err != nil:
		return false, err
	}
	if version != job.CatalogVersion { // its first events were read by another meter
		job = restarted(job, version, position)
	}
	page, err := s.cfg.Journal.Scan(ctx, store.Scan{In: job.In, Cursor: job.Cursor, Limit: batchMax})
	if err != nil {
		return false, err
	}
	b := batch{Service: s, job: job, read: read, closes: map[string][]store.Close{}}
	end := page.Next == "" || slices.ContainsFunc(page.Records, func(r store.Record) bool { return r.Position > job.Total })
	revised, err := b.all(ctx, page.Records)
	switch {
	case errors.Is(err, store.ErrConflict):
		return false, nil // somebody else revised one of the events: the next tick reads them again
	case errors.Is(err, money.ErrOverflow), errors.Is(err, store.ErrInvalid):
		b.job.Problem = shorten(err.Error())
		return false, s.save(ctx, b.job, store.RecountFailed)
	case err != nil:
		return false, err
	}
	job = b.job
	job.Seen = slices.Max(append(revised, position, job.Seen))
	if !end {
		job.Cursor = page.Next
		return true, s.save(ctx, job, store.RecountRunning)
	}
	job.Done = max(job.Done, job.Total)
	if !job.Last { // what was on its way when the job began is here by now
		job.Last, job.Total = true, max(position, job.Total)
		if page.Next != "" || position > job.Done {
			return true, s.save(ctx, job, store.RecountRunning)
		}
	}
	return false, s.save(ctx, job, store.RecountDone)
}

// restarted begins a job again by another catalog version. What it has changed stays counted.
func restarted(job Job, version int64, position uint64) Job {
	job.CatalogVersion, job.Cursor, job.Done, job.Total, job.Last = version, "", 0, position, false
	job.Read, job.Closed, job.Admitted, job.Unreadable, job.Problem = 0, 0, 0, 0, ""
	if job.DryRun {
		job.Changed, job.Difference = 0, money.Decimal{}
	}
	return job
}

func (s *Service) save(ctx context.Context, job Job, state store.RecountState) error {
	job.State, job.UpdatedAt = state, period.Truncate(s.cfg.Now())
	return s.cfg.Records.SaveRecount(ctx, job)
}
