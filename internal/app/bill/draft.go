package bill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/tax"
	"github.com/tallystick/tallystick/internal/store"
)

// TaxRequest is what taxes are asked of: the lines of one invoice with their rounded amounts.
type TaxRequest struct {
	Customer account.Customer
	Currency money.Currency
	Lines    []invoice.Line
	Rules    catalog.Taxes // of the catalog in force
	Rounding money.Rounding
	At       time.Time // the closing
}

// Taxes says what taxes are on an invoice. The default follows the catalog's rules; an engine outside can take its place. It is
// asked again after a crash and should answer the same.
type Taxes interface {
	Taxes(ctx context.Context, r TaxRequest) (taxes []invoice.TaxOf, inclusive bool, err error)
}

// rules are the catalog's.
type rules struct{}

// Taxes implements Taxes.
func (rules) Taxes(_ context.Context, r TaxRequest) ([]invoice.TaxOf, bool, error) {
	where := tax.Place{
		Country: r.Customer.Billing.Country, Region: r.Customer.Billing.Region, TaxID: r.Customer.Billing.TaxID, Exempt: r.Customer.Billing.Exempt,
	}
	req := tax.Request{Currency: r.Currency, Rounding: r.Rounding, Inclusive: r.Rules.Inclusive, PerLine: r.Rules.PerLine}
	for i := range r.Lines {
		l := &r.Lines[i]
		req.Lines = append(req.Lines, tax.Line{Amount: l.Rounded.Decimal().Rational(), Rates: tax.Select(r.Rules, where, l.Product)})
	}
	result, err := tax.Compute(req)
	if err != nil {
		return nil, false, err
	}
	var out []invoice.TaxOf
	for _, t := range result.Taxes {
		x := invoice.TaxOf{Tax: invoice.Tax{
			Key: t.Rate.Key, Name: t.Rate.Name, Percent: t.Rate.Percent, ReverseCharge: t.Rate.ReverseCharge, Compound: t.Rate.Compound,
		}}
		if x.Base, err = t.Base.Round(r.Currency, r.Rounding); err == nil {
			x.Amount, err = t.Amount.Round(r.Currency, r.Rounding)
		}
		if err != nil {
			return nil, false, fmt.Errorf("tax %q: %w", t.Rate.Key, err)
		}
		for i := range req.Lines {
			if slices.ContainsFunc(req.Lines[i].Rates, func(rate tax.Rate) bool { return rate.Key == t.Rate.Key }) {
				x.Lines = append(x.Lines, i)
			}
		}
		out = append(out, x)
	}
	return out, r.Rules.Inclusive, nil
}

// draft is the invoice of the closing: rated, reduced and taxed.
func (st *statement) draft(ctx context.Context) (invoice.Invoice, error) {
	if err := st.rate(ctx); err != nil {
		return invoice.Invoice{}, err
	}
	in, err := st.input(ctx)
	if err != nil {
		return invoice.Invoice{}, err
	}
	inv, err := invoice.Build(in)
	if err == nil {
		inv, err = st.complete(ctx, inv, in.Rounding)
	}
	if err != nil {
		return invoice.Invoice{}, fmt.Errorf("subscription %s: %w", st.term.ID, err)
	}
	return inv, nil
}

// last is the last instant of a closing's period, or its instant.
func (c *closing) last() time.Time {
	if c.in.Empty() {
		return c.in.End
	}
	return c.in.End.Add(-time.Microsecond)
}

// input is what the invoice is a function of.
func (st *statement) input(ctx context.Context) (in invoice.Input, err error) {
	t := st.term
	plan, version, err := t.plan(st.closing.last())
	if err != nil {
		return in, err
	}
	billing := st.catalog().Billing
	in = invoice.Input{
		SubscriptionID: t.ID, CustomerID: t.CustomerID, Plan: plan.Key, CatalogVersion: version, Currency: plan.Currency,
		Closing: st.closing.in, Since: st.since(), Commitments: st.commitments, Revisit: st.revisit, Book: st.book,
		Position: st.closing.position, Rounding: rounding(&billing), Preview: st.preview,
	}
	if in.Parts, err = st.parts(); err != nil {
		return in, err
	}
	if in.Credits, err = st.credits(ctx); err != nil {
		return in, err
	}
	in.Coupons, err = st.coupons(plan.Key)
	return in, err
}

func rounding(b *catalog.Billing) money.Rounding {
	if b.HalfEven {
		return money.HalfEven
	}
	return money.HalfUp
}

// catalog has the rules of billing that hold for the closing.
func (st *statement) catalog() *catalog.Compiled {
	if st.closing.version > 0 {
		if c := st.term.sold.version(st.closing.version); c != nil {
			return c
		}
	}
	return st.service.cfg.Directory.Current()
}

