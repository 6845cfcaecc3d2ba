// Package govern keeps what operators decide: catalog versions, customers, keys, subscriptions, and the audit log of it.
// Its Directory is the in-memory picture that the hot path reads.
package govern

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of what operators write, and of pages.
const (
	nameMax   = 200 // bytes
	actorMax  = 256
	pageUsual = 100
	pageMax   = 1000
	pepperLen = 32
)

// Query asks for a page of a list; a CustomerID in it may be a customer's key here.
type Query = store.Query

// CatalogVersion is an applied catalog as it is stored.
type CatalogVersion = store.CatalogVersion

// Audit is one entry of the audit log.
type Audit = store.Audit

// Records is what govern needs of the records store.
type Records interface {
	store.Catalogs
	store.Accounts
	store.SubscriptionChanges
	store.Allowed
	store.Keys
	store.Producers
	store.Housekeeping
	store.Aliases
}

// Cutter splits a customer's rollups where a subscription begins.
type Cutter interface {
	Cut(ctx context.Context, customerID string, at time.Time) error
}

// Config of a Service; all fields are required.
type Config struct {
	Records Records
	Journal Cutter
	Now     func() time.Time // business clock
	Random  io.Reader
	Pepper  []byte // 32 bytes, secrets/pepper
	Mode    account.Mode
}

// Service is safe for concurrent use; writes are serialized. It is the only writer of its records.
type Service struct {
	cfg       Config
	directory *directory
	senders   senders
	writing   sync.Mutex // held for the whole of each write, and guards cfg.Random
	current   atomic.Pointer[catalog.Compiled]
	versions  versions
}

// New loads the directory from the records.
func New(ctx context.Context, cfg Config) (*Service, error) {
	switch {
	case cfg.Records == nil, cfg.Journal == nil, cfg.Now == nil, cfg.Random == nil:
		return nil, errors.New("govern: records, journal, clock and randomness are required")
	case len(cfg.Pepper) != pepperLen:
		return nil, fmt.Errorf("govern: the pepper has %d bytes, not %d", len(cfg.Pepper), pepperLen)
	case cfg.Mode != account.Live && cfg.Mode != account.Test:
		return nil, fmt.Errorf("govern: mode %q is neither live nor test", cfg.Mode)
	}
	s := &Service{cfg: cfg, directory: newDirectory(cfg.Pepper, cfg.Mode)}
	if err := s.loadCatalogs(ctx); err != nil {
		return nil, err
	}
	if err := s.loadAccounts(ctx); err != nil {
		return nil, fmt.Errorf("load accounts: %w", err)
	}
	return s, nil
}

