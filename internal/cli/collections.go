package cli

import (
	"errors"
	"io"
	"net/url"
	"strings"
)

// payment is money as a user tells of it.
type payment struct {
	Amount     string `arg:"" help:"How much, such as 12.34."`
	Currency   string `help:"ISO 4217 code; default: the customer's." placeholder:"CODE"`
	Method     string `help:"How it was paid, such as transfer." placeholder:"TEXT"`
	Reference  string `help:"Of the bank or provider; the same one is not recorded again." placeholder:"TEXT"`
	Note       string `help:"Anything else." placeholder:"TEXT"`
	ReceivedAt string `help:"When it came in, RFC 3339; default: now." placeholder:"T"`
}

// body is the payment as the API takes it. where is a document that tells the currency in a field.
func (p *payment) body(e *Env, where, field string) (map[string]any, error) {
	currency := p.Currency
	if currency == "" {
		d, err := read(e, where)
		if err != nil {
			return nil, err
		}
		currency = d.s(field)
	}
	return put("amount", map[string]any{"amount": p.Amount, "currency": currency}, "method", p.Method, "reference", p.Reference, "note", p.Note,
		"received_at", p.ReceivedAt), nil
}

// read gets a document for its fields.
func read(e *Env, path string) (doc, error) {
	c, err := newClient(e)
	if err != nil {
		return nil, err
	}
	b, err := c.get(e.Ctx, path, nil)
	if err != nil {
		return nil, err
	}
	return parseDoc(b)
}

func invoicePath(id, rest string) string { return "/v1/invoices/" + url.PathEscape(id) + rest }

func customerPath(ref, rest string) string { return "/v1/customers/" + url.PathEscape(ref) + rest }

func standingText() func(io.Writer, doc) error {
	return fields("invoice_id", "status", "total.amount", "balance_applied.amount", "paid.amount", "credited.amount", "remaining.amount", "total.currency",
		"due_at", "at", "actor", "reason")
}

func paymentText(prefix string) func(io.Writer, doc) error {
	names := []string{"id", "kind", "customer", "invoice_id", "amount.amount", "applied.amount", "amount.currency", "method", "reference", "received_at"}
	for i := range names {
		names[i] = prefix + names[i]
	}
	if prefix != "" {
		names = append(names, "invoice.status", "invoice.remaining.amount")
	}
	return fields(names...)
}

type invoicesPayCmd struct {
	ID string `arg:"" help:"The invoice's id."`
	payment
}

func (c *invoicesPayCmd) Run(e *Env) error {
	body, err := c.body(e, invoicePath(c.ID, ""), "currency")
	if err != nil {
		return err
	}
	return send(e, invoicePath(c.ID, "/payments"), body, paymentText("payment."))
}

type invoicesVoidCmd struct {
	ID     string `arg:"" help:"The invoice's id."`
	Reason string `help:"Why; it stays with the invoice." required:"" placeholder:"TEXT"`
}

func (c *invoicesVoidCmd) Run(e *Env) error {
	return send(e, invoicePath(c.ID, "/void"), put("reason", c.Reason), standingText())
}

type invoicesUncollectibleCmd struct {
	ID     string `arg:"" help:"The invoice's id."`
	Reason string `help:"Why; it stays with the invoice." required:"" placeholder:"TEXT"`
}

func (c *invoicesUncollectibleCmd) Run(e *Env) error {
	return send(e, invoicePath(c.ID, "/uncollectible"), put("reason", c.Reason), standingText())
}

type invoicesCreditCmd struct {
	ID     string   `arg:"" help:"The invoice's id."`
	Line   []string `help:"LINE=AMOUNT; may be repeated. Without: all that is left of the invoice." placeholder:"LINE=AMOUNT" sep:"none"`
	Reason string   `help:"Why; it stands on the credit note." required:"" placeholder:"TEXT"`
}

func (c *invoicesCreditCmd) Run(e *Env) error {
	body := put("reason", c.Reason)
	if len(c.Line) > 0 {
		inv, err := read(e, invoicePath(c.ID, ""))
		if err != nil {
			return err
		}
		lines := make([]any, len(c.Line))
		for i, l := range c.Line {
			line, amount, _ := strings.Cut(l, "=")
			lines[i] = put("line", line, "amount", map[string]any{"amount": amount, "currency": inv.s("currency")})
		}
		body["lines"] = lines
	}
	return send(e, invoicePath(c.ID, "/credit-notes"), body,
		fields("id", "number", "invoice_id", "customer", "net.amount", "tax.amount", "total.amount", "off.amount", "total.currency", "reason", "created_at"))
}

type invoicesHistoryCmd struct {
	ID string `arg:"" help:"The invoice's id."`
}

func (c *invoicesHistoryCmd) Run(e *Env) error {
	return ask(e, invoicePath(c.ID, "/history"), nil, table("AT|STATUS|PAID|CREDITED|REMAINING|ACTOR|REASON|REFERENCE",
		"at", "status", "paid.amount", "credited.amount", "remaining.amount", "actor", "reason", "reference"))
}

