// Package export streams usage events and ledger entries to other systems as they come about: at least once, each message under an
// id that never changes, in the order of the journal for each customer. How far an export is stands in the records, and moves
// only after the sink has acknowledged; so a crash, a change of leader or a sink that was away repeats messages and loses none.
package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds.
const (
	exportsMax = 20      // that there are at a time
	leavesMax  = 500     // records of the journal, and ledger entries, in one batch
	bytesMax   = 4 << 20 // of a batch's content; one message may be larger
	batchesMax = 50      // in one Tick of one export
	errorMax   = 500     // bytes of an error that is kept
	pageUsual  = 100
	pageMax    = 1000

	sendTimeout  = 30 * time.Second
	backoffFirst = time.Second
	backoffMax   = 5 * time.Minute

	reserved = "invoices" // /v1/exports/invoices is something else
)

// What can be exported.
const (
	Events = "events"
	Ledger = "ledger"
)

// Journal is what is read of the usage events; store.Journal fits.
type Journal interface {
	View(ctx context.Context, read func(store.View) error) error
	Leaves(ctx context.Context, from uint64, limit int, each func(store.Leaf) error) (next uint64, err error)
	Event(ctx context.Context, source, id string) (store.Record, error)
	History(ctx context.Context, source, id string) ([]store.Revised, error)
}

// Sinks opens where messages go.
type Sinks interface {
	// Check says what is wrong with a sink's URL without connecting.
	Check(to string) error
	Open(ctx context.Context, to string) (store.Sink, error)
}

// Config of a Service. All fields are required.
type Config struct {
	Journal Journal
	Records store.Exports
	Sinks   Sinks
	Source  string           // of all messages, as CloudEvents have it: which deployment
	Now     func() time.Time // business clock
	Real    func() time.Time // the machine's, for waits between attempts
	Random  io.Reader        // safe for concurrent use
}

// Service is safe for concurrent use.
type Service struct {
	cfg     Config
	writing sync.Mutex // Create: the bound on their number

	mu    sync.Mutex // guards all below
	busy  map[string]bool
	sinks map[string]store.Sink // of exports that are not busy; a busy one's belongs to who works it
	known []Status              // as of the last Tick
	sent  map[string]int64      // messages by export name, since the start of the process
	fails map[string]int64      // attempts
}

// Status is an export and how much it has to tell yet.
type Status struct {
	store.Export
	BehindRecords uint64 // of the journal, not all of which are told
	BehindEntries int64  // of the ledger, at most
}

// State is where it stands: running, failing or paused.
func (s Status) State() string {
	switch {
	case s.Paused:
		return "paused"
	case s.Failures > 0:
		return "failing"
	}
	return "running"
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Journal == nil || cfg.Records == nil || cfg.Sinks == nil || cfg.Source == "" || cfg.Now == nil || cfg.Real == nil || cfg.Random == nil {
		return nil, errors.New("export: incomplete configuration")
	}
	return &Service{cfg: cfg, busy: map[string]bool{}, sinks: map[string]store.Sink{}, sent: map[string]int64{}, fails: map[string]int64{}}, nil
}

// Invalid is a refused export.
type Invalid = govern.Invalid

// NewExport is what an export is made of.
type NewExport struct {
	Name string
	To   string
	What []string // Events, Ledger; empty: both
	From string   // "now" or "start"; empty: now
}