func (s *Service) loadAccounts(ctx context.Context) error {
	customers, keys := s.cfg.Records.ListCustomers, s.cfg.Records.ListKeys
	if err := all(ctx, customers, func(c account.Customer) string { return c.ID }, s.directory.putCustomer); err != nil {
		return err
	}
	if err := all(ctx, keys, func(k account.APIKey) string { return k.ID }, s.directory.putKey); err != nil {
		return err
	}
	if err := s.loadSubscriptions(ctx); err != nil {
		return err
	}
	if err := s.loadAllowances(ctx); err != nil {
		return err
	}
	if err := s.loadProducers(ctx); err != nil {
		return err
	}
	if err := all(ctx, s.cfg.Records.ListAliases, func(al Alias) string { return al.ID }, s.directory.putAlias); err != nil {
		return err
	}
	if err := s.directory.check(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return nil
}

// all reads a list page by page.
func all[T any](ctx context.Context, list func(context.Context, store.Query) ([]T, error), id func(T) string, put func(T)) error {
	q := store.Query{Limit: pageMax}
	for {
		page, err := list(ctx, q)
		if err != nil {
			return err
		}
		for _, x := range page {
			put(x)
		}
		if len(page) < q.Limit {
			return nil
		}
		q.Cursor = id(page[len(page)-1])
	}
}

// KeyFault says why a key does not authenticate; each is the problem code of the same text.
type KeyFault = account.KeyFault

// The faults of a key.
const (
	KeyMissing = account.FaultMissing
	KeyUnknown = account.FaultUnknown
	KeyRevoked = account.FaultRevoked
	KeyExpired = account.FaultExpired
)

// Principal authenticates a secret: no I/O, bounded work for garbage. fault is "" on success; on revoked/expired p is filled.
func (s *Service) Principal(secret string, now time.Time) (p account.Principal, fault KeyFault) {
	return s.directory.principal(secret, now)
}

// PrincipalOf is Principal for a customer, by id or key, or for a key by its id, without a secret.
func (s *Service) PrincipalOf(ref string, now time.Time) (account.Principal, bool) {
	return s.directory.principalOf(ref, now)
}

// Overrides are those of a customer that may be active now or later; from the directory.
func (s *Service) Overrides(customerID string) []account.Override {
	return s.directory.overridesOf(customerID)
}

// Customer finds a customer by id or key in the directory: no I/O.
func (s *Service) Customer(ref string) (account.Customer, bool) { return s.directory.customer(ref) }

// Customers are all, by key; from the directory.
func (s *Service) Customers() []account.Customer { return s.directory.allCustomers() }

// Invalid is a refused write: which field, what rule, how to fix it. errors.Is(err, account.ErrInvalid).
type Invalid struct{ Pointer, Rule, Fix string } // Pointer: "/zone"

func (e *Invalid) Error() string { return fmt.Sprintf("%s %s: %s", e.Pointer, e.Rule, e.Fix) }

// Unwrap makes it an account.ErrInvalid.
func (e *Invalid) Unwrap() error { return account.ErrInvalid }

func (s *Service) now() time.Time { return period.Truncate(s.cfg.Now()) }

// audit builds an entry; writing is held. The detail must not hold secrets.
func (s *Service) audit(now time.Time, actor, action, target string, detail any) (store.Audit, error) {
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

// Audit records an action that is no write of this package. Detail is a JSON text without secrets, empty for none.
func (s *Service) Audit(ctx context.Context, actor, action, target, detail string) error {
	if detail == "" {
		detail = "{}"
	}
	if !json.Valid([]byte(detail)) {
		return fmt.Errorf("audit %s: the detail is not JSON: %w", action, account.ErrInvalid)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	a, err := s.audit(s.now(), actor, action, target, json.RawMessage(detail))
	if err != nil {
		return err
	}
	if err := s.cfg.Records.PutAudit(ctx, a); err != nil {
		return fmt.Errorf("audit %s: %w", action, err)
	}
	return nil
}

// Audits lists the log, newest first. The query's CustomerID leaves the entries with that target.
func (s *Service) Audits(ctx context.Context, q Query) ([]Audit, error) {
	if c, ok := s.Customer(q.CustomerID); ok {
		q.CustomerID = c.ID
	}
	list, err := s.cfg.Records.ListAudit(ctx, paged(q))
	if err != nil {
		return nil, fmt.Errorf("list audit: %w", err)
	}
	return list, nil
}

func paged(q Query) Query {
	if q.Limit <= 0 {
		q.Limit = pageUsual
	}
	q.Limit = min(q.Limit, pageMax)
	return q
}

// ofCustomer makes a query's customer an id.
func (s *Service) ofCustomer(q Query) (Query, error) {
	if q.CustomerID != "" {
		c, ok := s.Customer(q.CustomerID)
		if !ok {
			return q, fmt.Errorf("there is no customer %q, `tally customers list` shows all: %w", q.CustomerID, account.ErrNotFound)
		}
		q.CustomerID = c.ID
	}
	return paged(q), nil
}

// absent turns the store's "not found" into that of the layers above, which do not know the stores.
func absent(what, id string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no %s %q: %w", what, id, account.ErrNotFound)
	}
	return fmt.Errorf("read %s: %w", what, err)
}

// checkName refuses names that cannot be shown on one line.
func checkName(name string) error {
	if len(name) > nameMax || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return &Invalid{"/name", fmt.Sprintf("must be one line of text of at most %d bytes", nameMax), "shorten it or leave it out"}
	}
	return nil
}

// checkActor guards the audit log against callers that do not say who acts.
func checkActor(actor string) error {
	if actor == "" || len(actor) > actorMax {
		return fmt.Errorf("govern: the actor has %d bytes, want 1 to %d: %w", len(actor), actorMax, account.ErrInvalid)
	}
	return nil
}
