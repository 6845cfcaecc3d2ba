package postgres

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	standingColumns = `SELECT s.invoice_id, s.customer_id, s.turn, s.status, s.currency, s.total, s.applied, s.paid, s.credited, s.credited_due,
		s.due_at, s.at, s.actor, s.reason, s.reference FROM invoice_standings s`
	standingNewest = " JOIN invoice_newest n USING (invoice_id, turn)"
	paymentColumns = `SELECT id, kind, customer_id, coalesce(invoice_id, ''), currency, amount, applied, method, reference, note, received_at,
		created_at, actor FROM payments`
	noteColumns = "SELECT number, id, invoice_id, customer_id, currency, net, tax, off, reason, created_at, actor FROM credit_notes"
)

func scanStanding(row scanner) (s invoice.Standing, err error) {
	var c money.Currency
	var total, applied, paid, credited, due int64
	err = row.Scan(&s.InvoiceID, &s.CustomerID, &s.Turn, (*string)(&s.Status), column.Currency(&c), &total, &applied, &paid, &credited, &due,
		column.Time(&s.DueAt), column.Time(&s.At), &s.Actor, &s.Reason, &s.Reference)
	s.Total, s.Applied, s.Paid = money.NewAmount(total, c), money.NewAmount(applied, c), money.NewAmount(paid, c)
	s.Credited, s.CreditedDue = money.NewAmount(credited, c), money.NewAmount(due, c)
	return s, err
}

func scanPayment(row scanner) (p store.Payment, err error) {
	var c money.Currency
	var amount, applied int64
	err = row.Scan(&p.ID, (*string)(&p.Kind), &p.CustomerID, &p.InvoiceID, column.Currency(&c), &amount, &applied, &p.Method, &p.Reference, &p.Note,
		column.Time(&p.ReceivedAt), column.Time(&p.CreatedAt), &p.Actor)
	p.Amount, p.Applied = money.NewAmount(amount, c), money.NewAmount(applied, c)
	return p, err
}

func scanNote(row scanner) (n store.CreditNote, err error) {
	var c money.Currency
	var net, tax, off int64
	err = row.Scan(&n.Number, &n.ID, &n.InvoiceID, &n.CustomerID, column.Currency(&c), &net, &tax, &off, &n.Reason, column.Time(&n.CreatedAt), &n.Actor)
	n.Net, n.Tax, n.Total, n.Off = money.NewAmount(net, c), money.NewAmount(tax, c), money.NewAmount(net+tax, c), money.NewAmount(off, c)
	return n, err
}

// insertStanding stores the next one; the table refuses one that does not follow.
func insertStanding(ctx context.Context, tx pgx.Tx, s invoice.Standing) error {
	if err := s.Check(); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO invoice_standings (invoice_id, customer_id, turn, status, currency, total, applied, paid, credited,
		credited_due, due_at, at, actor, reason, reference) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		s.InvoiceID, s.CustomerID, s.Turn, string(s.Status), s.Currency().Code(), s.Total.Minor(), s.Applied.Minor(), s.Paid.Minor(),
		s.Credited.Minor(), s.CreditedDue.Minor(), column.Micros(s.DueAt), s.At.UnixMicro(), s.Actor, s.Reason, s.Reference)
	return err
}

// Move implements store.Collections. store.ErrNotFound: there is no such invoice or customer.
func (r *Records) Move(ctx context.Context, m store.Movement, a store.Audit) error {
	return r.writeAudited(ctx, "move money", lockBooks, a, func(tx pgx.Tx) error {
		if m.Standing != nil {
			if err := insertStanding(ctx, tx, *m.Standing); err != nil {
				return err
			}
		}
		if err := insertEntries(ctx, tx, m.Entries); err != nil {
			return err
		}
		if m.Payment != nil {
			if err := insertPayment(ctx, tx, m.Payment); err != nil {
				return err
			}
		}
		if m.CreditNote != nil {
			return insertNote(ctx, tx, m.CreditNote)
		}
		return nil
	})
}

