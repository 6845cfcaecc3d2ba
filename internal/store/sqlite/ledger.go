package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	entryColumns   = "SELECT n, id, key, kind, customer_id, reference, at FROM ledger_entries"
	postingColumns = "SELECT entry_id, account, customer_id, currency, minor FROM ledger_postings"
)

// storedEntry is an entry before its postings are read.
type storedEntry struct {
	ledger.Entry
	n int64
}

func scanEntry(row scanner) (e storedEntry, err error) {
	err = row.Scan(&e.n, &e.ID, &e.Key, (*string)(&e.Kind), &e.CustomerID, &e.Reference, column.Time(&e.At))
	return e, err
}

// storedPosting is a posting with its entry's id.
type storedPosting struct {
	ledger.Posting
	entryID string
}

func scanPosting(row scanner) (p storedPosting, err error) {
	var minor int64
	var currency money.Currency
	err = row.Scan(&p.entryID, (*string)(&p.Account), &p.CustomerID, column.Currency(&currency), &minor)
	p.Amount = money.NewAmount(minor, currency)
	return p, err
}

// readPostings completes entries, which never change.
func readPostings(ctx context.Context, q queryer, entries []storedEntry) ([]ledger.Entry, error) {
	ids, at := make([]string, len(entries)), make(map[string]int, len(entries))
	out := make([]ledger.Entry, len(entries))
	for i, e := range entries {
		ids[i], at[e.ID], out[i] = e.ID, i, e.Entry
	}
	param, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	all, err := list(ctx, q, scanPosting, postingColumns+" WHERE entry_id IN (SELECT value FROM json_each(?)) ORDER BY entry_id, number", string(param))
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		e := &out[at[p.entryID]]
		e.Postings = append(e.Postings, p.Posting)
	}
	return out, nil
}

// insertEntries stores entries within a transaction; see store.Ledger.PutEntries.
func insertEntries(ctx context.Context, tx transaction, entries []ledger.Entry) error {
	for i := range entries {
		if err := insertEntry(ctx, tx, &entries[i]); err != nil {
			return fmt.Errorf("ledger entry %s: %w", entries[i].Key, err)
		}
	}
	return nil
}

func insertEntry(ctx context.Context, tx transaction, e *ledger.Entry) error {
	if err := e.Check(); err != nil {
		return err
	}
	have, err := list(ctx, tx, scanEntry, entryColumns+" WHERE key = ?", e.Key)
	if err != nil {
		return err
	}
	if len(have) > 0 {
		stored, err := readPostings(ctx, tx, have)
		if err != nil {
			return err
		}
		if !sameEntry(stored[0], *e) {
			return conflict("it is there with other content")
		}
		return nil
	}
	for i, p := range e.Postings {
		_, err := tx.ExecContext(ctx, "INSERT INTO ledger_postings (entry_id, number, account, customer_id, currency, minor) VALUES (?, ?, ?, ?, ?, ?)",
			e.ID, i+1, string(p.Account), p.CustomerID, p.Amount.Currency().Code(), p.Amount.Minor())
		if err != nil {
			return err
		}
	}
	if e.Of(ledger.Balance) > 0 {
		var sum int64
		err := tx.QueryRowContext(ctx, "SELECT sum(minor) FROM ledger_postings WHERE customer_id = ? AND account = ?", e.CustomerID, string(ledger.Balance)).Scan(&sum)
		if err != nil {
			return err
		}
		if sum > 0 {
			return store.ErrUncovered
		}
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO ledger_entries (id, key, kind, customer_id, reference, at) VALUES (?, ?, ?, ?, ?, ?)",
		e.ID, e.Key, string(e.Kind), e.CustomerID, e.Reference, e.At.UnixMicro())
	return err
}

func sameEntry(a, b ledger.Entry) bool {
	if a.Kind != b.Kind || a.CustomerID != b.CustomerID || a.Reference != b.Reference || !a.At.Equal(b.At) || len(a.Postings) != len(b.Postings) {
		return false
	}
	for i := range a.Postings {
		if a.Postings[i] != b.Postings[i] {
			return false
		}
	}
	return true
}

// postInvoice stores what a finalized invoice posts, and its first standing.
func postInvoice(ctx context.Context, tx transaction, inv invoice.Invoice, entries []ledger.Entry) error {
	standing, err := invoice.Open(inv, "system")
	if err != nil {
		return err
	}
	if err := insertEntries(ctx, tx, entries); err != nil {
		return err
	}
	return insertStanding(ctx, tx, standing)
}

