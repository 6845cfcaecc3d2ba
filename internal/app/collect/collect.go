// Package collect is what becomes of finalized invoices: payments, deposits to money balances, voiding, giving up, credit notes,
// and dunning. Each change is one transaction: the invoice's next standing, the ledger's entries, and the document behind them.
package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	textMax   = 500 // bytes of a reason, reference, method or note
	pageUsual = 100
	pageMax   = 1000
)

// Invalid is a refused call.
type Invalid = govern.Invalid

// Directory is what collecting needs to know of customers and the catalog; govern.Service fits.
type Directory interface {
	Current() *catalog.Compiled
	Customer(ref string) (account.Customer, bool)
}

// Records is what is kept.
type Records interface {
	store.Money
	Invoice(ctx context.Context, id string) (invoice.Invoice, error)
}

// ErrDeclined is a Provider's answer when the customer's means do not pay; trying again later may help.
var ErrDeclined = errors.New("declined")

// Charge asks for money.
type Charge struct {
	Key                   string // the same try has the same: a provider does it once
	CustomerID, InvoiceID string
	Amount                money.Amount
}

// Provider collects money by itself. Any error but ErrDeclined leaves open whether it was paid: the same charge is asked for
// again.
type Provider interface {
	Charge(ctx context.Context, c Charge) (reference string, err error)
}

// Config of a Service. All but Provider and Suspend are required.
type Config struct {
	Directory Directory
	Records   Records
	Now       func() time.Time // business clock
	Random    io.Reader        // safe for concurrent use
	// Post stores a notice before it returns; of two with the same Once the first is kept.
	Post func(ctx context.Context, m notify.Message) error
	// Suspend says that a customer's requests are to be refused, or no longer. nil: nobody is told.
	Suspend  func(customerID string, suspended bool)
	Provider Provider // nil: money comes in by recorded payments alone
	Log      *slog.Logger
}

// Service is safe for concurrent use. It is the only writer of standings but for the first ones, which come with the invoices.
type Service struct {
	cfg Config

	mu        sync.Mutex      // held for the whole of each write and each Tick; guards all below
	suspended map[string]bool // by customer id
	loaded    bool            // suspended was read
	unposted  int64           // where to look for invoices that were finalized without a standing
	after     *invoice.Standing
	rounds    time.Time // when the last round of dunning began; zero: none did
	round     time.Time // of the one that runs; zero: none
	checked   []store.Conservation
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Records == nil || cfg.Now == nil || cfg.Random == nil || cfg.Post == nil || cfg.Log == nil {
		return nil, errors.New("collect: incomplete configuration")
	}
	if cfg.Suspend == nil {
		cfg.Suspend = func(string, bool) {}
	}
	return &Service{cfg: cfg, suspended: map[string]bool{}}, nil
}

func (s *Service) now() time.Time { return period.Truncate(s.cfg.Now()) }

// audit is the entry of an action.
func (s *Service) audit(now time.Time, actor, action, target string, detail map[string]string) (store.Audit, error) {
	if actor == "" {
		return store.Audit{}, fmt.Errorf("collect: no actor: %w", account.ErrInvalid)
	}
	id, err := account.NewID("aud", now, s.cfg.Random)
	if err != nil {
		return store.Audit{}, err
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return store.Audit{}, err
	}
	return store.Audit{ID: id, Time: now, Actor: actor, Action: action, Target: target, Detail: string(text)}, nil
}

// move stores a movement. account.ErrState: another writer was first, or the balance does not cover it.
func (s *Service) move(ctx context.Context, m store.Movement, a store.Audit) error {
	err := s.cfg.Records.Move(ctx, m, a)
	switch {
	case errors.Is(err, store.ErrUncovered):
		return fmt.Errorf("%w: the customer's balance does not cover it", account.ErrState)
	case errors.Is(err, store.ErrConflict):
		return fmt.Errorf("%w: %s changed meanwhile", account.ErrState, a.Target)
	case err != nil:
		return fmt.Errorf("%s of %s: %w", a.Action, a.Target, err)
	}
	return nil
}

// invoice reads one. account.ErrNotFound.
func (s *Service) invoice(ctx context.Context, id string) (invoice.Invoice, error) {
	inv, err := s.cfg.Records.Invoice(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return inv, fmt.Errorf("there is no invoice %q; `tally invoices list` shows all: %w", id, account.ErrNotFound)
	}
	return inv, err
}

// standing reads an invoice's newest one, and posts the invoice first where that did not happen yet; mu is held.
func (s *Service) standing(ctx context.Context, id string) (invoice.Standing, error) {
	for range 2 {
		all, err := s.cfg.Records.Standings(ctx, []string{id})
		if err != nil {
			return invoice.Standing{}, err
		}
		if st, ok := all[id]; ok {
			return st, nil
		}
		if err := s.post(ctx, id); err != nil {
			return invoice.Standing{}, err
		}
	}
	return invoice.Standing{}, fmt.Errorf("invoice %s has no standing: %w", id, store.ErrCorrupt)
}

