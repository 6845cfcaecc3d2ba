package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

type creditsCmd struct {
	Grant   creditsGrantCmd   `cmd:"" help:"Give a customer usage credits: units of a meter, or money."`
	Void    creditsVoidCmd    `cmd:"" help:"Take back what is left of a grant."`
	List    creditsListCmd    `cmd:"" help:"List grants."`
	Balance creditsBalanceCmd `cmd:"" help:"What is left of a customer's credits."`
	TopUp   creditsTopUpCmd   `cmd:"" help:"Have credits granted by themselves while few are left: set, list, drop."`
}

type creditsGrantCmd struct {
	Customer    string `arg:"" help:"Id or key."`
	Amount      string `arg:"" help:"Units of the meter, or an amount in the customer's currency."`
	Meter       string `help:"The meter whose units are given; default: money." placeholder:"KEY"`
	Kind        string `help:"promotional, prepaid or top_up." enum:"promotional,prepaid,top_up" default:"promotional"`
	Priority    int    `help:"Lower ones burn first." placeholder:"N"`
	Meters      string `help:"Of money: only usage of these meters, with commas between." placeholder:"KEYS"`
	Every       string `help:"Refill it each day, week, month, quarter, year, or a multiple." placeholder:"INTERVAL"`
	Anchor      string `help:"What refills are counted from, RFC 3339; default: the day on which it takes effect." placeholder:"T"`
	MinRollover string `help:"At least so much is left at the start of a usage period." placeholder:"N"`
	MaxRollover string `help:"At most so much is left at the start of a usage period; default: all." placeholder:"N"`
	Paid        string `help:"What the customer paid for it." placeholder:"AMOUNT"`
	Reason      string `help:"Why; it stands in the audit log." required:"" placeholder:"TEXT"`
	EffectiveAt string `help:"From when on, RFC 3339; default: now." placeholder:"T"`
	expiry
}

func (c *creditsGrantCmd) Run(e *Env) error {
	until, err := c.at(e)
	if err != nil {
		return err
	}
	body := put("customer", c.Customer, "meter", c.Meter, "amount", c.Amount, "kind", c.Kind, "priority", c.Priority, "every", c.Every,
		"anchor", c.Anchor, "min_rollover", c.MinRollover, "max_rollover", c.MaxRollover, "paid", c.Paid, "reason", c.Reason,
		"effective_at", c.EffectiveAt, "expires_at", until)
	if c.Meters != "" {
		body["meters"] = strings.Split(c.Meters, ",")
	}
	return send(e, "/v1/grants", body, grantText())
}

func grantText() func(w io.Writer, d doc) error {
	return fields("id", "customer", "meter", "currency", "amount", "kind", "status", "priority", "meters", "every", "anchor", "min_rollover", "max_rollover",
		"paid", "reason", "author", "effective_at", "expires_at", "voided_at")
}

type creditsVoidCmd struct {
	ID     string `arg:"" help:"grt_…"`
	Reason string `help:"Why; it stands in the audit log." required:"" placeholder:"TEXT"`
}

func (c *creditsVoidCmd) Run(e *Env) error {
	return send(e, "/v1/grants/"+url.PathEscape(c.ID)+"/void", put("reason", c.Reason), grantText())
}

type creditsListCmd struct {
	Customer string `help:"Only this customer's; id or key."`
	pages
}

func (c *creditsListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/grants", only("customer", c.Customer), grantsText)
}

// grantsText prints a line for each grant.
func grantsText(w io.Writer, d doc) error {
	out := lines{w: w}
	out.put("ID", "CUSTOMER", "OF", "AMOUNT", "KIND", "STATUS", "PRIORITY", "EFFECTIVE", "EXPIRES", "REASON")
	for _, g := range d.list("items") {
		out.put(g.s("id"), g.s("customer"), creditsOf(g), g.s("amount"), g.s("kind"), g.s("status"), g.s("priority"),
			g.s("effective_at"), g.s("expires_at"), g.s("reason"))
	}
	return out.err
}

// creditsOf says what a grant or a balance is of: a meter, or the currency of money.
func creditsOf(d doc) string {
	return cmp.Or(d.s("meter"), d.s("currency"))
}

type creditsBalanceCmd struct {
	Customer string `arg:"" help:"Id or key."`
}

func (c *creditsBalanceCmd) Run(e *Env) error {
	return ask(e, "/v1/customers/"+url.PathEscape(c.Customer)+"/credits", nil, balanceText)
}