// coupons are the customer's redemptions, in order of creation.
func (st *statement) coupons(plan string) ([]invoice.Coupon, error) {
	if st.service.cfg.Coupons == nil {
		return nil, nil
	}
	var out []invoice.Coupon
	for _, r := range st.service.cfg.Coupons.Redemptions(st.term.CustomerID) {
		if r.RedeemedAt.After(st.closing.known) {
			continue
		}
		version := st.term.sold.version(r.CatalogVersion)
		if version == nil {
			return nil, st.term.sold.err
		}
		o, ok := version.Coupon(r.Coupon)
		if !ok {
			return nil, fmt.Errorf("redemption %s: catalog version %d has no coupon %q", r.ID, r.CatalogVersion, r.Coupon)
		}
		c := invoice.Coupon{RedemptionID: r.ID, Name: o.Name, Percent: o.Percent, Amount: o.Amount, Prices: o.Prices}
		if c.Name == "" {
			c.Name = o.Key
		}
		c.Once = o.Keeps()
		ended := !r.EndedAt.IsZero() && !st.closing.in.End.Before(r.EndedAt)
		c.Active = !ended && o.Holds(plan, st.book.Invoices(r.ID))
		out = append(out, c)
	}
	return out, nil
}

// complete adds the taxes and what stands on the invoice beside its lines.
func (st *statement) complete(ctx context.Context, inv invoice.Invoice, how money.Rounding) (invoice.Invoice, error) {
	rules := st.catalog()
	if len(inv.Lines) > 0 {
		taxes, inclusive, err := st.service.cfg.Taxes.Taxes(ctx, TaxRequest{
			Customer: st.term.customer, Currency: inv.Currency, Lines: inv.Lines, Rules: rules.Taxes, Rounding: how, At: st.closing.in.End,
		})
		if err != nil {
			return inv, fmt.Errorf("taxes: %w", err)
		}
		if inv, err = invoice.AddTaxes(inv, taxes, inclusive); err != nil {
			return inv, err
		}
	}
	seller, buyer := rules.Billing.Seller, st.term.customer
	inv.Series, inv.Note, inv.Revision = rules.Billing.Series, seller.Note, 1
	inv.Seller = invoice.Party{
		Name: seller.Name, Street: seller.Street, City: seller.City, PostalCode: seller.PostalCode, Region: seller.Region,
		Country: seller.Country, TaxID: seller.TaxID, Email: seller.Email, IBAN: seller.IBAN,
	}
	inv.Buyer = invoice.Party{
		Name: buyer.Billing.LegalName, Street: buyer.Billing.Street, City: buyer.Billing.City, PostalCode: buyer.Billing.PostalCode,
		Region: buyer.Billing.Region, Country: buyer.Billing.Country, TaxID: buyer.Billing.TaxID, Email: buyer.Billing.Email,
	}
	if inv.Buyer.Name == "" {
		inv.Buyer.Name = buyer.Name
	}
	plan, _, err := st.term.plan(st.closing.last())
	if err != nil {
		return inv, err
	}
	days := plan.Terms.DueDays
	if buyer.Billing.DueDays > 0 {
		days = buyer.Billing.DueDays
	}
	if days > 0 { // else it is due when it is finalized
		y, m, d := buyer.Zone.Date(st.closing.known)
		inv.DueAt = buyer.Zone.StartOfDay(y, m, d+days)
	}
	return inv, nil
}

// usage is what the priced meters of the closing's billing period measure at its position, in the order of the charges: what a seal
// commits to.
func (st *statement) usage(ctx context.Context) ([]invoice.Usage, error) {
	var list []invoice.Usage
	if st.closing.in.Empty() {
		return nil, nil
	}
	var all []series
	for _, c := range st.charges {
		overlaps := c.Service.Start.Before(st.closing.in.End) && c.Service.End.After(st.closing.in.Start)
		seen := slices.ContainsFunc(all, func(s series) bool { return s.Meter == c.Price.Meter })
		if !c.Price.Licensed() && overlaps && !seen {
			all = append(all, series{SeriesKey: c.series.SeriesKey, kind: c.series.kind})
		}
	}
	err := st.service.cfg.Journal.View(ctx, func(v store.View) error {
		for i := range all {
			r, err := all[i].read(v, st.closing.in, st.closing.position)
			if err != nil {
				return err
			}
			list = append(list, invoice.Usage{Meter: all[i].Meter, Quantity: r.quantity})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read usage: %w", err)
	}
	return list, nil
}
