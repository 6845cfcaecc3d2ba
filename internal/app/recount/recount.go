// Package recount applies a meter, as the catalog has it now, to the events that are kept: a job that shows its progress, can be
// cancelled, and goes on after a crash where it was.
//
// A job changes only what the meter makes of an event; what other meters make of it stays. An unmatched event that the meter can
// count is judged by all meters, as a replay would: once it counts for one, nobody would look for the others. It leaves alone:
//
//   - what enforcement counted. A gateway admitted the request by this meter, and its running total of what it admitted stands
//     in the journal for the books to compare with; usage that changed behind its back would no longer match. A meter that
//     enforcement did not count may be added to a gateway's event, and changed.
//   - billing periods that are closed, unless it is told to include them: the difference is late usage then.
//   - events that are voided, erased, or held by a backfill, and those that the meter cannot read.
//
// Running it again changes nothing.
package recount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	batchMax       = 1000 // events that one Tick reads, and so the most that it revises
	reasonMax      = 256  // bytes
	textMax        = 512  // of a problem
	resolutionsMax = 64   // of one event, the journal's bound
	pageUsual      = 100
	pageMax        = 1000
)

// Job is a recount with its progress.
type Job = store.Recount

// Query asks for a page of jobs.
type Query = store.Query

// Directory is what recounts need to know of accounts; govern.Service fits.
type Directory interface {
	SubscriptionsOf(customerID string) []account.Subscription
}

// Records is what recounts need of the records store.
type Records interface {
	store.Recounts
	Closes(ctx context.Context, subscriptionID string) ([]store.Close, error)
}

// Config of a Service. All but Counted and Flush are required.
type Config struct {
	Directory Directory
	Journal   store.Journal
	Records   Records
	// Reread prepares to read kept events by one meter of the present catalog; see ingest.Service.
	Reread func(meterKey string) (version int64, read func(meter.Event) ([]meter.Resolution, error), err error)
	// Resolve reads an event by all meters of the present catalog; see ingest.Service.
	Resolve func(e meter.Event) (meter.Event, []meter.Resolution, error)
	Now     func() time.Time // business clock
	Random  io.Reader        // safe for concurrent use
	// Counted is told which customers' usage changed, after it is durable; may be nil.
	Counted func(customerIDs []string)
	// Flush makes settled gateway usage visible before a job begins; may be nil.
	Flush func(context.Context) error
}

// Service is safe for concurrent use. One process at a time may tick.
type Service struct {
	cfg     Config
	ticking sync.Mutex // one batch at a time; a job is not cancelled within one
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Journal == nil || cfg.Records == nil || cfg.Reread == nil || cfg.Resolve == nil || cfg.Now == nil || cfg.Random == nil {
		return nil, errors.New("recount: directory, journal, records, reader, clock and randomness are required")
	}
	if cfg.Counted == nil {
		cfg.Counted = func([]string) {}
	}
	if cfg.Flush == nil {
		cfg.Flush = func(context.Context) error { return nil }
	}
	return &Service{cfg: cfg}, nil
}

// Invalid is a refused call: which field, what rule, how to fix it. errors.Is(err, account.ErrInvalid).
type Invalid struct{ Pointer, Rule, Fix string } // Pointer: "/from"

func (e *Invalid) Error() string { return fmt.Sprintf("%s %s: %s", e.Pointer, e.Rule, e.Fix) }

// Unwrap makes it an account.ErrInvalid.
func (e *Invalid) Unwrap() error { return account.ErrInvalid }

// Order is what a job is to do.
type Order struct {
	Meter         string
	In            period.Interval // event times; zero bounds: open
	DryRun        bool            // only count what would change
	IncludeClosed bool            // also in closed billing periods
	Reason        string          // empty: a usual one
}