// Create adds an export, which begins at the next Tick. Invalid, account.ErrExists.
func (s *Service) Create(ctx context.Context, actor string, n NewExport) (Status, error) {
	now := period.Truncate(s.cfg.Now())
	e := store.Export{Name: n.Name, To: n.To, CreatedAt: now}
	if err := s.check(n, &e); err != nil {
		return Status{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	all, err := s.cfg.Records.ListExports(ctx, store.Query{Limit: exportsMax})
	if err != nil {
		return Status{}, fmt.Errorf("create export: %w", err)
	}
	if len(all) >= exportsMax {
		return Status{}, &Invalid{Pointer: "/name", Rule: fmt.Sprintf("there are %d exports, the most there may be", len(all)), Fix: "delete one"}
	}
	if n.From != "start" {
		if e.Cursor, err = s.end(ctx); err != nil {
			return Status{}, err
		}
	}
	if e.ID, err = account.NewID("exp", now, s.cfg.Random); err != nil {
		return Status{}, err
	}
	a, err := s.audit(now, actor, "export.create", e.ID, map[string]string{"name": e.Name, "to": e.To})
	if err != nil {
		return Status{}, err
	}
	if err := s.cfg.Records.PutExport(ctx, e, a); errors.Is(err, store.ErrExists) {
		return Status{}, fmt.Errorf("there is an export %q already: %w", e.Name, account.ErrExists)
	} else if err != nil {
		return Status{}, fmt.Errorf("create export: %w", err)
	}
	return s.status(ctx, e)
}

// check reads what an export is to be.
func (s *Service) check(n NewExport, e *store.Export) error {
	if err := account.ValidKey(n.Name); err != nil {
		return &Invalid{Pointer: "/name", Rule: err.Error(), Fix: "choose a short name such as warehouse"}
	}
	if n.Name == reserved {
		return &Invalid{Pointer: "/name", Rule: fmt.Sprintf("%q is taken by the download of invoices", n.Name), Fix: "choose another name"}
	}
	if err := s.cfg.Sinks.Check(n.To); err != nil {
		return &Invalid{Pointer: "/to", Rule: err.Error(), Fix: "such as kafka://broker:9092/tally or nats://server:4222/tally"}
	}
	if n.From != "" && n.From != "now" && n.From != "start" {
		return &Invalid{Pointer: "/from", Rule: fmt.Sprintf("%q is not known", n.From), Fix: "now or start"}
	}
	for i, w := range n.What {
		switch w {
		case Events:
			e.Events = true
		case Ledger:
			e.Entries = true
		default:
			return &Invalid{Pointer: fmt.Sprintf("/what/%d", i), Rule: fmt.Sprintf("%q cannot be exported", w), Fix: "events, ledger or both"}
		}
	}
	if len(n.What) == 0 {
		e.Events, e.Entries = true, true
	}
	return nil
}

// end is the cursor behind all that there is.
func (s *Service) end(ctx context.Context) (c store.Cursor, err error) {
	if err := s.cfg.Journal.View(ctx, func(v store.View) error { c.Position = v.Position(); return nil }); err != nil {
		return c, fmt.Errorf("read the journal's position: %w", err)
	}
	if c.Entry, err = s.cfg.Records.LastEntry(ctx); err != nil {
		return c, fmt.Errorf("read the ledger's last entry: %w", err)
	}
	return c, nil
}

func (s *Service) audit(now time.Time, actor, action, target string, detail map[string]string) (store.Audit, error) {
	text, err := json.Marshal(detail)
	if err != nil {
		return store.Audit{}, err
	}
	id, err := account.NewID("aud", now, s.cfg.Random)
	return store.Audit{ID: id, Time: now, Actor: actor, Action: action, Target: target, Detail: string(text)}, err
}

func (s *Service) status(ctx context.Context, e store.Export) (Status, error) {
	end, err := s.end(ctx)
	return behind(e, end), err
}

func behind(e store.Export, end store.Cursor) Status {
	out := Status{Export: e}
	if e.Events && end.Position > e.Position {
		out.BehindRecords = end.Position - e.Position
	}
	if e.Entries && end.Entry > e.Entry {
		out.BehindEntries = end.Entry - e.Entry
	}
	return out
}

// Get is one of them, by id or name. account.ErrNotFound.
func (s *Service) Get(ctx context.Context, ref string) (Status, error) {
	e, err := s.find(ctx, ref)
	if err != nil {
		return Status{}, err
	}
	return s.status(ctx, e)
}

func (s *Service) find(ctx context.Context, ref string) (store.Export, error) {
	e, err := s.cfg.Records.Export(ctx, ref)
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("there is no export %q, `tally exports list` shows all: %w", ref, account.ErrNotFound)
	}
	return e, err
}

// List pages through all, newest first.
func (s *Service) List(ctx context.Context, q store.Query) ([]Status, error) {
	if q.Limit <= 0 {
		q.Limit = pageUsual
	}
	q.Limit = min(q.Limit, pageMax)
	all, err := s.cfg.Records.ListExports(ctx, q)
	if err != nil {
		return nil, err
	}
	end, err := s.end(ctx)
	out := make([]Status, len(all))
	for i, e := range all {
		out[i] = behind(e, end)
	}
	return out, err
}

// Pause stops or resumes one; what is under way may still be sent. account.ErrNotFound.
func (s *Service) Pause(ctx context.Context, actor, ref string, paused bool) (Status, error) {
	e, err := s.find(ctx, ref)
	if err != nil {
		return Status{}, err
	}
	action := "export.resume"
	if paused {
		action = "export.pause"
	}
	a, err := s.audit(period.Truncate(s.cfg.Now()), actor, action, e.ID, map[string]string{"name": e.Name})
	if err != nil {
		return Status{}, err
	}
	if e, err = s.cfg.Records.PauseExport(ctx, e.ID, paused, a); err != nil {
		return Status{}, gone(err, ref)
	}
	return s.status(ctx, e)
}

// Delete ends one; what it had sent stays where it is. account.ErrNotFound.
func (s *Service) Delete(ctx context.Context, actor, ref string) (Status, error) {
	e, err := s.find(ctx, ref)
	if err != nil {
		return Status{}, err
	}
	last, err := s.status(ctx, e)
	if err != nil {
		return last, err
	}
	a, err := s.audit(period.Truncate(s.cfg.Now()), actor, "export.delete", e.ID, map[string]string{"name": e.Name})
	if err != nil {
		return last, err
	}
	return last, gone(s.cfg.Records.DeleteExport(ctx, e.ID, a), ref)
}

func gone(err error, ref string) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no export %q any more: %w", ref, account.ErrNotFound)
	}
	return err
}