// PutEntries implements store.Ledger.
func (r *Records) PutEntries(ctx context.Context, entries []ledger.Entry, a store.Audit) error {
	return r.writeAudited(ctx, "put ledger entries", a, func(tx *sql.Tx) error { return insertEntries(ctx, tx, entries) })
}

// Balance implements store.Ledger. store.ErrNotFound for an unknown customer.
func (r *Records) Balance(ctx context.Context, customerID string, a ledger.Account) (money.Amount, error) {
	var currency money.Currency
	var sum int64
	err := r.reader.QueryRowContext(ctx, `SELECT c.currency, (SELECT coalesce(sum(p.minor), 0) FROM ledger_postings p
		WHERE p.customer_id = c.id AND p.account = ?2 AND p.currency = c.currency) FROM customers c WHERE c.id = ?1`,
		customerID, string(a)).Scan(column.Currency(&currency), &sum)
	if err != nil {
		return money.Amount{}, r.wrap("balance of "+customerID, err)
	}
	return money.NewAmount(sum, currency), nil
}

// Entries implements store.Ledger. An unknown cursor is store.ErrNotFound.
func (r *Records) Entries(ctx context.Context, q store.EntryQuery) ([]ledger.Entry, error) {
	below := int64(math.MaxInt64)
	if q.Cursor != "" {
		if err := r.reader.QueryRowContext(ctx, "SELECT n FROM ledger_entries WHERE id = ?", q.Cursor).Scan(&below); err != nil {
			return nil, r.wrap("ledger entries: cursor "+q.Cursor, err)
		}
	}
	entries, err := page(ctx, r, "ledger entries", q.Limit, scanEntry, entryColumns+` WHERE n < ?1 AND (?2 = '' OR customer_id = ?2)
		AND (?3 = '' OR reference = ?3) AND (?4 = '' OR EXISTS (SELECT 1 FROM ledger_postings WHERE entry_id = ledger_entries.id AND account = ?4))
		ORDER BY n DESC`, below, q.CustomerID, q.Reference, string(q.Account))
	if err != nil {
		return nil, err
	}
	out, err := readPostings(ctx, r.reader, entries)
	return out, r.wrap("ledger entries", err)
}

// conservationQuery compares, for each customer, the ledger with what the standings, payments and credit notes say.
const conservationQuery = `
WITH newest AS (SELECT s.* FROM invoice_newest n JOIN invoice_standings s USING (invoice_id, turn)),
facts (currency, customer_id, receivable, open, balance, deposits) AS (
	SELECT currency, customer_id, minor, 0, 0, 0 FROM ledger_postings WHERE account = 'receivable'
	UNION ALL SELECT currency, customer_id, 0, 0, -minor, 0 FROM ledger_postings WHERE account = 'balance'
	UNION ALL SELECT currency, customer_id, 0, total - applied - paid - credited_due, 0, 0 FROM newest WHERE status = 'finalized'
	UNION ALL SELECT currency, customer_id, 0, 0, 0, max(-total, 0) - applied FROM newest WHERE status <> 'void'
	UNION ALL SELECT currency, customer_id, 0, 0, 0, CASE kind WHEN 'payment' THEN amount - applied ELSE -amount END FROM payments
	UNION ALL SELECT currency, customer_id, 0, 0, 0, net + tax - off FROM credit_notes)
SELECT currency, customer_id, sum(receivable), sum(open), sum(balance), sum(deposits) FROM facts GROUP BY currency, customer_id
ORDER BY currency, customer_id`

// Conservation implements store.Ledger.
func (r *Records) Conservation(ctx context.Context) ([]store.Conservation, error) {
	all, err := r.conservation(ctx)
	return all, r.wrap("conservation of the ledger", err)
}

func (r *Records) conservation(ctx context.Context) (all []store.Conservation, err error) {
	tx, err := r.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // both queries see one state
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	rows, err := list(ctx, tx, func(row scanner) (s store.Told, err error) {
		err = row.Scan(column.Currency(&s.Currency), &s.CustomerID, &s.Receivable, &s.Open, &s.Balance, &s.Deposits)
		return s, err
	}, conservationQuery)
	if err != nil {
		return nil, err
	}
	sums, err := list(ctx, tx, func(row scanner) (a money.Amount, err error) {
		var c money.Currency
		var minor int64
		err = row.Scan(column.Currency(&c), &minor)
		return money.NewAmount(minor, c), err
	}, "SELECT currency, sum(minor) FROM ledger_postings GROUP BY currency")
	if err != nil {
		return nil, err
	}
	return store.Conserved(rows, sums)
}
