package billrun

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Work does what is left of a run, or of all open ones (empty), oldest first, until they have ended or ctx has: then the next trigger
// goes on. While another call works it does nothing: that one, or the next trigger, comes to it.
func (s *Service) Work(ctx context.Context, id string) error {
	if !s.working.TryLock() {
		return nil
	}
	defer s.working.Unlock()
	runs, err := s.cfg.Records.OpenBillingRuns(ctx)
	if err != nil {
		return fmt.Errorf("work billing runs: %w", err)
	}
	var failures []error
	for _, r := range runs {
		if id != "" && r.ID != id {
			continue
		}
		if err := s.work(ctx, r); err != nil {
			failures = append(failures, fmt.Errorf("billing run %s: %w", r.ID, err))
		}
	}
	return errors.Join(failures...)
}

// work takes one run up where it is.
func (s *Service) work(ctx context.Context, r Run) (err error) {
	began := s.cfg.Real()
	part := bill.Part{Until: r.Until, CustomerID: r.CustomerID}
	n, err := s.cfg.Billing.Due(ctx, part)
	if err != nil {
		return err
	}
	if r.Due = r.Done + int64(n); r.State == store.RunQueued {
		r.State, r.StartedAt = store.RunRunning, period.Truncate(s.cfg.Now())
	}
	if r, err = s.save(ctx, r, nil); err != nil || r.Ended() {
		return err
	}
	for more := true; more; {
		step, stepErr := s.cfg.Billing.Step(ctx, part)
		more = step.More
		r.Done += int64(step.Closed)
		r.Invoices += int64(step.Invoices)
		r.Due += int64(step.Found)
		failures := failuresOf(step.Failures)
		s.count(len(failures))
		switch {
		case stepErr != nil && ctx.Err() != nil: // the trigger's time is over
		case stepErr != nil:
			r.LastError = text(stepErr)
		case !more && r.Failed+int64(len(failures)) > 0:
			r.State, r.LastError = store.RunFailed, ""
		case !more:
			r.State, r.LastError = store.RunDone, ""
		}
		// What was closed is counted even when the trigger's time is over.
		if r, err = s.save(context.WithoutCancel(ctx), r, failures); err != nil || stepErr != nil {
			return errors.Join(stepErr, err)
		}
		if r.Ended() {
			if r.State != store.RunCanceled {
				s.ended(r.State, s.cfg.Real().Sub(began))
			}
			return nil
		}
	}
	return nil
}

// save stores the progress. Where the run was canceled meanwhile, it comes back as it is.
func (s *Service) save(ctx context.Context, r Run, failures []Failure) (Run, error) {
	r.UpdatedAt = period.Truncate(s.cfg.Now())
	r.Due = max(r.Due, r.Done)
	saved, err := s.cfg.Records.SaveBillingRun(ctx, r, failures)
	if errors.Is(err, store.ErrConflict) {
		return s.cfg.Records.BillingRun(ctx, r.ID)
	}
	return saved, err
}

func (s *Service) count(failures int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Failures += int64(failures)
}

func failuresOf(list []*bill.Failure) []Failure {
	out := make([]Failure, len(list))
	for i, f := range list {
		out[i] = Failure{SubscriptionID: f.SubscriptionID, Customer: f.Customer, Period: f.Period, Reason: text(f.Err)}
	}
	return out
}

// text is an error on one line, cut to a bound.
func text(err error) string {
	s := strings.ReplaceAll(err.Error(), "\n", "; ")
	if len(s) > reasonMax {
		s = strings.ToValidUTF8(s[:reasonMax], "") + "…"
	}
	return s
}
