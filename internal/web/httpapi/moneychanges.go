package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// migrationPreviews bounds the invoices that a dry run of a migration computes.
const migrationPreviews = 1000

// TotalsBody compares what is to be paid.
type TotalsBody struct {
	Before     moneyBody `json:"before"`
	After      moneyBody `json:"after"`
	Difference moneyBody `json:"difference"`
}

// moneyChangeBody is the money of a change that was not made.
type moneyChangeBody struct {
	TotalsBody
	InvoiceBefore invoiceBody `json:"invoice_before" doc:"The invoices up to the end of the billing period, as one"`
	InvoiceAfter  invoiceBody `json:"invoice_after" doc:"The same with the change"`
}

// totals are two totals and what they differ by.
type totals struct{ before, after, difference money.Amount }

func totalsOf(before, after money.Amount) (totals, error) {
	difference, err := after.Add(money.NewAmount(-before.Minor(), before.Currency()))
	return totals{before, after, difference}, err
}

func (t totals) body() TotalsBody {
	return TotalsBody{moneyOf(t.before), moneyOf(t.after), moneyOf(t.difference)}
}

// previewLast is the next invoice without and with the last change of a history. ok is false where no billing period runs.
func (a *api) previewLast(ctx context.Context, h *subscription.History) (before, after invoice.Invoice, ok bool, err error) {
	before, after, err = a.cfg.Bill.PreviewChange(ctx, h.ID, h.Changes[len(h.Changes)-1:])
	if errors.Is(err, account.ErrNotFound) {
		return before, after, false, nil
	}
	if after.Currency.Code() == "" { // it ends the subscription: nothing follows
		after = before
		after.Lines, after.Taxes = nil, nil
		nothing := money.NewAmount(0, before.Currency)
		after.Subtotal, after.Tax, after.Total, after.Balance, after.Due = nothing, nothing, nothing, nothing, nothing
	}
	return before, after, err == nil, err
}

// moneyOfChange previews the last change of a history.
func (a *api) moneyOfChange(ctx context.Context, h *subscription.History) (*moneyChangeBody, error) {
	if err := a.cfg.Flush(ctx); err != nil {
		return nil, err
	}
	before, after, ok, err := a.previewLast(ctx, h)
	if err != nil || !ok {
		return nil, err
	}
	t, err := totalsOf(before.Total, after.Total)
	return &moneyChangeBody{t.body(), a.invoiceOf(before), a.invoiceOf(after)}, err
}

func (a *api) migrate(ctx context.Context, in *struct {
	DryRun
	Body migrationBody
},
) (migratedBody, error) {
	b, dry := in.Body, in.DryRun.DryRun
	moves := map[string]*subscription.History{} // what is previewed, when nobody waits for the directory
	m := govern.Migration{Plan: b.Plan, Customer: b.Customer, ToVersion: b.ToVersion, At: b.At, Reason: b.Reason}
	if dry {
		m.Each = func(_ context.Context, _ account.Customer, _, after subscription.History) error {
			if len(moves) < migrationPreviews {
				moves[after.ID] = &after
			}
			return nil
		}
	}
	list, err := a.cfg.Govern.Migrate(ctx, operator, m, dry)
	if err != nil {
		return migratedBody{}, err
	}
	out := migratedBody{DryRun: dry, Items: []migratedSubBody{}}
	for _, m := range list {
		out.Items = append(out.Items, migratedSubBody{
			Customer: m.Customer.Key, Subscription: m.Subscription.ID, Plan: m.Subscription.Plan, FromVersion: m.Subscription.CatalogVersion,
			ToVersion: m.ToVersion, At: instant(m.At), Refused: m.Refused,
		})
	}
	if dry && len(moves) > 0 {
		err = a.moneyOfMigration(ctx, &out, moves)
	}
	return out, err
}

// moneyOfMigration fills in the money of a migration that was not made.
func (a *api) moneyOfMigration(ctx context.Context, out *migratedBody, moves map[string]*subscription.History) error {
	if err := a.cfg.Flush(ctx); err != nil {
		return err
	}
	sums := map[string]totals{}
	for i := range out.Items {
		item := &out.Items[i]
		h := moves[item.Subscription]
		if h == nil || item.Refused != "" {
			continue
		}
		before, after, ok, err := a.previewLast(ctx, h)
		if err != nil {
			return fmt.Errorf("money of the migration of %s: %w", item.Customer, err)
		}
		if !ok {
			continue
		}
		t, err := totalsOf(before.Total, after.Total)
		if err != nil {
			return err
		}
		item.Money = new(t.body())
		code := before.Currency.Code()
		if sums[code], err = t.plus(sums[code]); err != nil {
			return err
		}
	}
	for _, sum := range sums {
		out.Totals = append(out.Totals, sum.body())
	}
	slices.SortFunc(out.Totals, func(x, y TotalsBody) int { return cmp.Compare(x.Before.Currency, y.Before.Currency) })
	return nil
}

// plus adds sums of one currency; the zero one is nothing.
func (t totals) plus(o totals) (sum totals, err error) {
	if o == (totals{}) {
		return t, nil
	}
	for _, part := range []struct {
		to   *money.Amount
		a, b money.Amount
	}{{&sum.before, t.before, o.before}, {&sum.after, t.after, o.after}, {&sum.difference, t.difference, o.difference}} {
		if *part.to, err = part.a.Add(part.b); err != nil {
			return totals{}, err
		}
	}
	return sum, nil
}
