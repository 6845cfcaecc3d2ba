// Package credits grants usage credits, voids them and tells what is left of them; it has coupons redeemed, and tops credits up.
//
// A balance is nowhere stored: it follows from the grants and from what the journal counts (core/credit), so that usage which comes
// late, is amended or voided changes it like everything else.
package credits

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
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/credit"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of a customer's credits.
const (
	reasonMax = 500 // bytes
	grantsMax = 10_000
	actorMax  = 256
	metersMax = 50 // that a grant of money names
	pageUsual = 100
	pageMax   = 1000
)

// Accounts is who there is, and what they have subscribed to.
type Accounts interface {
	Current() *catalog.Compiled
	Version(ctx context.Context, v int64) (*catalog.Compiled, error)
	Customer(ref string) (account.Customer, bool) // by id or key
	Customers() []account.Customer
	SubscriptionsOf(customerID string) []account.Subscription
}

// Directory is the picture in memory of accounts and of what is kept here: the hot path reads it, and is told of changes.
type Directory interface {
	Accounts
	Grants(customerID string) []account.Grant
	PutGrant(g account.Grant)
	Redemptions(customerID string) []account.Redemption
	PutRedemption(r account.Redemption)
}

// Records is what is kept.
type Records interface {
	PutGrant(ctx context.Context, g account.Grant, posted []ledger.Entry, a store.Audit) error
	VoidGrant(ctx context.Context, id string, at time.Time, reason string, a store.Audit) (account.Grant, error)
	ListGrants(ctx context.Context, q store.Query) ([]account.Grant, error)
	store.Credits
}

// Journal is what was used.
type Journal interface {
	Cut(ctx context.Context, customerID string, at time.Time) error
	View(ctx context.Context, read func(store.View) error) error
}

// Config of a Service; all fields but Spent are required.
type Config struct {
	Directory Directory
	Records   Records
	Journal   Journal
	// Flush has all that was decided until now in the journal.
	Flush  func(ctx context.Context) error
	Now    func() time.Time // business clock
	Random io.Reader
	// Tell stores a notice; of two with the same Once, one.
	Tell func(ctx context.Context, m notify.Message) error
	// Spent is what a customer's usage costs before credits, up to an instant, as invoices rate it. nil: it costs nothing.
	Spent func(ctx context.Context, customerID string, at time.Time) (credit.Spent, error)
}

// Service is safe for concurrent use. It is the only writer of its records.
type Service struct {
	cfg     Config
	writing sync.Mutex // held for the whole of each write, and guards cfg.Random
	ticking sync.Mutex // held by Tick; guards the fields below
	marks   map[purse]account.CreditMark
	told    map[string]bool // grants of top-ups
	next    int             // index of the customer that the next Tick begins with
}

// New reads what was told of credits that run low, and has usage told apart at the instants at which grants change: those that
// older versions made too.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Records == nil || cfg.Journal == nil || cfg.Flush == nil || cfg.Now == nil || cfg.Random == nil || cfg.Tell == nil {
		return nil, errors.New("credits: incomplete configuration")
	}
	if cfg.Spent == nil {
		cfg.Spent = func(context.Context, string, time.Time) (none credit.Spent, _ error) { return none, nil }
	}
	s := &Service{cfg: cfg, marks: map[purse]account.CreditMark{}, told: map[string]bool{}}
	marks, err := cfg.Records.CreditMarks(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range marks {
		s.marks[purse{m.CustomerID, m.Meter}] = m
	}
	for _, c := range cfg.Directory.Customers() {
		for _, g := range cfg.Directory.Grants(c.ID) {
			if err := s.cut(ctx, &g); err != nil {
				return nil, fmt.Errorf("grant %s: %w", g.ID, err)
			}
		}
	}
	return s, nil
}

// purse is what has one balance: a meter's units, or money.
type purse struct{ customerID, meter string }

// cut has the journal tell usage apart before and after the instants at which a grant changes. Refills lie on its grid.
func (s *Service) cut(ctx context.Context, g *account.Grant) error {
	for _, at := range []time.Time{g.EffectiveAt, g.ExpiresAt, g.VoidedAt} {
		if at.IsZero() || period.BucketStart(at).Equal(at) {
			continue
		}
		if err := s.cfg.Journal.Cut(ctx, g.CustomerID, at); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) now() time.Time { return period.Truncate(s.cfg.Now()) }

func (s *Service) customer(ref string) (account.Customer, error) {
	c, ok := s.cfg.Directory.Customer(ref)
	if !ok {
		return c, fmt.Errorf("there is no customer %q, `tally customers list` shows all: %w", ref, account.ErrNotFound)
	}
	return c, nil
}

// audit builds an entry; writing is held.
func (s *Service) audit(now time.Time, actor, action, target string, detail map[string]string) (store.Audit, error) {
	if actor == "" || len(actor) > actorMax {
		return store.Audit{}, fmt.Errorf("credits: the actor has %d bytes, want 1 to %d: %w", len(actor), actorMax, account.ErrInvalid)
	}
	id, err := account.NewID("aud", now, s.cfg.Random)
	if err != nil {
		return store.Audit{}, err
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return store.Audit{}, fmt.Errorf("audit detail: %w", err)
	}
	return store.Audit{ID: id, Time: now, Actor: actor, Action: action, Target: target, Detail: string(text)}, nil
}

// query makes a query's customer an id.
func (s *Service) query(q store.Query) (store.Query, error) {
	if q.CustomerID != "" {
		c, err := s.customer(q.CustomerID)
		if err != nil {
			return q, err
		}
		q.CustomerID = c.ID
	}
	if q.Limit <= 0 {
		q.Limit = pageUsual
	}
	q.Limit = min(q.Limit, pageMax)
	return q, nil
}

func checkReason(reason string) error {
	unfit := func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }
	if strings.TrimSpace(reason) == "" || len(reason) > reasonMax || strings.ContainsFunc(reason, unfit) {
		return invalid("/reason", fmt.Sprintf("must be a text of 1 to %d bytes without control characters", reasonMax), "say why, for those who read the audit log")
	}
	return nil
}

func invalid(pointer, rule, fix string) error {
	return &govern.Invalid{Pointer: pointer, Rule: rule, Fix: fix}
}

// absent turns the store's "not found" into that of the layers above.
func absent(what, id string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no %s %q: %w", what, id, account.ErrNotFound)
	}
	return fmt.Errorf("%s %s: %w", what, id, err)
}