// post stores what an invoice of an older version posts, and its first standing; mu is held.
func (s *Service) post(ctx context.Context, id string) error {
	inv, err := s.invoice(ctx, id)
	if err != nil {
		return err
	}
	const actor = "system"
	first, err := invoice.Open(inv, actor)
	if err != nil {
		return err
	}
	entries, err := ledger.OfInvoice(inv, nil) // before there were credit lines
	if err != nil {
		return err
	}
	a, err := s.audit(s.now(), actor, "invoice.post", inv.ID, map[string]string{"total": inv.Total.String()})
	if err != nil {
		return err
	}
	err = s.cfg.Records.Move(ctx, store.Movement{Standing: &first, Entries: entries}, a)
	if err != nil && !errors.Is(err, store.ErrConflict) { // then somebody did it first
		return fmt.Errorf("post invoice %s: %w", inv.ID, err)
	}
	return nil
}

// View is an invoice's standing as it is shown.
type View struct {
	invoice.Standing
	Shown     invoice.Status // past_due too
	Remaining money.Amount   // what is left to pay; of an uncollectible invoice what was given up
}

func (s *Service) view(st invoice.Standing) View {
	return View{st, st.StatusAt(s.cfg.Now()), st.Remaining()}
}

// Views are the standings of finalized invoices, in their order.
func (s *Service) Views(ctx context.Context, invoices []invoice.Invoice) ([]View, error) {
	ids := make([]string, len(invoices))
	for i := range invoices {
		ids[i] = invoices[i].ID
	}
	all, err := s.cfg.Records.Standings(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read standings: %w", err)
	}
	out := make([]View, len(invoices))
	for i := range invoices {
		st, ok := all[invoices[i].ID]
		if !ok {
			if st, err = invoice.Open(invoices[i], "system"); err != nil {
				return nil, err
			}
		}
		out[i] = s.view(st)
	}
	return out, nil
}

// History is all that became of an invoice, oldest first. account.ErrNotFound.
func (s *Service) History(ctx context.Context, id string) ([]invoice.Standing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.standing(ctx, id); err != nil {
		return nil, err
	}
	return s.cfg.Records.StandingHistory(ctx, id)
}

// BalanceOf is the money that a customer has with the seller: what pays the next invoice. Never below 0.
func (s *Service) BalanceOf(ctx context.Context, customerID string) (money.Amount, error) {
	sum, err := s.cfg.Records.Balance(ctx, customerID, ledger.Balance)
	if err != nil {
		return money.Amount{}, fmt.Errorf("balance of %s: %w", customerID, err)
	}
	return money.NewAmount(-sum.Minor(), sum.Currency()), nil
}

// Owed is what a customer owes on invoices that are open.
func (s *Service) Owed(ctx context.Context, customerID string) (money.Amount, error) {
	return s.cfg.Records.Balance(ctx, customerID, ledger.Receivable)
}

// Entries pages through the ledger, newest first.
func (s *Service) Entries(ctx context.Context, q store.EntryQuery) ([]ledger.Entry, error) {
	q.Limit = limit(q.Limit)
	return s.cfg.Records.Entries(ctx, q)
}

// Payments pages through what was paid, newest first.
func (s *Service) Payments(ctx context.Context, q store.RecordQuery) ([]store.Payment, error) {
	q.Limit = limit(q.Limit)
	return s.cfg.Records.Payments(ctx, q)
}

// CreditNotes pages through them, newest first.
func (s *Service) CreditNotes(ctx context.Context, q store.RecordQuery) ([]store.CreditNote, error) {
	q.Limit = limit(q.Limit)
	return s.cfg.Records.CreditNotes(ctx, q)
}

func limit(asked int) int {
	if asked <= 0 {
		return pageUsual
	}
	return min(asked, pageMax)
}

// Check compares the ledger with the documents, by currency. It reads the whole ledger.
func (s *Service) Check(ctx context.Context) ([]store.Conservation, error) {
	all, err := s.cfg.Records.Conservation(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.Difference.Minor() != 0 {
			s.cfg.Log.ErrorContext(ctx, "the ledger does not add up", slog.String("currency", c.Currency.Code()),
				slog.String("difference", c.Difference.String()), slog.Any("customers", c.Wrong))
		}
	}
	s.mu.Lock()
	s.checked = all
	s.mu.Unlock()
	return all, nil
}

// Checked is what the last Check found.
func (s *Service) Checked() []store.Conservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checked
}

// checkText refuses what does not fit on a line.
func checkText(pointer, text string, required bool) error {
	if len(text) > textMax || required && text == "" {
		return &Invalid{Pointer: pointer, Rule: fmt.Sprintf("must be a text of at most %d bytes", textMax), Fix: "say it in a sentence"}
	}
	for _, r := range text {
		if r < ' ' || r == '\uFFFD' || r == '\x7f' {
			return &Invalid{Pointer: pointer, Rule: "must be one line of text", Fix: "leave line ends and control characters out"}
		}
	}
	return nil
}
