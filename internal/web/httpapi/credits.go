package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// GrantBody is a grant of usage credits, or what one lost.
type GrantBody struct {
	ID          string            `json:"id"`
	Customer    string            `json:"customer" doc:"The customer's key"`
	CustomerID  string            `json:"customer_id"`
	Meter       string            `json:"meter,omitempty" doc:"Of its units; without it the grant is of money"`
	Currency    string            `json:"currency,omitempty" doc:"Of money"`
	Amount      money.Decimal     `json:"amount" doc:"In the meter's unit or the currency; negative: what the grant in corrects lost"`
	Kind        account.GrantKind `json:"kind" enum:"promotional,prepaid,top_up"`
	Status      string            `json:"status" enum:"scheduled,active,expired,voided,correction"`
	Priority    int               `json:"priority" doc:"Lower ones burn first"`
	Meters      []string          `json:"meters,omitempty" doc:"Of money: only usage of these"`
	Every       string            `json:"every,omitempty" doc:"It is refilled at each of these"`
	Anchor      time.Time         `json:"anchor,omitzero" doc:"What the refills are counted from"`
	MinRollover *money.Decimal    `json:"min_rollover,omitempty"`
	MaxRollover *money.Decimal    `json:"max_rollover,omitempty"`
	Paid        *money.Decimal    `json:"paid,omitempty" doc:"In the customer's currency"`
	Corrects    string            `json:"corrects,omitempty" doc:"Id of the grant that lost the amount"`
	Reason      string            `json:"reason"`
	Author      string            `json:"author"`
	CreatedAt   time.Time         `json:"created_at"`
	EffectiveAt time.Time         `json:"effective_at"`
	ExpiresAt   time.Time         `json:"expires_at,omitzero"`
	VoidedAt    time.Time         `json:"voided_at,omitzero" doc:"What was left is lost from then on"`
}

type newGrantBody struct {
	Customer    string            `json:"customer" doc:"Id or key"`
	Meter       string            `json:"meter,omitempty" doc:"Whose units are given; without it money, in the customer's currency"`
	Amount      string            `json:"amount" doc:"In the meter's unit or the currency, above 0" example:"1000"`
	Kind        account.GrantKind `json:"kind,omitempty" enum:"promotional,prepaid,top_up" doc:"Default: promotional"`
	Priority    int               `json:"priority,omitempty" doc:"Lower ones burn first; default: 0"`
	Meters      []string          `json:"meters,omitempty" doc:"Of money: only usage of these; default: all"`
	Every       string            `json:"every,omitempty" doc:"Refilled each day, week, month, quarter, year, or a multiple" example:"month"`
	Anchor      time.Time         `json:"anchor,omitzero" doc:"What refills are counted from, at a whole quarter of an hour; default: the local day on which it takes effect"`
	MinRollover string            `json:"min_rollover,omitempty" doc:"At the start of a usage period at least so much is left"`
	MaxRollover string            `json:"max_rollover,omitempty" doc:"At the start of a usage period at most so much is left; default: all"`
	Paid        string            `json:"paid,omitempty" doc:"What the customer paid for it, in their currency"`
	Reason      string            `json:"reason"`
	EffectiveAt time.Time         `json:"effective_at,omitzero" doc:"On the business clock; default: now"`
	ExpiresAt   time.Time         `json:"expires_at,omitzero" doc:"On the business clock; default: never"`
}

type voidGrantBody struct {
	Reason string `json:"reason"`
}

// GrantBalanceBody is a grant with what became of it.
type GrantBalanceBody struct {
	GrantBody
	Left   string `json:"left" doc:"What is left of it now"`
	Burned string `json:"burned" doc:"What usage it paid, in all"`
}

