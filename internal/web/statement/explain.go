package statement

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// Explanation is a decision with all that it was made of, and where its usage stands on a bill.
type Explanation struct {
	receipt.Receipt
	ID       string
	Zone     period.Zone // of the customer, else UTC
	Currency string      // of the customer; empty when not known
	Limits   []ExplainedLimit
	Charged  []Charged
	Fate     string // what became of the usage, where Charged has nothing
}

// ExplainedLimit is one limit's share.
type ExplainedLimit struct {
	receipt.Limit
	Decides             bool
	Kind                string
	Before, After, Size string // in the meter's unit, money as money
	Overage             string // how far After is beyond a limit that did not refuse; else empty
	Consumed, Whole     money.Decimal
}

// Charged is an invoice line that holds a decision's usage.
type Charged struct {
	Invoice invoice.Invoice
	Line    invoice.Line
}

// Explain opens a decision id. receipt.ErrToken when it is not one of this deployment.
func (s Sources) Explain(ctx context.Context, id string) (Explanation, error) {
	r, err := s.Enforce.Explain(id)
	if err != nil {
		return Explanation{}, err
	}
	out := Explanation{Receipt: r, ID: id}
	if c, ok := s.Govern.Customer(r.CustomerID); ok && r.CustomerID != "" {
		out.Zone, out.Currency = c.Zone, c.Currency.Code()
		out.Customer = c.Key
	}
	for i, l := range r.Limits {
		out.Limits = append(out.Limits, explainLimit(l, i == r.Deciding, out.Currency))
	}
	if r.Outcome != receipt.Allowed {
		return out, nil
	}
	return out, s.follow(ctx, &out)
}

// follow leads from an admitted request to the lines that charge it.
func (s Sources) follow(ctx context.Context, out *Explanation) error {
	s.Flush(ctx)
	record, invoices, lines, err := s.Bill.LineOf(ctx, enforce.SourceOf(out.Receipt.ID.Node), out.Receipt.ID.String())
	switch {
	case errors.Is(err, account.ErrNotFound) && record.Event.ID == "":
		out.Fate = "Not metered: the request is still running, was released after an error of the upstream, or its route has no meter."
		return nil
	case errors.Is(err, account.ErrNotFound):
		out.Fate = "Metered, and on no invoice line: its meter has no price on the plan, or it came after its period was closed."
		return nil
	case err != nil:
		return fmt.Errorf("lines of decision: %w", err)
	}
	for i := range lines {
		out.Charged = append(out.Charged, Charged{invoices[i], lines[i]})
	}
	return nil
}

func explainLimit(l receipt.Limit, decides bool, currency string) ExplainedLimit {
	out := ExplainedLimit{Limit: l, Decides: decides, Consumed: scaled(l.After, l.Scale), Whole: scaled(l.Quota, l.Scale)}
	text := ui.Count
	switch quota.Kind(l.Kind) {
	case quota.TokenBucket:
		out.Kind = "token bucket"
	case quota.SpendCap:
		out.Kind = "spend cap"
		text = func(d money.Decimal) string { return ui.MoneyIn(d, currency) }
	case quota.Quota:
		out.Kind = "quota"
	case quota.Fixed:
		out.Kind = "fixed windows"
	case quota.Rolling:
		out.Kind = "sliding window"
	case quota.Concurrency:
		out.Kind = "requests at once"
	case quota.Credits:
		out.Kind = "credits"
	default:
		out.Kind = "limit"
	}
	if l.After > l.Quota && !l.Violated && quota.Kind(l.Kind) != quota.TokenBucket {
		out.Overage = text(scaled(l.After-l.Quota, l.Scale))
	}
	out.Before, out.After, out.Size = text(scaled(l.Before, l.Scale)), text(out.Consumed), text(out.Whole)
	return out
}

// scaleMax is the finest scale that a decimal can hold. A receipt of ours has none finer.
const scaleMax = 38

func scaled(units int64, scale int) money.Decimal {
	if scale < 0 || scale > scaleMax {
		return money.Decimal{}
	}
	return money.FromScaled(units, scale)
}

// Allowed says whether a decision admitted its request.
func Allowed(d enforce.Recent) bool { return d.Outcome == receipt.Allowed }

// Reason says in words why a request was not admitted; limit may be empty.
func Reason(code, limit string) string {
	switch code {
	case "":
		return "Admitted"
	case "rate_exceeded":
		return "Too many requests at once" + named(limit)
	case "quota_exceeded":
		return "Quota used up" + named(limit)
	case "spend_cap_reached":
		return "Spend cap reached" + named(limit)
	case "concurrency_exceeded":
		return "Too many requests were running" + named(limit)
	case "credits_exhausted":
		return "Credits used up" + named(limit)
	case "entitlement_missing":
		return "Not included in the plan"
	case "abnormal_usage":
		return "Usage far above what is usual"
	case "unpaid":
		return "An invoice is long past due"
	case "authority_unreachable":
		return "Not served: the server that grants quota could not be reached" + named(limit)
	case "cost_invalid":
		return "The cost was no quantity of the meter"
	case "no_subscription":
		return "No active subscription"
	case "key_missing":
		return "No API key was sent"
	case "key_unknown":
		return "Unknown API key"
	case "key_revoked":
		return "Revoked API key"
	case "key_expired":
		return "Expired API key"
	case "route_unknown":
		return "No such route"
	case "spool_full":
		return "Not served: the gateway's spool was full"
	case "unavailable":
		return "Not served: the gateway had trouble of its own"
	}
	return ui.Words(code) + named(limit)
}

func named(limit string) string {
	if limit == "" {
		return ""
	}
	return ": " + limit
}

func outcomeTone(e Explanation) string {
	if e.Outcome == receipt.Allowed {
		return Good
	}
	return Bad
}

// deciding is the key of the limit that decided; empty for none.
func deciding(e Explanation) string {
	for _, l := range e.Limits {
		if l.Decides {
			return l.Key
		}
	}
	return ""
}

func title(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

func list(words []string) string { return strings.Join(words, ", ") }

func micros(t int64) time.Time { return time.UnixMicro(t).UTC() }