func insertPayment(ctx context.Context, tx pgx.Tx, p *store.Payment) error {
	var of any
	if p.InvoiceID != "" {
		of = p.InvoiceID
	}
	_, err := tx.Exec(ctx, `INSERT INTO payments (id, kind, customer_id, invoice_id, currency, amount, applied, method, reference, note,
		received_at, created_at, actor) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		p.ID, string(p.Kind), p.CustomerID, of, p.Amount.Currency().Code(), p.Amount.Minor(), p.Applied.Minor(), p.Method, p.Reference, p.Note,
		p.ReceivedAt.UnixMicro(), p.CreatedAt.UnixMicro(), p.Actor)
	return err
}

func insertNote(ctx context.Context, tx pgx.Tx, n *store.CreditNote) error {
	if sum, err := n.Net.Add(n.Tax); err != nil || sum != n.Total {
		return fmt.Errorf("credit note %s: net %s and tax %s are not %s", n.ID, n.Net, n.Tax, n.Total)
	}
	if err := tx.QueryRow(ctx, "SELECT coalesce(max(number), 0) + 1 FROM credit_notes").Scan(&n.Number); err != nil {
		return err
	}
	for i, l := range n.Lines {
		_, err := tx.Exec(ctx, "INSERT INTO credit_note_lines (note_id, number, line_id, net, tax) VALUES ($1, $2, $3, $4, $5)",
			n.ID, i+1, l.LineID, l.Net.Minor(), l.Tax.Minor())
		if err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `INSERT INTO credit_notes (number, id, invoice_id, customer_id, currency, net, tax, off, reason, created_at, actor)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, n.Number, n.ID, n.InvoiceID, n.CustomerID, n.Total.Currency().Code(), n.Net.Minor(), n.Tax.Minor(),
		n.Off.Minor(), n.Reason, n.CreatedAt.UnixMicro(), n.Actor)
	return err
}

// Standings implements store.Collections.
func (r *Records) Standings(ctx context.Context, invoiceIDs []string) (map[string]invoice.Standing, error) {
	all, err := list(ctx, r.db.pool, scanStanding, standingColumns+standingNewest+" WHERE s.invoice_id = ANY($1)", invoiceIDs)
	if err != nil {
		return nil, r.wrap("invoice standings", err)
	}
	out := make(map[string]invoice.Standing, len(all))
	for _, s := range all {
		out[s.InvoiceID] = s
	}
	return out, nil
}

// StandingHistory implements store.Collections.
func (r *Records) StandingHistory(ctx context.Context, invoiceID string) ([]invoice.Standing, error) {
	all, err := list(ctx, r.db.pool, scanStanding, standingColumns+" WHERE s.invoice_id = $1 ORDER BY s.turn", invoiceID)
	return all, r.wrap("standings of "+invoiceID, err)
}

// OpenInvoices implements store.Collections.
func (r *Records) OpenInvoices(ctx context.Context, q store.OpenQuery) ([]invoice.Standing, error) {
	before, after, id := int64(math.MaxInt64), int64(math.MinInt64), ""
	if !q.DueBefore.IsZero() {
		before = q.DueBefore.UnixMicro() - 1
	}
	if q.After != nil {
		if after, id = int64(math.MaxInt64), q.After.InvoiceID; !q.After.DueAt.IsZero() {
			after = q.After.DueAt.UnixMicro()
		}
	}
	where, args := "", []any{before, after, id}
	if q.CustomerID != "" {
		where, args = " AND n.customer_id = $4", append(args, q.CustomerID)
	}
	return page(ctx, r, "open invoices", q.Limit, scanStanding, standingColumns+standingNewest+` WHERE n.status = 'finalized'
		AND n.due_at <= $1 AND (n.due_at, n.invoice_id) > ($2, $3)`+where+" ORDER BY n.due_at, n.invoice_id", args...)
}

// Unposted implements store.Collections. Numbers through all series are in the order of finalizing.
func (r *Records) Unposted(ctx context.Context, after int64, limit int) (ids []string, next int64, err error) {
	type unposted struct {
		row int64
		id  string
	}
	var newest int64 // read first: what is finalized meanwhile is for the next call
	if err := r.db.pool.QueryRow(ctx, "SELECT greatest($1::bigint, (SELECT coalesce(max(number), 0) FROM invoices))", after).Scan(&newest); err != nil {
		return nil, after, r.wrap("invoices that are not posted", err)
	}
	all, err := page(ctx, r, "invoices that are not posted", limit, func(row scanner) (u unposted, err error) {
		err = row.Scan(&u.row, &u.id)
		return u, err
	}, `SELECT number, id FROM invoices WHERE number > $1 AND NOT EXISTS (SELECT 1 FROM invoice_newest WHERE invoice_id = invoices.id)
		ORDER BY number`, after)
	if err != nil {
		return nil, after, err
	}
	if len(all) == 0 {
		return nil, newest, nil
	}
	for _, u := range all {
		ids = append(ids, u.id)
	}
	return ids, all[0].row - 1, nil
}

