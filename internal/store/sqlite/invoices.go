package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	closeColumns = `SELECT subscription_id, period_start, period_end, position, closed_at, progressive, catalog_version, changes,
		invoice_id, done FROM closes`
	closeKey       = " WHERE subscription_id = ? AND period_start = ? AND period_end = ?"
	invoiceColumns = `SELECT i.number, i.id, i.customer_id, i.subscription_id, i.plan, coalesce(n.status, i.status), i.currency, i.period_start,
		i.period_end, i.total_minor, i.catalog_version, i.tz_version, i.position, i.finalized_at, i.document
		FROM invoices i LEFT JOIN invoice_newest n ON n.invoice_id = i.id`
	lineColumns = `SELECT invoice_id, number, id, kind, price, meter, period_start, period_end, quantity, tiers, exact,
		rounded_minor FROM invoice_lines`
)

func scanClose(row scanner) (c store.Close, err error) {
	err = row.Scan(&c.SubscriptionID, column.Time(&c.Period.Start), column.Time(&c.Period.End), &c.Position, column.Time(&c.ClosedAt),
		&c.Progressive, &c.CatalogVersion, &c.Changes, &c.InvoiceID, &c.Done)
	return c, err
}

func readClose(ctx context.Context, q queryer, c store.Close) (store.Close, error) {
	return scanClose(q.QueryRowContext(ctx, closeColumns+closeKey, c.SubscriptionID, c.Period.Start.UnixMicro(), c.Period.End.UnixMicro()))
}

// BeginClose implements store.Invoices. An unknown subscription is store.ErrNotFound.
func (r *Records) BeginClose(ctx context.Context, c store.Close) (store.Close, error) {
	stored, err := r.BeginCloses(ctx, []store.Close{c})
	if err != nil {
		return store.Close{}, err
	}
	return stored[0], nil
}

