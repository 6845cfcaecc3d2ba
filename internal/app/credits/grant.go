package credits

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// NewGrant is what an operator says of a grant.
type NewGrant struct {
	Customer    string // id or key
	Meter       string // empty: money
	Amount      string // units of the meter, or an amount in the customer's currency; above 0
	Kind        account.GrantKind
	Priority    int
	Reason      string
	EffectiveAt time.Time // zero: now
	ExpiresAt   time.Time // zero: never
	Meters      []string  // of money: only usage of these; empty: all
	Every       string    // refilled at each of these; empty: never
	Anchor      time.Time // what the refills are counted from; zero: the beginning of the local day on which it takes effect
	// MinRollover and MaxRollover bound what stays at the start of a usage period; both empty: all of it.
	MinRollover, MaxRollover string
	Paid                     string // in the customer's currency; empty: nothing
}

const (
	priorityMax = 1_000_000
	moneyDigits = 12 // decimals of an amount of money
)

// CreateGrant gives a customer usage credits, at once or from an instant on. govern.Invalid; account.ErrNotFound: no such customer.
func (s *Service) CreateGrant(ctx context.Context, actor string, n NewGrant) (account.Grant, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	g, err := s.newGrant(n)
	if err != nil {
		return g, err
	}
	return s.putGrant(ctx, actor, g)
}

// newGrant checks what was asked for.
func (s *Service) newGrant(n NewGrant) (g account.Grant, err error) {
	c, ok := s.cfg.Directory.Customer(n.Customer)
	if !ok {
		return g, invalid("/customer", fmt.Sprintf("there is no customer %q", n.Customer), "`tally customers list` shows all")
	}
	now := s.now()
	g = account.Grant{
		CustomerID: c.ID, Meter: n.Meter, Kind: n.Kind, Priority: n.Priority, Reason: n.Reason, CreatedAt: now, EffectiveAt: now, Meters: n.Meters,
	}
	if g.Kind == "" {
		g.Kind = account.Promotional
	}
	for _, check := range []func(*account.Grant, *NewGrant, account.Customer) error{s.what, s.when, s.refills, rollover} {
		if err := check(&g, &n, c); err != nil {
			return g, err
		}
	}
	if len(s.cfg.Directory.Grants(c.ID)) >= grantsMax {
		return g, invalid("/customer", fmt.Sprintf("has %d grants, the most there may be", grantsMax), "give fewer and larger ones")
	}
	return g, checkReason(n.Reason)
}

// what checks what is given, and what for.
func (s *Service) what(g *account.Grant, n *NewGrant, c account.Customer) (err error) {
	if !slices.Contains([]account.GrantKind{account.Promotional, account.Prepaid, account.TopUp}, g.Kind) {
		return invalid("/kind", fmt.Sprintf("%q is no kind of grant", g.Kind), "promotional, prepaid or top_up")
	}
	if n.Priority < -priorityMax || n.Priority > priorityMax {
		return invalid("/priority", fmt.Sprintf("%d is out of range", n.Priority), fmt.Sprintf("-%d to %d; lower ones burn first", priorityMax, priorityMax))
	}
	if g.Amount, err = s.amount("/amount", n.Amount, n.Meter); err != nil {
		return err
	}
	if g.Amount.Sign() == 0 {
		return invalid("/amount", fmt.Sprintf("%q is not a number above 0", n.Amount), `such as "1000"`)
	}
	if n.Paid != "" {
		if g.Paid, err = s.amount("/paid", n.Paid, ""); err != nil {
			return err
		}
	}
	if g.Kind == account.Promotional && !g.Paid.IsZero() {
		return invalid("/paid", "does not go with a promotional grant, which is given away", "kind: prepaid")
	}
	if n.Meter != "" && len(n.Meters) > 0 {
		return invalid("/meters", "does not go with units, which are of one meter", "leave one of meter and meters out")
	}
	if len(n.Meters) > metersMax {
		return invalid("/meters", fmt.Sprintf("has %d entries", len(n.Meters)), fmt.Sprintf("at most %d", metersMax))
	}
	for i, key := range n.Meters {
		if _, ok := s.cfg.Directory.Current().Meter(key); !ok {
			return invalid(fmt.Sprintf("/meters/%d", i), fmt.Sprintf("there is no meter %q", key), "`tally catalog get` has them")
		}
	}
	return nil
}