type customersBalanceCmd struct {
	Customer string `arg:"" help:"Id or key."`
}

func (c *customersBalanceCmd) Run(e *Env) error {
	return ask(e, customerPath(c.Customer, "/balance"), nil, fields("customer", "balance.amount", "owed.amount", "balance.currency"))
}

type customersDepositCmd struct {
	Customer string `arg:"" help:"Id or key."`
	payment
}

func (c *customersDepositCmd) Run(e *Env) error {
	return c.balance(e, c.Customer, "deposit")
}

type customersRefundCmd struct {
	Customer string `arg:"" help:"Id or key."`
	payment
}

func (c *customersRefundCmd) Run(e *Env) error {
	return c.balance(e, c.Customer, "refund")
}

func (p *payment) balance(e *Env, customer, kind string) error {
	body, err := p.body(e, customerPath(customer, ""), "currency")
	if err != nil {
		return err
	}
	body["kind"] = kind
	return send(e, customerPath(customer, "/balance"), body, paymentText(""))
}

type paymentsCmd struct {
	List paymentsListCmd `cmd:"" default:"withargs" help:"List payments."`
}

// ofInvoice is what lists of invoices' documents can be asked for.
type ofInvoice struct {
	Customer string `help:"Only this customer's; id or key." placeholder:"CUSTOMER"`
	Invoice  string `help:"Only of this invoice." placeholder:"inv_…"`
	pages
}

func (o *ofInvoice) query() url.Values {
	q := only("customer", o.Customer)
	if o.Invoice != "" {
		q.Set("invoice", o.Invoice)
	}
	return q
}

type paymentsListCmd struct{ ofInvoice }

func (c *paymentsListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/payments", c.query(), table("ID|CUSTOMER|KIND|INVOICE|AMOUNT|APPLIED||METHOD|REFERENCE|RECEIVED",
		"id", "customer", "kind", "invoice_id", "amount.amount", "applied.amount", "amount.currency", "method", "reference", "received_at"))
}

type creditNotesCmd struct {
	List creditNotesListCmd `cmd:"" default:"withargs" help:"List credit notes."`
}

type creditNotesListCmd struct{ ofInvoice }

func (c *creditNotesListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/credit-notes", c.query(), table("NUMBER|CUSTOMER|INVOICE|NET|TAX|TOTAL||OFF|REASON|ID",
		"number", "customer", "invoice_id", "net.amount", "tax.amount", "total.amount", "total.currency", "off.amount", "reason", "id"))
}

type ledgerCmd struct {
	List  ledgerListCmd  `cmd:"" help:"List entries, one line a posting."`
	Check ledgerCheckCmd `cmd:"" help:"Check that the ledger sums to zero and agrees with the documents."`
}

type ledgerListCmd struct {
	Customer  string `help:"Only this customer's; id or key." placeholder:"CUSTOMER"`
	Account   string `help:"Only entries that post to this account." placeholder:"ACCOUNT"`
	Reference string `help:"Only of this invoice, payment, credit note or grant." placeholder:"ID"`
	pages
}

func (c *ledgerListCmd) Run(e *Env) error {
	q := only("customer", c.Customer)
	for key, value := range map[string]string{"account": c.Account, "reference": c.Reference} {
		if value != "" {
			q.Set(key, value)
		}
	}
	return c.ask(e, "/v1/ledger/entries", q, func(w io.Writer, d doc) error {
		out := lines{w: w}
		out.put("AT", "CUSTOMER", "KIND", "ACCOUNT", "AMOUNT", "", "REFERENCE")
		for _, entry := range d.list("items") {
			for _, p := range entry.list("postings") {
				out.put(entry.s("at"), entry.s("customer"), entry.s("kind"), p.s("account"), p.s("amount.amount"), p.s("amount.currency"), entry.s("reference"))
			}
		}
		return out.err
	})
}

type ledgerCheckCmd struct{}

// Run fails when the ledger does not add up, after it has shown what is wrong.
func (ledgerCheckCmd) Run(e *Env) error {
	holds := true
	err := ask(e, "/v1/ledger/check", nil, func(w io.Writer, d doc) error {
		holds = d.s("holds") == "true"
		out := lines{w: w}
		out.put("CURRENCY", "SUM", "RECEIVABLE", "OPEN", "BALANCE", "DEPOSITED", "DIFFERENCE", "WRONG")
		for _, c := range d.list("currencies") {
			out.put(c.s("currency"), c.s("sum.amount"), c.s("receivable.amount"), c.s("open.amount"), c.s("balance.amount"), c.s("deposited.amount"),
				c.s("difference.amount"), strings.Join(c.strings("wrong"), " "))
		}
		return out.err
	})
	if err == nil && !holds {
		err = errors.New("the ledger does not add up")
	}
	return err
}
