package httpapi

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
)

type invoiceBody struct {
	ID             string     `json:"id"`
	Number         int64      `json:"number" doc:"Without gaps in its series; 0 before it is finalized"`
	Series         string     `json:"series,omitempty" doc:"Stands before the number"`
	Revision       int        `json:"revision,omitempty" doc:"Tells invoices over the same period apart"`
	Customer       string     `json:"customer" doc:"The customer's key"`
	CustomerID     string     `json:"customer_id"`
	SubscriptionID string     `json:"subscription_id"`
	Plan           string     `json:"plan"`
	Status         string     `json:"status" enum:"preview,draft,finalized,past_due,paid,void,uncollectible"`
	Currency       string     `json:"currency"`
	Period         spanBody   `json:"period" doc:"The billing period that it closes; empty on the invoice at the start of a subscription"`
	Seller         partyBody  `json:"seller,omitzero" doc:"As it was when the invoice was made"`
	Buyer          partyBody  `json:"buyer,omitzero" doc:"As it was when the invoice was made"`
	Note           string     `json:"note,omitempty"`
	Lines          []lineBody `json:"lines"`
	Subtotal       moneyBody  `json:"subtotal" doc:"Sum of the rounded lines"`
	Taxes          []taxBody  `json:"taxes,omitempty"`
	Tax            moneyBody  `json:"tax" doc:"Sum of the taxes"`
	TaxInclusive   bool       `json:"tax_inclusive,omitempty" doc:"The lines contain the tax, and the total is the subtotal"`
	Total          moneyBody  `json:"total" doc:"Subtotal, and tax where the lines do not contain it"`
	Applied        moneyBody  `json:"balance_applied" doc:"What the money balance paid of it when it was finalized"`
	Due            moneyBody  `json:"amount_due" doc:"What was left to pay when it was finalized; remaining of its standing is what is left now"`
	DueAt          time.Time  `json:"due_at,omitzero"`
	CatalogVersion int64      `json:"catalog_version"`
	TZVersion      string     `json:"tz_version" doc:"Release of the time zone data"`
	Position       uint64     `json:"position" doc:"Journal position that it was rated at"`
	FinalizedAt    time.Time  `json:"finalized_at,omitzero"`

	Standing *standingBody `json:"standing,omitempty" doc:"What was paid and credited of it; absent before it is finalized"`

	Checkpoint *coveredBody `json:"checkpoint,omitempty" doc:"The signed checkpoint that covers it: its lines can be proved from then on"`
}

type partyBody struct {
	Name       string `json:"name,omitempty"`
	Street     string `json:"street,omitempty"`
	City       string `json:"city,omitempty"`
	PostalCode string `json:"postal_code,omitempty"`
	Region     string `json:"region,omitempty"`
	Country    string `json:"country,omitempty" doc:"ISO 3166 alpha-2"`
	TaxID      string `json:"tax_id,omitempty"`
	Email      string `json:"email,omitempty"`
	IBAN       string `json:"iban,omitempty"`
}

type taxBody struct {
	Key           string        `json:"key"`
	Name          string        `json:"name"`
	Percent       money.Decimal `json:"percent"`
	Base          moneyBody     `json:"base" doc:"What it is on"`
	Amount        moneyBody     `json:"amount"`
	ReverseCharge bool          `json:"reverse_charge,omitempty" doc:"The customer owes it to the state"`
	Exempt        bool          `json:"exempt,omitempty"`
	Compound      bool          `json:"compound,omitempty" doc:"It is on the taxes before it too"`
}