// amount reads units of a meter, or money; 0 is one.
func (s *Service) amount(pointer, text, meterKey string) (d money.Decimal, err error) {
	m, unit := catalog.Meter{Scale: moneyDigits}, `an amount such as "25.00"`
	if meterKey != "" {
		var ok bool
		if m, ok = s.cfg.Directory.Current().Meter(meterKey); !ok {
			return d, invalid("/meter", fmt.Sprintf("there is no meter %q", meterKey), "`tally catalog get` has them")
		}
		if !m.Aggregation.Additive() {
			return d, invalid("/meter", fmt.Sprintf("%q does not add up, so its units cannot be given", meterKey), "a meter with aggregation count, sum or custom; or money")
		}
		unit = `a decimal in the meter's unit, such as "1000"`
	}
	if d, err = money.ParseDecimal(text); err != nil || d.Sign() < 0 {
		return d, invalid(pointer, fmt.Sprintf("%q is not a number above 0", text), unit)
	}
	if d.Scale() > m.Scale {
		return d, invalid(pointer, fmt.Sprintf("%q has too many decimals", text), fmt.Sprintf("at most %d", m.Scale))
	}
	if meterKey != "" {
		if _, err := d.Scaled(m.Scale); err != nil {
			return d, invalid(pointer, err.Error(), unit)
		}
	}
	return d, nil
}

// when checks from when to when the grant is good.
func (s *Service) when(g *account.Grant, n *NewGrant, _ account.Customer) error {
	now := g.CreatedAt
	if !n.EffectiveAt.IsZero() {
		if g.EffectiveAt = period.Truncate(n.EffectiveAt); g.EffectiveAt.Before(now) {
			return invalid("/effective_at", "must not lie in the past", "it is "+period.Format(now))
		}
	}
	if !n.ExpiresAt.IsZero() {
		if g.ExpiresAt = period.Truncate(n.ExpiresAt); !g.ExpiresAt.After(g.EffectiveAt) {
			return invalid("/expires_at", "must lie in the future, after the grant takes effect", "it is "+period.Format(now))
		}
	}
	return nil
}

// refills checks a recurring grant. Its refills lie on the grid of the journal.
func (s *Service) refills(g *account.Grant, n *NewGrant, c account.Customer) error {
	if n.Every == "" {
		if !n.Anchor.IsZero() {
			return invalid("/anchor", "does not go with a grant that does not recur", "every: month beside it")
		}
		return nil
	}
	every, err := period.ParseEvery(n.Every)
	if err != nil {
		return invalid("/every", err.Error(), "day, week, month, quarter, year, or a multiple")
	}
	g.Every, g.Anchor = &every, period.Truncate(n.Anchor)
	if n.Anchor.IsZero() {
		g.Anchor = c.Zone.StartOfDay(c.Zone.Date(g.EffectiveAt))
	}
	if !period.BucketStart(g.Anchor).Equal(g.Anchor) {
		return invalid("/anchor", "must be at a whole quarter of an hour", "such as "+period.Format(period.BucketStart(g.Anchor)))
	}
	return nil
}