// Payments implements store.Collections.
func (r *Records) Payments(ctx context.Context, q store.RecordQuery) ([]store.Payment, error) {
	return page(ctx, r, "payments", q.Limit, scanPayment, paymentColumns+` WHERE ($1 = '' OR id < $1) AND ($2 = '' OR customer_id = $2)
		AND ($3 = '' OR invoice_id = $3) AND ($4 = '' OR reference = $4) ORDER BY id DESC`, q.Cursor, q.CustomerID, q.InvoiceID, q.Reference)
}

// CreditNotes implements store.Collections. An unknown cursor is store.ErrNotFound.
func (r *Records) CreditNotes(ctx context.Context, q store.RecordQuery) ([]store.CreditNote, error) {
	below := int64(math.MaxInt64)
	if q.Cursor != "" {
		if err := r.db.pool.QueryRow(ctx, "SELECT number FROM credit_notes WHERE id = $1", q.Cursor).Scan(&below); err != nil {
			return nil, r.wrap("credit notes: cursor "+q.Cursor, err)
		}
	}
	notes, err := page(ctx, r, "credit notes", q.Limit, scanNote, noteColumns+` WHERE number < $1 AND ($2 = '' OR customer_id = $2)
		AND ($3 = '' OR invoice_id = $3) AND ($4 = '' OR id = $4) ORDER BY number DESC`, below, q.CustomerID, q.InvoiceID, q.ID)
	if err != nil {
		return nil, err
	}
	return notes, r.wrap("credit notes", r.readNoteLines(ctx, notes))
}

func (r *Records) readNoteLines(ctx context.Context, notes []store.CreditNote) error {
	type noteLine struct {
		note, line string
		net, tax   int64
	}
	ids, at := make([]string, len(notes)), make(map[string]*store.CreditNote, len(notes))
	for i := range notes {
		ids[i], at[notes[i].ID] = notes[i].ID, &notes[i]
	}
	lines, err := list(ctx, r.db.pool, func(row scanner) (l noteLine, err error) {
		err = row.Scan(&l.note, &l.line, &l.net, &l.tax)
		return l, err
	}, "SELECT note_id, line_id, net, tax FROM credit_note_lines WHERE note_id = ANY($1) ORDER BY note_id, number", ids)
	if err != nil {
		return err
	}
	for _, l := range lines {
		n := at[l.note]
		c := n.Total.Currency()
		n.Lines = append(n.Lines, store.CreditNoteLine{LineID: l.line, Net: money.NewAmount(l.net, c), Tax: money.NewAmount(l.tax, c)})
	}
	return nil
}

// PutStep implements store.Dunnings. store.ErrNotFound: there is no such invoice.
func (r *Records) PutStep(ctx context.Context, s store.DunningStep) (added bool, err error) {
	err = r.write(ctx, "put dunning step "+s.Step, lockBooks, func(tx pgx.Tx) error {
		res, err := tx.Exec(ctx, "INSERT INTO dunning_steps (invoice_id, step, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", s.InvoiceID, s.Step, s.At.UnixMicro())
		if err != nil {
			return err
		}
		added = res.RowsAffected() > 0
		return nil
	})
	return added && err == nil, err
}

// Steps implements store.Dunnings.
func (r *Records) Steps(ctx context.Context, invoiceID string) ([]store.DunningStep, error) {
	all, err := list(ctx, r.db.pool, func(row scanner) (s store.DunningStep, err error) {
		err = row.Scan(&s.InvoiceID, &s.Step, column.Time(&s.At))
		return s, err
	}, "SELECT invoice_id, step, at FROM dunning_steps WHERE invoice_id = $1 ORDER BY at, step", invoiceID)
	return all, r.wrap("dunning steps of "+invoiceID, err)
}

// Suspended implements store.Dunnings.
func (r *Records) Suspended(ctx context.Context, step string) ([]string, error) {
	all, err := list(ctx, r.db.pool, func(row scanner) (id string, err error) {
		err = row.Scan(&id)
		return id, err
	}, `SELECT DISTINCT n.customer_id FROM dunning_steps d JOIN invoice_newest n USING (invoice_id)
		WHERE d.step = $1 AND n.status = 'finalized' ORDER BY n.customer_id`, step)
	return all, r.wrap("suspended customers", err)
}
