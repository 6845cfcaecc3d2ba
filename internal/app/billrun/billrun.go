// Package billrun keeps runs of billing: somebody asks for one, a job works it step by step, and its progress stands in the
// records. A run closes nothing by itself, bill does; so a run that is lost, taken up twice or ended in its middle bills nothing
// twice and leaves nothing out: what is due stays due.
package billrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Kind names the job that works runs.
const Kind = "billing-run"

const (
	pageUsual   = 100
	pageMax     = 1000
	failuresMax = 1000 // that are listed of a run
	reasonMax   = 500  // bytes of a failure's reason
	waiting     = 100  // runs that may be open at a time
)

// Run is a run with its progress.
type Run = store.BillingRun

// State is where a run stands.
type State = store.RunState

// Failure is a subscription that a run could not close.
type Failure = store.RunFailure

// Billing closes what is due; bill.Service fits.
type Billing interface {
	Due(ctx context.Context, part bill.Part) (int, error)
	Step(ctx context.Context, part bill.Part) (bill.Step, error)
}

// Directory knows customers; govern.Service fits.
type Directory interface {
	Customer(ref string) (account.Customer, bool)
}

// Config of a Service. All are required.
type Config struct {
	Billing   Billing
	Directory Directory
	Records   store.BillingRuns
	Now       func() time.Time // business clock
	Real      func() time.Time // the machine's, for how long a run takes
	Random    io.Reader        // safe for concurrent use
	// Trigger has Work called soon with a run's id, in the background.
	Trigger func(ctx context.Context, id string) error
}

// Service is safe for concurrent use.
type Service struct {
	cfg     Config
	working sync.Mutex // one run at a time

	mu    sync.Mutex
	stats Stats
}

// Stats are since the start of the process.
type Stats struct {
	Ended    map[store.RunState]int64
	Failures int64         // closings that did not come about
	Last     time.Duration // how long the last run that ended was worked on in this process
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Billing == nil || cfg.Directory == nil || cfg.Records == nil || cfg.Now == nil || cfg.Real == nil || cfg.Random == nil || cfg.Trigger == nil {
		return nil, errors.New("billrun: incomplete configuration")
	}
	return &Service{cfg: cfg, stats: Stats{Ended: map[store.RunState]int64{}}}, nil
}

// Invalid is a refused call: which field, what rule, how to fix it. errors.Is(err, account.ErrInvalid).
type Invalid struct{ Pointer, Rule, Fix string } // Pointer: "/until"

func (e *Invalid) Error() string { return fmt.Sprintf("%s %s: %s", e.Pointer, e.Rule, e.Fix) }

// Unwrap makes it an account.ErrInvalid.
func (e *Invalid) Unwrap() error { return account.ErrInvalid }

// Begin stores a run and has it worked. Until may not lie in the future: what is not due is billed by no run. Invalid;
// account.ErrNotFound for an unknown customer; account.ErrState when too many are open.
func (s *Service) Begin(ctx context.Context, actor string, part bill.Part) (Run, error) {
	now := period.Truncate(s.cfg.Now())
	if !part.Until.IsZero() {
		if part.Until = period.Truncate(part.Until); part.Until.After(now) {
			return Run{}, &Invalid{"/until", "must not lie after the business clock's " + period.Format(now), "ask for a dry run to see what would be billed then"}
		}
	}
	if part.CustomerID != "" {
		c, ok := s.cfg.Directory.Customer(part.CustomerID)
		if !ok {
			return Run{}, fmt.Errorf("there is no customer %q, `tally customers list` shows all: %w", part.CustomerID, account.ErrNotFound)
		}
		part.CustomerID = c.ID
	}
	open, err := s.cfg.Records.OpenBillingRuns(ctx)
	if err != nil {
		return Run{}, fmt.Errorf("begin billing run: %w", err)
	}
	if len(open) >= waiting {
		return Run{}, fmt.Errorf("%w: %d runs are open already; cancel one or wait", account.ErrState, len(open))
	}
	id, err := account.NewID("run", now, s.cfg.Random)
	if err != nil {
		return Run{}, err
	}
	r := Run{ID: id, Until: part.Until, CustomerID: part.CustomerID, Actor: actor, CreatedAt: now, UpdatedAt: now, State: store.RunQueued}
	a, err := s.audit(actor, "billing_run.create", id, map[string]string{"until": instant(part.Until), "customer": part.CustomerID})
	if err != nil {
		return Run{}, err
	}
	if err := s.cfg.Records.PutBillingRun(ctx, r, a); err != nil {
		return Run{}, fmt.Errorf("begin billing run: %w", err)
	}
	if err := s.cfg.Trigger(context.WithoutCancel(ctx), id); err != nil {
		return Run{}, fmt.Errorf("begin billing run: %w", err)
	}
	return r, nil
}

// Cancel ends a run; what it has closed stays. account.ErrNotFound, account.ErrState when it has ended already.
func (s *Service) Cancel(ctx context.Context, actor, id string) (Run, error) {
	a, err := s.audit(actor, "billing_run.cancel", id, nil)
	if err != nil {
		return Run{}, err
	}
	r, err := s.cfg.Records.CancelBillingRun(ctx, id, period.Truncate(s.cfg.Now()), a)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Run{}, absent(id)
	case errors.Is(err, store.ErrConflict):
		return Run{}, fmt.Errorf("%w: billing run %s has ended", account.ErrState, id)
	case err != nil:
		return Run{}, fmt.Errorf("cancel billing run: %w", err)
	}
	s.ended(r.State, 0)
	return r, nil
}

// Run finds a run, with what failed, at most 1,000. account.ErrNotFound.
func (s *Service) Run(ctx context.Context, id string) (Run, []Failure, error) {
	r, err := s.cfg.Records.BillingRun(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return Run{}, nil, absent(id)
	}
	if err != nil {
		return Run{}, nil, fmt.Errorf("read billing run: %w", err)
	}
	list, err := s.cfg.Records.RunFailures(ctx, id, failuresMax)
	if err != nil {
		return Run{}, nil, fmt.Errorf("read billing run: %w", err)
	}
	return r, list, nil
}

// Runs lists runs, newest first. A limit of 0 is 100, the most is 1000.
func (s *Service) Runs(ctx context.Context, q store.Query) ([]Run, error) {
	if q.Limit <= 0 {
		q.Limit = pageUsual
	}
	q.Limit = min(q.Limit, pageMax+1)
	list, err := s.cfg.Records.ListBillingRuns(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list billing runs: %w", err)
	}
	return list, nil
}

// Stats tells what runs did.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Ended = map[store.RunState]int64{}
	maps.Copy(out.Ended, s.stats.Ended)
	return out
}

func (s *Service) ended(state store.RunState, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Ended[state]++
	if took > 0 {
		s.stats.Last = took
	}
}

func absent(id string) error {
	return fmt.Errorf("there is no billing run %q, `tally bill runs` lists all: %w", id, account.ErrNotFound)
}

// instant is a time as text; zero: empty.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return period.Format(t)
}

func (s *Service) audit(actor, action, target string, detail map[string]string) (store.Audit, error) {
	now := period.Truncate(s.cfg.Now())
	id, err := account.NewID("aud", now, s.cfg.Random)
	if err != nil {
		return store.Audit{}, err
	}
	for name, v := range detail {
		if v == "" {
			delete(detail, name)
		}
	}
	if detail == nil {
		detail = map[string]string{}
	}
	b, err := json.Marshal(detail)
	return store.Audit{ID: id, Time: now, Actor: actor, Action: action, Target: target, Detail: string(b)}, err
}