func rollover(g *account.Grant, n *NewGrant, _ account.Customer) (err error) {
	if n.MinRollover == "" && n.MaxRollover == "" {
		return nil
	}
	r := account.Rollover{Max: g.Amount}
	for _, x := range []struct {
		pointer, text string
		to            *money.Decimal
	}{{"/min_rollover", n.MinRollover, &r.Min}, {"/max_rollover", n.MaxRollover, &r.Max}} {
		if x.text == "" {
			continue
		}
		if *x.to, err = money.ParseDecimal(x.text); err != nil || x.to.Sign() < 0 {
			return invalid(x.pointer, fmt.Sprintf("%q is not a number of 0 or more", x.text), `such as "100"`)
		}
	}
	if r.Min.Cmp(r.Max) > 0 {
		return invalid("/min_rollover", "is above max_rollover", "at most "+r.Max.String())
	}
	if r.Max.Cmp(g.Amount) > 0 {
		return invalid("/max_rollover", "is above the amount of the grant", "at most "+g.Amount.String())
	}
	g.Rollover = &r
	return nil
}

// putGrant stores a grant; writing is held.
func (s *Service) putGrant(ctx context.Context, actor string, g account.Grant) (account.Grant, error) {
	var err error
	g.Author = actor
	if g.ID, err = account.NewID("grt", g.CreatedAt, s.cfg.Random); err != nil {
		return g, err
	}
	a, err := s.audit(g.CreatedAt, actor, "grant.create", g.CustomerID, map[string]string{
		"grant": g.ID, "meter": g.Meter, "amount": g.Amount.String(), "kind": string(g.Kind), "paid": g.Paid.String(), "reason": g.Reason,
	})
	if err != nil {
		return g, err
	}
	if err := s.cut(ctx, &g); err != nil {
		return g, err
	}
	c, _ := s.cfg.Directory.Customer(g.CustomerID)
	posted, err := ledger.OfBought(&g, c.Currency)
	if err != nil {
		return g, invalid("/paid", err.Error(), "an amount that the currency can hold")
	}
	if err := s.cfg.Records.PutGrant(ctx, g, posted, a); err != nil {
		return g, fmt.Errorf("put grant: %w", err)
	}
	s.cfg.Directory.PutGrant(g)
	return g, nil
}

// VoidGrant takes back what is left of a grant from now on; what was used before stays paid. Doing it again keeps the first time.
// account.ErrNotFound; account.ErrState for what only says what another grant lost.
func (s *Service) VoidGrant(ctx context.Context, actor, id, reason string) (account.Grant, error) {
	if err := checkReason(reason); err != nil {
		return account.Grant{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.now()
	a, err := s.audit(now, actor, "grant.void", id, map[string]string{"grant": id, "reason": reason})
	if err != nil {
		return account.Grant{}, err
	}
	g, err := s.cfg.Records.VoidGrant(ctx, id, now, reason, a)
	if errors.Is(err, store.ErrConflict) {
		return g, fmt.Errorf("%w: %s only says what another grant lost when it expired; void that one", account.ErrState, id)
	}
	if err != nil {
		return g, absent("grant", id, err)
	}
	// Told apart before anybody reads by it. When this fails, or the process dies here, the next start does it.
	if err := s.cut(ctx, &g); err != nil {
		return g, err
	}
	s.cfg.Directory.PutGrant(g)
	return g, nil
}

// ListGrants pages through all, newest first; a CustomerID in the query may be a key.
func (s *Service) ListGrants(ctx context.Context, q store.Query) ([]account.Grant, error) {
	q, err := s.query(q)
	if err != nil {
		return nil, err
	}
	return s.cfg.Records.ListGrants(ctx, q)
}

// The states of a grant at an instant.
const (
	Scheduled  = "scheduled"
	Active     = "active"
	Expired    = "expired"
	Voided     = "voided"
	Correction = "correction" // not a grant, but what one lost, as older versions wrote it down
)

// Status is how a grant stands at now.
func Status(g *account.Grant, now time.Time) string {
	switch {
	case g.GrantID != "":
		return Correction
	case !g.VoidedAt.IsZero() && !now.Before(g.VoidedAt):
		return Voided
	case now.Before(g.EffectiveAt):
		return Scheduled
	case !g.ExpiresAt.IsZero() && !now.Before(g.ExpiresAt):
		return Expired
	}
	return Active
}