// BeginCloses implements store.Closings.
func (r *Records) BeginCloses(ctx context.Context, list []store.Close) (stored []store.Close, err error) {
	for i := range list {
		if list[i].Position > math.MaxInt64 {
			return nil, fmt.Errorf("records: begin close: position %d is out of range", list[i].Position)
		}
	}
	err = r.writeMany(ctx, "begin close", func(tx transaction) error {
		for i := range list {
			c, err := beginClose(ctx, tx, &list[i])
			if err != nil {
				return fmt.Errorf("subscription %s: %w", list[i].SubscriptionID, err)
			}
			stored = append(stored, c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

func beginClose(ctx context.Context, tx transaction, c *store.Close) (store.Close, error) {
	_, err := tx.ExecContext(ctx, `INSERT INTO closes (subscription_id, period_start, period_end, position, closed_at, progressive, catalog_version,
		changes) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		c.SubscriptionID, c.Period.Start.UnixMicro(), c.Period.End.UnixMicro(), int64(c.Position), c.ClosedAt.UnixMicro(), c.Progressive, c.CatalogVersion, //nolint:gosec // checked
		c.Changes)
	if err != nil {
		return store.Close{}, err
	}
	return readClose(ctx, tx, *c)
}

// FinishClose implements store.Invoices. A close that was not begun is store.ErrNotFound.
func (r *Records) FinishClose(ctx context.Context, c store.Close, issue store.Issue, at time.Time) (*invoice.Invoice, error) {
	finals, err := r.FinishCloses(ctx, []store.Finish{{Close: c, Issue: issue}}, at)
	if err != nil {
		return nil, err
	}
	return finals[0], nil
}

// FinishCloses implements store.Closings.
func (r *Records) FinishCloses(ctx context.Context, list []store.Finish, at time.Time) (finals []*invoice.Invoice, err error) {
	err = r.writeMany(ctx, "finish close", func(tx transaction) error {
		for i := range list {
			final, err := finishClose(ctx, tx, &list[i], at)
			if err != nil {
				return fmt.Errorf("subscription %s: %w", list[i].SubscriptionID, err)
			}
			finals = append(finals, final)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return finals, nil
}

func finishClose(ctx context.Context, tx transaction, f *store.Finish, at time.Time) (final *invoice.Invoice, err error) {
	stored, err := readClose(ctx, tx, f.Close)
	if err != nil {
		return nil, err
	}
	if stored.Done {
		return nil, conflict("the period is closed already")
	}
	id := ""
	if f.Invoice != nil {
		if final, err = finalize(ctx, tx, *f.Invoice, at); err != nil {
			return nil, err
		}
		if err := postInvoice(ctx, tx, *final, f.Entries); err != nil {
			return nil, err
		}
		id = final.ID
	}
	_, err = tx.ExecContext(ctx, "UPDATE closes SET done = 1, invoice_id = ?"+closeKey,
		id, stored.SubscriptionID, stored.Period.Start.UnixMicro(), stored.Period.End.UnixMicro())
	return final, err
}

// finalize takes the next number of its series for a draft and stores it.
func finalize(ctx context.Context, tx transaction, draft invoice.Invoice, at time.Time) (*invoice.Invoice, error) {
	var next, number int64
	err := tx.QueryRowContext(ctx, `SELECT (SELECT coalesce(max(number), 0) + 1 FROM invoices),
		(SELECT coalesce(max(coalesce(series_number, number)), 0) + 1 FROM invoices WHERE series = ?)`, draft.Series).Scan(&next, &number)
	if err != nil {
		return nil, err
	}
	inv, err := invoice.Finalize(draft, number, at)
	if err != nil {
		return nil, err
	}
	if inv.Total.Currency() != inv.Currency || inv.Position > math.MaxInt64 {
		return nil, fmt.Errorf("invoice %s: total in another currency, or position out of range", inv.ID)
	}
	for i := range inv.Lines {
		if err := insertLine(ctx, tx, &inv, &inv.Lines[i]); err != nil {
			return nil, fmt.Errorf("line %d: %w", inv.Lines[i].Number, err)
		}
	}
	document, err := json.Marshal(&inv)
	if err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO invoices (number, id, customer_id, subscription_id, plan, status, currency, period_start, period_end,
		total_minor, catalog_version, tz_version, position, finalized_at, document, series, series_number)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		next, inv.ID, inv.CustomerID, inv.SubscriptionID, inv.Plan, string(inv.Status), inv.Currency.Code(),
		inv.Period.Start.UnixMicro(), inv.Period.End.UnixMicro(), inv.Total.Minor(), inv.CatalogVersion, inv.TZVersion,
		int64(inv.Position), inv.FinalizedAt.UnixMicro(), string(document), inv.Series, inv.Number)
	if err != nil {
		return nil, err
	}
	return &inv, nil
}

func insertLine(ctx context.Context, tx transaction, inv *invoice.Invoice, l *invoice.Line) error {
	if l.Rounded.Currency() != inv.Currency {
		return errors.New("amount in another currency")
	}
	var tiers any
	if len(l.Tiers) > 0 {
		text, err := json.Marshal(l.Tiers)
		if err != nil {
			return err
		}
		tiers = string(text)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO invoice_lines (invoice_id, number, id, kind, price, meter, period_start, period_end,
		quantity, tiers, exact, rounded_minor) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		inv.ID, l.Number, l.ID, string(l.Kind), l.Price, l.Meter, l.Period.Start.UnixMicro(), l.Period.End.UnixMicro(),
		l.Quantity.String(), tiers, l.Exact.String(), l.Rounded.Minor())
	return err
}

// Closes implements store.Invoices. The empty period at a subscription's start comes before its first full one.
func (r *Records) Closes(ctx context.Context, subscriptionID string) ([]store.Close, error) {
	all, err := list(ctx, r.reader, scanClose, closeColumns+" WHERE subscription_id = ? ORDER BY period_end, period_start", subscriptionID)
	return all, r.wrap("closes of "+subscriptionID, err)
}

func scanInvoice(row scanner) (inv invoice.Invoice, err error) {
	var total int64
	var document sql.NullString
	err = row.Scan(&inv.Number, &inv.ID, &inv.CustomerID, &inv.SubscriptionID, &inv.Plan, &inv.Status, column.Currency(&inv.Currency),
		column.Time(&inv.Period.Start), column.Time(&inv.Period.End), &total, &inv.CatalogVersion, &inv.TZVersion, &inv.Position, column.Time(&inv.FinalizedAt), &document)
	if err != nil {
		return inv, err
	}
	if document.Valid {
		id, status := inv.ID, inv.Status
		inv = invoice.Invoice{}
		if err := json.Unmarshal([]byte(document.String), &inv); err != nil || inv.ID != id {
			return inv, fmt.Errorf("%w: document of invoice %s: %w", store.ErrCorrupt, id, err)
		}
		inv.Status = status
		return inv, nil
	}
	inv.Total = money.NewAmount(total, inv.Currency)
	inv.Subtotal, inv.Tax, inv.Balance, inv.Due = inv.Total, money.NewAmount(0, inv.Currency), money.NewAmount(0, inv.Currency), inv.Total
	inv.DueAt = inv.FinalizedAt
	return inv, nil
}

// storedLine is a line before its invoice's currency is known.
type storedLine struct {
	invoice.Line
	invoiceID string
	rounded   int64
}

func scanLine(row scanner) (l storedLine, err error) {
	var tiers sql.NullString
	err = row.Scan(&l.invoiceID, &l.Number, &l.ID, &l.Kind, &l.Price, &l.Meter, column.Time(&l.Period.Start), column.Time(&l.Period.End),
		column.Decimal(&l.Quantity), &tiers, column.Decimal(&l.Exact), &l.rounded)
	if err != nil || !tiers.Valid {
		return l, err
	}
	if err := json.Unmarshal([]byte(tiers.String), &l.Tiers); err != nil {
		return l, fmt.Errorf("%w: tiers of line %s: %w", store.ErrCorrupt, l.ID, err)
	}
	return l, nil
}

// readLines fills in the lines of finalized invoices without a document. They never change, so they need no common snapshot.
func (r *Records) readLines(ctx context.Context, invs []invoice.Invoice) error {
	ids, at := []string{}, map[string]*invoice.Invoice{}
	for i := range invs {
		if invs[i].Lines == nil {
			invs[i].Lines = []invoice.Line{}
			ids, at[invs[i].ID] = append(ids, invs[i].ID), &invs[i]
		}
	}
	if len(ids) == 0 {
		return nil
	}
	param, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	lines, err := list(ctx, r.reader, scanLine, lineColumns+" WHERE invoice_id IN (SELECT value FROM json_each(?)) ORDER BY invoice_id, number", string(param))
	if err != nil {
		return err
	}
	for _, l := range lines {
		inv := at[l.invoiceID]
		l.Rounded = money.NewAmount(l.rounded, inv.Currency)
		inv.Lines = append(inv.Lines, l.Line)
	}
	return nil
}

// Invoice implements store.Invoices.
func (r *Records) Invoice(ctx context.Context, id string) (invoice.Invoice, error) {
	invs, err := list(ctx, r.reader, scanInvoice, invoiceColumns+" WHERE i.id = ?", id)
	if err == nil && len(invs) == 0 {
		err = sql.ErrNoRows
	}
	if err == nil {
		err = r.readLines(ctx, invs)
	}
	if err != nil {
		return invoice.Invoice{}, r.wrap("invoice "+id, err)
	}
	return invs[0], nil
}

// InvoiceByLine implements store.Invoices. The line is Lines[index].
func (r *Records) InvoiceByLine(ctx context.Context, lineID string) (inv invoice.Invoice, index int, err error) {
	var id string
	if err := r.reader.QueryRowContext(ctx, "SELECT invoice_id FROM invoice_lines WHERE id = ?", lineID).Scan(&id); err != nil {
		return inv, 0, r.wrap("invoice line "+lineID, err)
	}
	if inv, err = r.Invoice(ctx, id); err != nil {
		return inv, 0, err
	}
	for i := range inv.Lines {
		if inv.Lines[i].ID == lineID {
			return inv, i, nil
		}
	}
	return invoice.Invoice{}, 0, fmt.Errorf("records: invoice line %s: %w", lineID, store.ErrNotFound)
}

// ListInvoices implements store.Invoices. The cursor is an invoice id; an unknown one is store.ErrNotFound.
func (r *Records) ListInvoices(ctx context.Context, q store.Query) ([]invoice.Invoice, error) {
	before := int64(math.MaxInt64)
	if q.Cursor != "" {
		if err := r.reader.QueryRowContext(ctx, "SELECT number FROM invoices WHERE id = ?", q.Cursor).Scan(&before); err != nil {
			return nil, r.wrap("list invoices: cursor "+q.Cursor, err)
		}
	}
	invs, err := page(ctx, r, "list invoices", q.Limit, scanInvoice,
		invoiceColumns+" WHERE i.number < ?1 AND (?2 = '' OR i.customer_id = ?2) ORDER BY i.number DESC", before, q.CustomerID)
	if err != nil {
		return nil, err
	}
	if err := r.readLines(ctx, invs); err != nil {
		return nil, r.wrap("list invoices", err)
	}
	return invs, nil
}

// InvoicesOf implements store.Invoices.
func (r *Records) InvoicesOf(ctx context.Context, subscriptionID string, from time.Time) ([]invoice.Invoice, error) {
	after := int64(math.MinInt64)
	if !from.IsZero() {
		after = from.UnixMicro()
	}
	invs, err := list(ctx, r.reader, scanInvoice, invoiceColumns+" WHERE i.subscription_id = ? AND i.period_end >= ? ORDER BY i.number", subscriptionID, after)
	if err == nil {
		err = r.readLines(ctx, invs)
	}
	if err != nil {
		return nil, r.wrap("invoices of "+subscriptionID, err)
	}
	return invs, nil
}