type lineBody struct {
	ID        string            `json:"id"`
	Number    int               `json:"number"`
	Kind      string            `json:"kind" enum:"flat,usage,discount,maximum,minimum,credit,coupon,adjustment"`
	Name      string            `json:"name,omitempty" doc:"What the customer reads; absent: the price"`
	Price     string            `json:"price"`
	Plan      string            `json:"plan,omitempty" doc:"Whose price it is, where that is not the invoice's"`
	AddOn     string            `json:"add_on,omitempty" doc:"Whose price it is, where that is no plan"`
	Version   int64             `json:"catalog_version,omitempty" doc:"Of the price, where that is not the invoice's"`
	Product   string            `json:"product,omitempty" doc:"What tax rules look at"`
	Meter     string            `json:"meter,omitempty"`
	Filter    map[string]string `json:"filter,omitempty" doc:"The dimensions of the usage that it charges"`
	Period    spanBody          `json:"period" doc:"The service period"`
	Begins    time.Time         `json:"price_period_start,omitzero" doc:"Where the price's own period begins, where that is not where the line's does"`
	Ratio     string            `json:"ratio,omitempty" doc:"The part of the price's whole period that is charged; absent: the whole" example:"12/31"`
	Quantity  money.Decimal     `json:"quantity"`
	Included  *money.Decimal    `json:"included,omitempty" doc:"Units of the quantity that the price gives"`
	Credited  *money.Decimal    `json:"credited,omitempty" doc:"Units of the quantity that usage credits paid for"`
	Tiers     []tierBody        `json:"tiers,omitempty"`
	Exact     money.Decimal     `json:"exact" doc:"Without any rounding"`
	Inexact   bool              `json:"inexact,omitempty" doc:"exact has 34 digits of more; rounded is of the exact value"`
	Rounded   moneyBody         `json:"rounded" doc:"The line's one rounding"`
	Of        string            `json:"of,omitempty" doc:"The line that this one takes from, adds to or adjusts"`
	OfInvoice string            `json:"of_invoice,omitempty" doc:"Of an adjustment: the invoice of that line"`
	Source    string            `json:"source,omitempty" doc:"The grant or the redemption of a coupon that pays"`
	Taxes     []string          `json:"taxes,omitempty" doc:"Keys of the invoice's taxes that are on it"`
}

type tierBody struct {
	Tier       int           `json:"tier"`
	Quantity   money.Decimal `json:"quantity"`
	UnitAmount money.Decimal `json:"unit_amount"`
	FlatAmount money.Decimal `json:"flat_amount"`
	Amount     money.Decimal `json:"amount"`
}

func lineOf(l invoice.Line) lineBody {
	out := lineBody{
		ID: l.ID, Number: l.Number, Kind: string(l.Kind), Name: l.Name, Price: l.Price, Plan: l.Plan, AddOn: l.AddOn, Version: l.Version,
		Product: l.Product, Meter: l.Meter, Filter: l.Filter, Period: spanOf(l.Period), Begins: instant(l.Begins), Ratio: l.Ratio,
		Quantity: l.Quantity, Included: unlessZero(l.Included), Credited: unlessZero(l.Credited), Exact: l.Exact, Inexact: l.Inexact,
		Rounded: moneyOf(l.Rounded), Of: l.Of, OfInvoice: l.Adjusts, Source: l.Source, Taxes: l.Taxes,
	}
	for _, t := range l.Tiers {
		out.Tiers = append(out.Tiers, tierBody(t))
	}
	return out
}

func unlessZero(d money.Decimal) *money.Decimal {
	if d.IsZero() {
		return nil
	}
	return &d
}

func (a *api) invoiceOf(i invoice.Invoice) invoiceBody {
	nothing := money.NewAmount(0, i.Currency)
	out := invoiceBody{
		ID: i.ID, Number: i.Number, Series: i.Series, Revision: i.Revision, Customer: a.customerKey(i.CustomerID), CustomerID: i.CustomerID,
		SubscriptionID: i.SubscriptionID, Plan: i.Plan, Status: string(i.Status), Currency: i.Currency.Code(), Period: spanOf(i.Period),
		Seller: partyBody(i.Seller), Buyer: partyBody(i.Buyer), Note: i.Note, Lines: make([]lineBody, 0, len(i.Lines)),
		Subtotal: moneyOr(i.Subtotal, i.Total), Tax: moneyOr(i.Tax, nothing), TaxInclusive: i.Inclusive, Total: moneyOf(i.Total),
		Applied: moneyOr(i.Balance, nothing), Due: moneyOr(i.Due, i.Total), DueAt: instant(i.DueAt),
		CatalogVersion: i.CatalogVersion, TZVersion: i.TZVersion, Position: i.Position, FinalizedAt: instant(i.FinalizedAt),
	}
	for _, l := range i.Lines {
		out.Lines = append(out.Lines, lineOf(l))
	}
	for _, t := range i.Taxes {
		out.Taxes = append(out.Taxes, taxBody{
			Key: t.Key, Name: t.Name, Percent: t.Percent, Base: moneyOf(t.Base), Amount: moneyOf(t.Amount), ReverseCharge: t.ReverseCharge,
			Exempt: t.Exempt, Compound: t.Compound,
		})
	}
	return out
}

// moneyOr is an amount, or what stands for it on invoices of older releases, which lack it.
func moneyOr(a, older money.Amount) moneyBody {
	if a.Currency().Code() == "" {
		a = older
	}
	return moneyOf(a)
}
