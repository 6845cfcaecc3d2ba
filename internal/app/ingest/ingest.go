// Package ingest takes usage reported from outside: resolves it to customer and meters and appends it to the journal. It also answers usage queries.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/store"
)

// MaxEvents and MaxBytes bound one call, MaxEvent one event and its data.
const (
	MaxEvents = 10_000
	MaxBytes  = 16 << 20
	MaxEvent  = 64 << 10
)

// MaxUnits bounds one event's value, in units of the meter's scale: 10^15. So counters, which are int64, hold thousands of the
// largest, and what nobody can have used is refused before it stands in the books for ever.
const MaxUnits = 1_000_000_000_000_000

// Event times may lie this far from now where the catalog says nothing else.
const (
	AheadMax = catalog.AheadDefault
	AgeMax   = catalog.AgeDefault
)

const (
	textMax    = 256   // bytes of source, id, type, subject, trace and of a dimension
	chunkMax   = 1000  // events of one journal batch
	metersMax  = 64    // that read one event, the journal's bound
	windowsMax = 10000 // of one answer
	pageUsual  = 100
	pageMax    = 1000
)

// gatewaySources begin the sources of our own gateways; nobody else may write them.
const gatewaySources = "gateway/"

// ErrFull is the journal without room or time for a batch now; transports know it by this name.
var ErrFull = store.ErrFull

// Scan asks for a page of events; its CustomerID may be a customer's key here.
type Scan = store.Scan

// SeriesKey names a customer's meter.
type SeriesKey = store.SeriesKey

// Page is a page of events.
type Page = store.Page

// Record is a stored event.
type Record = store.Record

// Directory is what ingest needs to know of accounts and catalog; govern.Service fits.
type Directory interface {
	Current() *catalog.Compiled
	Customer(ref string) (account.Customer, bool)
	ActiveSubscription(customerID string, at time.Time) (account.Subscription, bool)
}

// Config of a Service.
type Config struct {
	Directory Directory        // required
	Journal   store.Journal    // required
	Now       func() time.Time // business clock; required
	// Counted is told which customers have new reported usage, after the receipt; may be nil.
	Counted func(customerIDs []string)
	// Flush makes settled gateway usage visible before a query; may be nil.
	Flush func(context.Context) error
}

// Service is safe for concurrent use.
type Service struct {
	cfg     Config
	reading latest
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Journal == nil || cfg.Now == nil {
		return nil, errors.New("ingest: directory, journal and clock are required")
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

func (e *Invalid) Error() string {
	return fmt.Sprintf("%s %s: %s", e.Pointer, e.Rule, e.Fix)
}

// Unwrap makes it an account.ErrInvalid.
func (e *Invalid) Unwrap() error { return account.ErrInvalid }

// Event finds a stored event by its identity. account.ErrNotFound.
func (s *Service) Event(ctx context.Context, source, id string) (Record, error) {
	if err := s.flush(ctx); err != nil {
		return Record{}, err
	}
	r, err := s.cfg.Journal.Event(ctx, source, id)
	if errors.Is(err, store.ErrNotFound) {
		return Record{}, fmt.Errorf("event %q of source %q: %w", id, source, account.ErrNotFound)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read event: %w", err)
	}
	return r, nil
}

// Events lists stored events. The scan's CustomerID may be a customer's key; a limit of 0 is 100, the most is 1000.
// account.ErrNotFound for an unknown customer.
func (s *Service) Events(ctx context.Context, q Scan) (Page, error) {
	if q.CustomerID != "" {
		c, err := s.customer(q.CustomerID)
		if err != nil {
			return Page{}, err
		}
		q.CustomerID = c.ID
	}
	if q.Limit <= 0 {
		q.Limit = pageUsual
	}
	q.Limit = min(q.Limit, pageMax)
	if err := s.flush(ctx); err != nil {
		return Page{}, err
	}
	p, err := s.cfg.Journal.Scan(ctx, q)
	if errors.Is(err, store.ErrInvalid) {
		return Page{}, fmt.Errorf("%w: %w", account.ErrInvalid, err)
	}
	if err != nil {
		return Page{}, fmt.Errorf("list events: %w", err)
	}
	return p, nil
}

func (s *Service) flush(ctx context.Context) error {
	if err := s.cfg.Flush(ctx); err != nil {
		return fmt.Errorf("ship the gateway's usage first: %w", err)
	}
	return nil
}

func (s *Service) customer(ref string) (account.Customer, error) {
	c, ok := s.cfg.Directory.Customer(ref)
	if !ok {
		return account.Customer{}, fmt.Errorf("there is no customer %q, `tally customers list` shows all: %w", ref, account.ErrNotFound)
	}
	return c, nil
}
