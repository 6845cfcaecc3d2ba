// Package usage answers how much was used: by customers, meter, time, calendar windows and dimensions, each answer at one
// position of the journal.
package usage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of one answer.
const (
	MaxCustomers = 1000    // named in one question
	MaxSeries    = 100_000 // customers that have used the meter, where none is named
	MaxGroups    = 50_000  // before top and paging
	MaxWindows   = 20_000  // over all items of a page
	MaxMeasures  = 50_000  // windows of single customers that cannot be had by adding rollups up
	MaxNames     = 16      // dimensions in GroupBy and in Where
	LimitUsual   = 100     // items of a page
	LimitMax     = 1000
)

// sumsMax is how many series are added up in one view of the journal, measuresMax how many series or windows are measured in
// one: appends wait for it. A longer answer takes several views, and each later one looks at the journal as it stood in the
// first. A view lasts some milliseconds so, some tens of them where customers have events in every bucket of a year.
const (
	sumsMax     = 256
	measuresMax = 16
)

// CustomerGroup is the name in Query.GroupBy that keeps customers apart. A dimension of this name cannot be grouped by.
const CustomerGroup = "customer"

// Directory is what usage needs to know of accounts and catalog; govern.Service fits.
type Directory interface {
	Current() *catalog.Compiled
	Version(ctx context.Context, v int64) (*catalog.Compiled, error)
	Customer(ref string) (account.Customer, bool)
	SubscriptionsOf(customerID string) []account.Subscription
	ActiveSubscription(customerID string, at time.Time) (account.Subscription, bool)
}

// Config of a Service. Directory, Journal and Now are required.
type Config struct {
	Directory Directory
	Journal   store.Journal
	Now       func() time.Time // business clock
	// Flush makes settled gateway usage visible before a question is answered; may be nil.
	Flush func(context.Context) error
	// Lag is how many bytes of the gateway's spool are not in the journal; may be nil.
	Lag func() int64
}

// Service is safe for concurrent use.
type Service struct{ cfg Config }

// New checks cfg and starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Journal == nil || cfg.Now == nil {
		return nil, errors.New("usage: directory, journal and clock are required")
	}
	if cfg.Flush == nil {
		cfg.Flush = func(context.Context) error { return nil }
	}
	if cfg.Lag == nil {
		cfg.Lag = func() int64 { return 0 }
	}
	return &Service{cfg: cfg}, nil
}

// Invalid is a refused question: which parameter, what rule, how to fix it. errors.Is(err, account.ErrInvalid).
type Invalid struct{ Pointer, Rule, Fix string } // Pointer: "/from"

func (e *Invalid) Error() string { return fmt.Sprintf("%s %s: %s", e.Pointer, e.Rule, e.Fix) }

// Unwrap makes it an account.ErrInvalid.
func (e *Invalid) Unwrap() error { return account.ErrInvalid }

// ErrCursor is a cursor that this list did not make. It is an account.ErrInvalid too.
var ErrCursor = fmt.Errorf("%w: the cursor is not of this list", account.ErrInvalid)

// Query is a question.
type Query struct {
	Customers []string // ids or keys; none: all
	Meter     string
	// In with zero bounds is the current billing period of the one customer named (all time without a subscription), else the
	// current month. One zero bound is open. Bounds lie on the 15-minute grid or where a subscription of the customer starts.
	In      period.Interval
	Window  Window            // zero: one figure for the whole time
	Zone    string            // IANA name; empty: the customer's where one is named, else UTC
	GroupBy []string          // dimensions of the meter, and CustomerGroup
	Where   []meter.Dimension // only events that have all of these
	Top     int               // so many groups of the greatest value, greatest first; zero: all, by name
	Limit   int               // items of a page; zero: LimitUsual
	Cursor  string            // Answer.Next; later pages show the journal as it stood for the first one
}

// Answer is a page of usage. All figures are of Position.
type Answer struct {
	Meter    catalog.Meter
	Zone     period.Zone
	In       period.Interval // zero bounds: open
	Items    []Item
	Next     string // empty: no more
	Position uint64
	AsOf     time.Time // business time
	Lag      int64     // bytes that the gateway has decided and the journal does not have
}

// Item is the usage of one group.
type Item struct {
	Customer   account.Customer  // zero where several are added up
	Dimensions []meter.Dimension // in the order of Query.GroupBy
	Figure
	// Windows are those that hold usage, oldest first, clipped to the answer's time. Levels have all of them.
	Windows []WindowFigure
}

// Figure is a metered quantity and how many events it is of. Inexact: 34 significant digits of a division without end.
type Figure struct {
	Value   money.Decimal
	Events  int64
	Inexact bool
}

// WindowFigure is the usage of one window.
type WindowFigure struct {
	period.Interval
	Figure
}

// Ask answers a question. What the gateway settled and what was accepted before the call is in the answer. A level
// (time_weighted) is measured up to the end of the present quarter of an hour at most, and those of several customers are
// added up. account.ErrNotFound for an unknown customer or meter, Invalid and ErrCursor for what cannot be asked.
func (s *Service) Ask(ctx context.Context, q Query) (Answer, error) {
	if err := s.cfg.Flush(ctx); err != nil {
		return Answer{}, fmt.Errorf("ship the gateway's usage first: %w", err)
	}
	p, err := s.plan(ctx, q)
	if err != nil {
		return Answer{}, err
	}
	r := reading{Service: s, plan: p, groups: map[string]*group{}}
	if err := r.answer(ctx); err != nil {
		return Answer{}, fmt.Errorf("usage of %q: %w", q.Meter, err)
	}
	out := Answer{Meter: p.meter, Zone: p.zone, In: p.In, Next: r.next, Position: r.position, AsOf: p.now, Lag: s.cfg.Lag(), Items: make([]Item, 0, len(r.shown))}
	for _, g := range r.shown {
		out.Items = append(out.Items, g.item())
	}
	return out, nil
}