// CreditBody is what is left of a customer's credits of one meter, or of money.
type CreditBody struct {
	Meter      string             `json:"meter,omitempty" doc:"Without it: money"`
	Currency   string             `json:"currency,omitempty" doc:"Of money"`
	Left       string             `json:"left" doc:"Of all grants; a fraction a/b where decimals do not end"`
	Granted    money.Decimal      `json:"granted" doc:"What the active grants came to at first"`
	Burned     string             `json:"burned" doc:"By all grants since they were made"`
	Overage    string             `json:"overage" doc:"Used in this usage period without a grant; the next one takes it over"`
	NextExpiry time.Time          `json:"next_expiry,omitzero" doc:"Of something that is left"`
	Grants     []GrantBalanceBody `json:"grants"`
}

type creditsBody struct {
	Customer string       `json:"customer"`
	At       time.Time    `json:"at" doc:"Business time; all usage until then counts"`
	Credits  []CreditBody `json:"credits" doc:"Money first, then by meter"`
}

// TopUpBody is a rule that grants credits when few are left.
type TopUpBody struct {
	Meter     string        `json:"meter,omitempty" doc:"Without it: money"`
	Below     money.Decimal `json:"below" doc:"Granted once the balance is below it"`
	Amount    money.Decimal `json:"amount"`
	Paid      money.Decimal `json:"paid"`
	Most      int           `json:"most" doc:"Grants in each of every"`
	Every     string        `json:"every" doc:"Of the calendar in the customer's zone"`
	ValidDays int           `json:"valid_days,omitempty" doc:"A grant expires so many local days later; 0: never"`
	SetAt     time.Time     `json:"set_at"`
}

type newTopUpBody struct {
	Meter     string `json:"meter,omitempty" doc:"Without it: money"`
	Below     string `json:"below"`
	Amount    string `json:"amount"`
	Paid      string `json:"paid,omitempty" doc:"What the customer pays for each, in their currency"`
	Most      int    `json:"most,omitempty" doc:"Grants in each of every; default: 1"`
	Every     string `json:"every,omitempty" doc:"Default: month"`
	ValidDays int    `json:"valid_days,omitempty" doc:"Default: a grant does not expire"`
}

type topUpsBody struct {
	Items []TopUpBody `json:"items"`
}

func (a *api) grantOf(g account.Grant) GrantBody {
	out := GrantBody{
		ID: g.ID, Customer: a.customerKey(g.CustomerID), CustomerID: g.CustomerID, Meter: g.Meter, Amount: g.Amount, Kind: g.Kind,
		Status: credits.Status(&g, a.cfg.Clock.Now()), Priority: g.Priority, Meters: g.Meters, Anchor: instant(g.Anchor), Corrects: g.GrantID,
		Reason: g.Reason, Author: g.Author, CreatedAt: instant(g.CreatedAt), EffectiveAt: instant(g.EffectiveAt), ExpiresAt: instant(g.ExpiresAt),
		VoidedAt: instant(g.VoidedAt),
	}
	if g.Meter == "" {
		out.Currency = a.currencyOf(g.CustomerID)
	}
	if g.Every != nil {
		out.Every = g.Every.String()
	}
	if g.Rollover != nil {
		out.MinRollover, out.MaxRollover = &g.Rollover.Min, &g.Rollover.Max
	}
	if !g.Paid.IsZero() {
		out.Paid = &g.Paid
	}
	return out
}

func (a *api) currencyOf(customerID string) string {
	c, _ := a.cfg.Govern.Customer(customerID)
	return c.Currency.Code()
}

