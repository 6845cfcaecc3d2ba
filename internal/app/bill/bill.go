// Package bill closes billing periods, rates them, finalizes invoices, previews them at any time, traces lines to
// requests, and balances the books. Every figure it takes from the journal names the journal position it was taken at.
package bill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// Directory is what billing needs to know of customers and prices; govern.Service fits. It answers from memory, but for
// Version, which may load an old catalog.
type Directory interface {
	Current() *catalog.Compiled
	Version(ctx context.Context, v int64) (*catalog.Compiled, error)
	Customer(ref string) (account.Customer, bool)
	Customers() []account.Customer
	SubscriptionsOf(customerID string) []account.Subscription
	ActiveSubscription(customerID string, at time.Time) (account.Subscription, bool)
	History(subscriptionID string) (h subscription.History, ok bool)
	Grants(customerID string) []account.Grant // in order of creation
}

// Coupons knows what customers redeemed, in order of creation.
type Coupons interface {
	Redemptions(customerID string) []account.Redemption
}

// Balances knows customers' money; store.Ledger fits.
type Balances interface {
	Balance(ctx context.Context, customerID string, a ledger.Account) (money.Amount, error)
}

// Config is what a Service needs. Directory, Journal, Invoices and Now are required.
type Config struct {
	Directory Directory
	Journal   store.Journal
	Invoices  store.Invoices
	Coupons   Coupons          // nil: there are none
	Balances  Balances         // nil: nobody has any
	Taxes     Taxes            // default: the catalog's rules
	Now       func() time.Time // business clock
	Grace     time.Duration    // a period is closed this long after its end, where the catalog does not say; default 0
	// Settled returns when every gateway decision before the instant is in the journal (bounded wait); may be nil.
	Settled func(ctx context.Context, before time.Time) error
	// Seal commits to closes before they are finalized. It is called again after a crash, with the same. May be nil.
	Seal func(ctx context.Context, list []store.Sealing) error
	Log  *slog.Logger // default: discard
}

// Service is safe for concurrent use, also by several processes over the same stores.
type Service struct {
	cfg Config

	ticking sync.Mutex // one Tick at a time
	queue   queue      // owned by ticking
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Directory == nil, cfg.Journal == nil, cfg.Invoices == nil, cfg.Now == nil:
		return nil, errors.New("bill: directory, journal, invoices and clock are required")
	case cfg.Grace < 0:
		return nil, fmt.Errorf("bill: grace %v is negative", cfg.Grace)
	}
	if cfg.Taxes == nil {
		cfg.Taxes = rules{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg}, nil
}

// grace is how long after its end a period is closed.
func (s *Service) grace() time.Duration {
	if text := s.cfg.Directory.Current().Billing.Grace; text != "" {
		if d, err := time.ParseDuration(text); err == nil && d >= 0 {
			return d
		}
	}
	return s.cfg.Grace
}

// Invoice finds a finalized invoice by id. account.ErrNotFound.
func (s *Service) Invoice(ctx context.Context, id string) (invoice.Invoice, error) {
	inv, err := s.cfg.Invoices.Invoice(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return invoice.Invoice{}, absent(fmt.Sprintf("there is no invoice %q; `tally invoices list` shows all", id))
	}
	if err != nil {
		return invoice.Invoice{}, fmt.Errorf("read invoice %s: %w", id, err)
	}
	return inv, nil
}

// Invoices lists finalized invoices, newest number first. The query's CustomerID may be a customer's key. A limit of 0
// is 100. account.ErrNotFound for an unknown customer, account.ErrInvalid for a bad cursor.
func (s *Service) Invoices(ctx context.Context, q store.Query) ([]invoice.Invoice, error) {
	if q.CustomerID != "" {
		c, err := s.customer(q.CustomerID)
		if err != nil {
			return nil, err
		}
		q.CustomerID = c.ID
	}
	q.Limit = pageLimit(q.Limit)
	list, err := s.cfg.Invoices.ListInvoices(ctx, q)
	if q.Cursor != "" && errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("cursor %q is not the id of an invoice: %w", q.Cursor, account.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("list invoices: %w", err)
	}
	return list, nil
}

func (s *Service) customer(ref string) (account.Customer, error) {
	c, ok := s.cfg.Directory.Customer(ref)
	if !ok {
		return account.Customer{}, absent(fmt.Sprintf("there is no customer %q; `tally customers list` shows all", ref))
	}
	return c, nil
}

// pageMax is the longest page, pageStandard the one that nobody asked for otherwise.
const (
	pageStandard = 100
	pageMax      = 1000
)

func pageLimit(asked int) int {
	if asked <= 0 {
		return pageStandard
	}
	return min(asked, pageMax)
}

// absent says what is not there. It is account.ErrNotFound for the layers above, which do not know the stores, and
// store.ErrNotFound for those that do.
type absent string

func (a absent) Error() string { return string(a) }

// Is makes errors.Is find both sentinels.
func (absent) Is(target error) bool {
	return target == account.ErrNotFound || target == store.ErrNotFound
}