// balanceText prints a line for each balance, and one for each of its grants.
func balanceText(w io.Writer, d doc) error {
	if _, err := fmt.Fprintln(w, "OF\tGRANT\tKIND\tSTATUS\tLEFT\tBURNED\tOVERAGE\tEXPIRES"); err != nil {
		return err
	}
	for _, b := range d.list("credits") {
		of := creditsOf(b)
		if _, err := fmt.Fprintf(w, "%s\tall\t\t\t%s\t%s\t%s\t%s\n", of, b.s("left"), b.s("burned"), b.s("overage"), b.s("next_expiry")); err != nil {
			return err
		}
		for _, g := range b.list("grants") {
			if _, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\t%s\n", of, g.s("id"), g.s("kind"), g.s("status"), g.s("left"), g.s("burned"), g.s("expires_at")); err != nil {
				return err
			}
		}
	}
	return nil
}

type creditsTopUpCmd struct {
	Set  topUpSetCmd  `cmd:"" help:"Set the rule of a meter, or of money."`
	List topUpListCmd `cmd:"" help:"List a customer's rules."`
	Drop topUpDropCmd `cmd:"" help:"Take a rule away; what it granted stays."`
}

type topUpSetCmd struct {
	Customer  string `arg:"" help:"Id or key."`
	Below     string `arg:"" help:"Grant once the balance is below it."`
	Amount    string `arg:"" help:"Of each grant."`
	Meter     string `help:"The meter whose units are given; default: money." placeholder:"KEY"`
	Paid      string `help:"What the customer pays for each." placeholder:"AMOUNT"`
	Most      int    `help:"Grants in each of --every." default:"1"`
	Every     string `help:"Of the calendar in the customer's zone." default:"month" placeholder:"INTERVAL"`
	ValidDays int    `help:"A grant expires so many days later; default: never." placeholder:"DAYS"`
}

func (c *topUpSetCmd) Run(e *Env) error {
	return send(e, topUpsPath(c.Customer), put("meter", c.Meter, "below", c.Below, "amount", c.Amount, "paid", c.Paid, "most", c.Most,
		"every", c.Every, "valid_days", c.ValidDays), fields("meter", "below", "amount", "paid", "most", "every", "valid_days", "set_at"))
}

func topUpsPath(customer string) string {
	return "/v1/customers/" + url.PathEscape(customer) + "/top-ups"
}

type topUpListCmd struct {
	Customer string `arg:"" help:"Id or key."`
}

func (c *topUpListCmd) Run(e *Env) error {
	return ask(e, topUpsPath(c.Customer), nil, table("METER|BELOW|AMOUNT|PAID|MOST|EVERY|VALID DAYS", "meter", "below", "amount", "paid", "most", "every", "valid_days"))
}

type topUpDropCmd struct {
	Customer string `arg:"" help:"Id or key."`
	Meter    string `help:"Of this meter; default: of money." placeholder:"KEY"`
}

func (c *topUpDropCmd) Run(e *Env) error {
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := cl.do(e.Ctx, http.MethodDelete, topUpsPath(c.Customer), only("meter", c.Meter), "", nil)
	if err != nil {
		return err
	}
	return e.print(b, fields())
}

type couponsCmd struct {
	Redeem couponsRedeemCmd `cmd:"" help:"Have a customer use a coupon of the catalog."`
	End    couponsEndCmd    `cmd:"" help:"Have no later invoice use it."`
	List   couponsListCmd   `cmd:"" help:"List the coupons that customers use."`
}

type couponsRedeemCmd struct {
	Customer string `arg:"" help:"Id or key."`
	Coupon   string `arg:"" help:"Its key in the catalog."`
	Reason   string `help:"Why; it stands in the audit log." required:"" placeholder:"TEXT"`
}

func (c *couponsRedeemCmd) Run(e *Env) error {
	return send(e, "/v1/customers/"+url.PathEscape(c.Customer)+"/coupons", put("coupon", c.Coupon, "reason", c.Reason), redemptionText())
}

func redemptionText() func(w io.Writer, d doc) error {
	return fields("id", "customer", "coupon", "catalog_version", "status", "reason", "author", "redeemed_at", "ended_at")
}

type couponsEndCmd struct {
	ID string `arg:"" help:"rdm_…"`
}

func (c *couponsEndCmd) Run(e *Env) error {
	return send(e, "/v1/redemptions/"+url.PathEscape(c.ID)+"/end", put(), redemptionText())
}

type couponsListCmd struct {
	Customer string `help:"Only this customer's; id or key."`
	pages
}

func (c *couponsListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/redemptions", only("customer", c.Customer),
		table("ID|CUSTOMER|COUPON|STATUS|REDEEMED|ENDED|REASON", "id", "customer", "coupon", "status", "redeemed_at", "ended_at", "reason"))
}