// Counted is an export with what happened to it since the start of the process.
type Counted struct {
	Status
	Sent, Failed int64 // messages acknowledged, attempts failed
}

// Stats are as of the last Tick.
func (s *Service) Stats() []Counted {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Counted, len(s.known))
	for i, st := range s.known {
		out[i] = Counted{st, s.sent[st.Name], s.fails[st.Name]}
	}
	return out
}

// stale is how long an export may have something to tell without telling it.
const stale = time.Minute

// Examine says of each export whether it does its work; one that stands still by itself is a warning.
func (s *Service) Examine(ctx context.Context) []store.Check {
	all, err := s.List(ctx, store.Query{Limit: exportsMax})
	if err != nil {
		return []store.Check{{Name: "exports", Result: store.CheckFail, Detail: err.Error(), Fix: "See whether the server reaches its records and its journal."}}
	}
	s.mu.Lock()
	was := map[string]Status{}
	for _, e := range s.known {
		was[e.ID] = e
	}
	s.mu.Unlock()
	out := make([]store.Check, len(all))
	for i, e := range all {
		out[i] = e.check(was[e.ID], s.cfg.Real())
	}
	return out
}

// check judges an export by what it is, and was at the last Tick.
func (s Status) check(was Status, now time.Time) store.Check {
	behind := fmt.Sprintf("%d records and %d ledger entries behind", s.BehindRecords, s.BehindEntries)
	c := store.Check{Name: "export " + s.Name, Result: store.CheckOK, Detail: behind}
	since := s.MovedAt
	if since.IsZero() {
		since = s.CreatedAt
	}
	switch idle := now.Sub(since); {
	case s.Paused:
		c.Result, c.Detail, c.Fix = store.CheckWarn, "paused, "+behind, "Let it go on with `tally exports resume "+s.Name+"`."
	case s.Failures > 0:
		c.Result, c.Detail = store.CheckFail, fmt.Sprintf("%d attempts failed since it last sent, %s: %s", s.Failures, behind, s.LastError)
		c.Fix = "Set the sink right; nothing is left out meanwhile, and it is tried again at " + s.NextAt.UTC().Format(time.RFC3339) + "."
	case was.BehindRecords > 0 || was.BehindEntries > 0: // else it came just now
		if was.Cursor != s.Cursor || idle <= stale {
			break
		}
		c.Result, c.Detail = store.CheckWarn, fmt.Sprintf("%s, and nothing was sent for %s", behind, idle.Round(time.Second))
		c.Fix = "See the server's log for its loop exports."
	}
	return c
}

// said is an error as it is kept.
func said(err error) string {
	text := strings.ToValidUTF8(err.Error(), "?")
	return strings.ToValidUTF8(text[:min(len(text), errorMax)], "")
}