// Begin stores a job, which Tick then does. Invalid; account.ErrNotFound for a meter that the catalog does not have;
// account.ErrState when a job of the meter runs already.
func (s *Service) Begin(ctx context.Context, actor string, o Order) (Job, error) {
	if actor == "" {
		return Job{}, fmt.Errorf("recount: no actor: %w", account.ErrInvalid)
	}
	if err := o.check(); err != nil {
		return Job{}, err
	}
	version, _, err := s.cfg.Reread(o.Meter)
	if err != nil {
		return Job{}, err
	}
	if err := s.cfg.Flush(ctx); err != nil {
		return Job{}, fmt.Errorf("ship the gateway's usage first: %w", err)
	}
	position, err := s.position(ctx)
	if err != nil {
		return Job{}, err
	}
	now := period.Truncate(s.cfg.Now())
	id, err := account.NewID("rcn", now, s.cfg.Random)
	if err != nil {
		return Job{}, err
	}
	job := Job{
		ID: id, Meter: o.Meter, In: o.In, DryRun: o.DryRun, IncludeClosed: o.IncludeClosed, Actor: actor, Reason: o.Reason,
		CatalogVersion: version, CreatedAt: now, State: store.RecountRunning, UpdatedAt: now, Total: position, Seen: position,
	}
	a, err := s.audit(actor, "recount.create", id, map[string]any{
		"meter": o.Meter, "from": o.In.Start, "to": o.In.End, "dry_run": o.DryRun, "include_closed": o.IncludeClosed, "reason": o.Reason,
	})
	if err != nil {
		return Job{}, err
	}
	switch err := s.cfg.Records.PutRecount(ctx, job, a); {
	case errors.Is(err, store.ErrExists):
		return Job{}, fmt.Errorf("%w: a recount of meter %q is running already; wait for it or cancel it", account.ErrState, o.Meter)
	case err != nil:
		return Job{}, fmt.Errorf("begin recount: %w", err)
	}
	return job, nil
}

func (o *Order) check() error {
	o.In = period.Interval{Start: border(o.In.Start), End: border(o.In.End)}
	if !o.In.Start.IsZero() && o.In.Empty() {
		return &Invalid{"/to", "must lie after from", "from is " + period.Format(o.In.Start)}
	}
	if len(o.Reason) > reasonMax || !utf8.ValidString(o.Reason) || strings.ContainsFunc(o.Reason, unicode.IsControl) {
		return &Invalid{"/reason", fmt.Sprintf("must be a text of at most %d bytes on one line", reasonMax), "say it shorter"}
	}
	if o.Reason == "" {
		o.Reason = "the meter was changed"
	}
	return nil
}

// border cuts an instant from outside; none stays none.
func border(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return period.Truncate(t)
}

// Cancel ends a job; what it has changed stays. account.ErrNotFound, account.ErrState when it has ended already.
func (s *Service) Cancel(ctx context.Context, actor, id string) (Job, error) {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	a, err := s.audit(actor, "recount.cancel", id, map[string]any{})
	if err != nil {
		return Job{}, err
	}
	job, err := s.cfg.Records.CancelRecount(ctx, id, period.Truncate(s.cfg.Now()), a)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Job{}, absent(id)
	case errors.Is(err, store.ErrConflict):
		if job, err = s.Job(ctx, id); err != nil {
			return Job{}, err
		}
		return Job{}, fmt.Errorf("%w: recount %s is %s already", account.ErrState, id, job.State)
	case err != nil:
		return Job{}, fmt.Errorf("cancel recount: %w", err)
	}
	return job, nil
}

// Job finds a job by its id. account.ErrNotFound.
func (s *Service) Job(ctx context.Context, id string) (Job, error) {
	job, err := s.cfg.Records.Recount(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return Job{}, absent(id)
	}
	if err != nil {
		return Job{}, fmt.Errorf("read recount: %w", err)
	}
	return job, nil
}

// Jobs lists jobs, newest first. A limit of 0 is 100, the most is 1000.
func (s *Service) Jobs(ctx context.Context, q Query) ([]Job, error) {
	if q.Limit <= 0 {
		q.Limit = pageUsual
	}
	q.Limit = min(q.Limit, pageMax)
	list, err := s.cfg.Records.ListRecounts(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list recounts: %w", err)
	}
	return list, nil
}

func absent(id string) error {
	return fmt.Errorf("there is no recount %q, `tally meters recounts` lists all: %w", id, account.ErrNotFound)
}

func (s *Service) audit(actor, action, target string, detail map[string]any) (store.Audit, error) {
	now := period.Truncate(s.cfg.Now())
	id, err := account.NewID("aud", now, s.cfg.Random)
	if err != nil {
		return store.Audit{}, err
	}
	for name, v := range detail {
		if t, ok := v.(time.Time); ok && t.IsZero() {
			delete(detail, name)
		}
	}
	b, err := json.Marshal(detail)
	if err != nil {
		return store.Audit{}, err
	}
	return store.Audit{ID: id, Time: now, Actor: actor, Action: action, Target: target, Detail: string(b)}, nil
}

// position is the journal's end now.
func (s *Service) position(ctx context.Context) (position uint64, err error) {
	err = s.cfg.Journal.View(ctx, func(v store.View) error { position = v.Position(); return nil })
	if err != nil {
		return 0, fmt.Errorf("read the journal's position: %w", err)
	}
	return position, nil
}