func (a *api) credits() {
	const tag = "credits"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/grants", id: "create-grant", tag: tag, status: http.StatusCreated,
		summary: "Give a customer usage credits: units of a meter, or money",
	}, func(ctx context.Context, in *struct{ Body newGrantBody }) (GrantBody, error) {
		b := in.Body
		g, err := a.cfg.Credits.CreateGrant(ctx, operator, credits.NewGrant{
			Customer: b.Customer, Meter: b.Meter, Amount: b.Amount, Kind: b.Kind, Priority: b.Priority, Reason: b.Reason, EffectiveAt: b.EffectiveAt,
			ExpiresAt: b.ExpiresAt, Meters: b.Meters, Every: b.Every, Anchor: b.Anchor, MinRollover: b.MinRollover, MaxRollover: b.MaxRollover, Paid: b.Paid,
		})
		return a.grantOf(g), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/grants", id: "list-grants", tag: tag,
		summary: "List grants of usage credits, newest first",
	}, a.listGrants)
	handle(a, operation{
		method: http.MethodPost, path: "/v1/grants/{id}/void", id: "void-grant", tag: tag,
		summary: "Take back what is left of a grant; what it paid stays paid. Doing it again changes nothing",
	}, func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body voidGrantBody
	},
	) (GrantBody, error) {
		g, err := a.cfg.Credits.VoidGrant(ctx, operator, in.ID, in.Body.Reason)
		return a.grantOf(g), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/customers/{ref}/credits", id: "customer-credits", tag: tag,
		summary: "Show what is left of a customer's credits, as the quota engine and the invoice count them",
	}, a.balances)
	handle(a, operation{
		method: http.MethodPost, path: "/v1/customers/{ref}/top-ups", id: "set-top-up", tag: tag,
		summary: "Have credits granted by themselves while few are left; replaces the rule of the same meter",
	}, func(ctx context.Context, in *struct {
		Ref
		Body newTopUpBody
	},
	) (TopUpBody, error) {
		r, err := a.cfg.Credits.SetTopUp(ctx, operator, in.Ref.Ref, credits.NewTopUp(in.Body))
		return topUpOf(r), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/customers/{ref}/top-ups", id: "list-top-ups", tag: tag, summary: "List a customer's rules of top-ups",
	}, func(ctx context.Context, in *Ref) (topUpsBody, error) {
		rules, err := a.cfg.Credits.TopUps(ctx, in.Ref)
		out := topUpsBody{Items: []TopUpBody{}}
		for _, r := range rules {
			out.Items = append(out.Items, topUpOf(r))
		}
		return out, err
	})
	handle(a, operation{
		method: http.MethodDelete, path: "/v1/customers/{ref}/top-ups", id: "drop-top-up", tag: tag,
		summary: "Take a rule of top-ups away; what it granted stays",
	}, func(ctx context.Context, in *struct {
		Ref
		Meter string `query:"meter" doc:"Without it: the rule for money"`
	},
	) (struct{}, error) {
		return struct{}{}, a.cfg.Credits.DropTopUp(ctx, operator, in.Ref.Ref, in.Meter)
	})
}

func topUpOf(r account.TopUpRule) TopUpBody {
	return TopUpBody{r.Meter, r.Below, r.Amount, r.Paid, r.Most, r.Every.String(), r.ValidDays, instant(r.SetAt)}
}

func (a *api) listGrants(ctx context.Context, in *OfCustomer) (listBody[GrantBody], error) {
	const kind = "grants"
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[GrantBody]{}, err
	}
	from, err := placeOfID(kind, "grt_", in.Cursor)
	if err != nil {
		return listBody[GrantBody]{}, err
	}
	rows, err := a.cfg.Credits.ListGrants(ctx, store.Query{Cursor: from, Limit: in.fetch(), CustomerID: id})
	return listOf(in.Paging, kind, rows, func(g account.Grant) string { return g.ID }, a.grantOf), err
}

func (a *api) balances(ctx context.Context, in *Ref) (creditsBody, error) {
	c, err := a.customer(in.Ref)
	if err != nil {
		return creditsBody{}, err
	}
	list, at, err := a.cfg.Credits.Balances(ctx, c.ID)
	out := creditsBody{Customer: c.Key, At: instant(at), Credits: []CreditBody{}}
	for i := range list {
		b := &list[i]
		one := CreditBody{
			Meter: b.Meter, Left: b.Left.String(), Granted: b.Granted, Burned: b.Burned.String(), Overage: b.Overage.String(),
			NextExpiry: instant(b.NextExpiry), Grants: []GrantBalanceBody{},
		}
		if b.Meter == "" {
			one.Currency = c.Currency.Code()
		}
		for _, g := range b.Grants {
			one.Grants = append(one.Grants, GrantBalanceBody{a.grantOf(g.Grant), g.Left.String(), g.Burned.String()})
		}
		out.Credits = append(out.Credits, one)
	}
	return out, err
}
