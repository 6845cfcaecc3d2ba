package transfer

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Dialect is how a database is spoken to.
type Dialect string

// The dialects.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// Database is one with the tables of records. Schema is PostgreSQL's; empty: the connection's own.
type Database struct {
	DB      *sql.DB
	Dialect Dialect
	Schema  string
}

// Table is what was moved of one: its rows, and a digest of their content in whatever order and types.
type Table struct {
	Name   string `json:"table"`
	Rows   int64  `json:"rows"`
	Digest string `json:"digest"`
}

// Tables copies all rows of all tables, in one transaction of the target, and compares what arrived by count and digest. Both
// need the same tables with the same columns. A table that has rows in the target already must have all of them and no other:
// so a copy that was finished can be called again. What keeps the schema itself is left out. ErrDiffers.
func Tables(ctx context.Context, from, to Database) (moved []Table, err error) {
	tables, err := order(ctx, from, to)
	if err != nil {
		return nil, err
	}
	tx, err := to.DB.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	again, err := to.silence(ctx, tx, tables)
	if err != nil {
		return nil, fmt.Errorf("put the triggers aside: %w", err)
	}
	for _, t := range tables {
		one, err := t.move(ctx, from, to, tx)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t.name, err)
		}
		moved = append(moved, one)
	}
	for _, statement := range again {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return nil, fmt.Errorf("put the triggers back: %w", err)
		}
	}
	return moved, tx.Commit()
}

// silence puts the triggers aside within the transaction: they hold what a service may write, one row at a time and in its
// order. What is copied was held to that once. It returns what puts them back. Foreign keys go on being checked.
func (d Database) silence(ctx context.Context, tx *sql.Tx, tables []*table) (again []string, err error) {
	var now []string
	if d.Dialect == Postgres {
		again = append(again, "SET CONSTRAINTS ALL IMMEDIATE") // else rows wait for their checks, and the table cannot be altered
		for _, t := range tables {
			now = append(now, "ALTER TABLE "+d.path(t.name)+" DISABLE TRIGGER USER")
			again = append(again, "ALTER TABLE "+d.path(t.name)+" ENABLE TRIGGER USER")
		}
	} else {
		err = each(ctx, tx, "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'", nil, func(v []any) error {
			now, again = append(now, "DROP TRIGGER "+strconv.Quote(text(v[0]))), append(again, text(v[1]))
			return nil
		})
	}
	for _, statement := range now {
		if err == nil {
			_, err = tx.ExecContext(ctx, statement)
		}
	}
	return again, err
}

// table is one of the target with its columns, sorted by name.
type table struct {
	name    string
	columns []column
	needs   []string // tables that it refers to
	sorted  string   // column by which the source's rows come in the order in which they were stored; empty: none
}

type column struct {
	name, kind string
	counted    bool // PostgreSQL numbers it; SQLite has rowid for that
}

func (t *table) names() (list []string) {
	for _, c := range t.columns {
		list = append(list, strconv.Quote(c.name))
	}
	return list
}

// order lists the tables so that each comes behind those that it refers to.
func order(ctx context.Context, from, to Database) ([]*table, error) {
	source, err := from.tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the source's tables: %w", err)
	}
	target, err := to.tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the target's tables: %w", err)
	}
	source, target = common(from, source, to, target)
	if err := alike(source, target); err != nil {
		return nil, err
	}
	for i := range target {
		target[i].sorted = source[i].sorted
	}
	var sorted []*table
	done := map[string]bool{}
	for len(sorted) < len(target) {
		before := len(sorted)
		for _, t := range target {
			ready := !slices.ContainsFunc(t.needs, func(n string) bool { return n != t.name && !done[n] })
			if ready && !done[t.name] {
				done[t.name] = true
				sorted = append(sorted, t)
			}
		}
		if len(sorted) == before {
			return nil, errors.New("tables refer to each other in a circle")
		}
	}
	return sorted, nil
}

// common leaves out what SQLite does not have: tables that are for several servers, or of others in the same database, and columns
// that only number the rows.
func common(from Database, source []*table, to Database, target []*table) (a, b []*table) {
	if from.Dialect == to.Dialect {
		return source, target
	}
	if to.Dialect == Postgres {
		return source, less(target, source)
	}
	return less(source, target), target
}

func less(all, wanted []*table) []*table {
	all = slices.DeleteFunc(all, func(t *table) bool { return find(wanted, t.name) == nil })
	for _, t := range all {
		of := find(wanted, t.name)
		t.columns = slices.DeleteFunc(t.columns, func(c column) bool {
			return c.counted && !slices.ContainsFunc(of.columns, func(o column) bool { return o.name == c.name })
		})
		t.needs = slices.DeleteFunc(t.needs, func(n string) bool { return find(wanted, n) == nil })
	}
	return all
}

func find(list []*table, name string) *table {
	if i := slices.IndexFunc(list, func(t *table) bool { return t.name == name }); i >= 0 {
		return list[i]
	}
	return nil
}

func alike(a, b []*table) error {
	name := func(t *table) string { return t.name + " (" + strings.Join(t.names(), ", ") + ")" }
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return fmt.Errorf("%w: the target has a table %s more", ErrDiffers, name(b[i]))
		case i >= len(b):
			return fmt.Errorf("%w: the source has a table %s more", ErrDiffers, name(a[i]))
		case name(a[i]) != name(b[i]):
			return fmt.Errorf("%w: the source has a table %s, the target %s; bring both to the same version by tally migrate up", ErrDiffers, name(a[i]), name(b[i]))
		}
	}
	return nil
}

const (
	sqliteColumns = `SELECT t.name, c.name, lower(c.type), 0, (SELECT 1 - l.wr FROM pragma_table_list(t.name) AS l WHERE l.schema = 'main') FROM sqlite_schema AS t, pragma_table_xinfo(t.name) AS c
WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND t.name NOT LIKE 'goose\_%' ESCAPE '\' AND c.hidden = 0 ORDER BY t.name, c.name`
	sqliteNeeds = `SELECT DISTINCT t.name, f."table" FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS f WHERE t.type = 'table'`
	// Generated columns are computed; the collation makes the order the same as SQLite's.
	postgresColumns = `SELECT c.table_name::text, c.column_name::text, c.data_type::text, (c.is_identity = 'YES')::int, 0 FROM information_schema.columns AS c
JOIN information_schema.tables AS t USING (table_schema, table_name)
WHERE c.table_schema = coalesce(nullif($1, ''), current_schema()) AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER' AND c.table_name NOT LIKE 'goose\_%'
ORDER BY c.table_name::text COLLATE "C", c.column_name::text COLLATE "C"`
	postgresNeeds = `SELECT DISTINCT t.relname::text, f.relname::text FROM pg_constraint AS k JOIN pg_class AS t ON t.oid = k.conrelid JOIN pg_class AS f ON f.oid = k.confrelid
WHERE k.contype = 'f' AND k.connamespace = coalesce(nullif($1, ''), current_schema())::regnamespace`
)

func (d Database) tables(ctx context.Context) (list []*table, err error) {
	columns, needs, args := sqliteColumns, sqliteNeeds, []any(nil)
	if d.Dialect == Postgres {
		columns, needs, args = postgresColumns, postgresNeeds, []any{d.Schema}
	}
	err = each(ctx, d.DB, columns, args, func(v []any) error {
		name := text(v[0])
		if len(list) == 0 || list[len(list)-1].name != name {
			list = append(list, &table{name: name})
		}
		t := list[len(list)-1]
		c := column{name: text(v[1]), kind: text(v[2]), counted: text(v[3]) == "1"}
		t.columns = append(t.columns, c)
		if c.counted {
			t.sorted = strconv.Quote(c.name)
		} else if text(v[4]) == "1" {
			t.sorted = "rowid"
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, each(ctx, d.DB, needs, args, func(v []any) error {
		for _, t := range list {
			if t.name == text(v[0]) {
				t.needs = append(t.needs, text(v[1]))
			}
		}
		return nil
	})
}

func (d Database) path(name string) string {
	if d.Schema != "" {
		return strconv.Quote(d.Schema) + "." + strconv.Quote(name)
	}
	return strconv.Quote(name)
}

func (t *table) selectAll(d Database) string {
	return "SELECT " + strings.Join(t.names(), ", ") + " FROM " + d.path(t.name) //nolint:gosec // names of our own schema
}

// queryer is a database or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each calls do with the values of every row; they are good until it returns.
func each(ctx context.Context, db queryer, query string, args []any, do func(values []any) error) (err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := do(values); err != nil {
			return err
		}
	}
	return rows.Err()
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}

func (t *table) move(ctx context.Context, from, to Database, tx *sql.Tx) (Table, error) {
	have, err := t.digest(ctx, to, tx)
	if err != nil {
		return have, err
	}
	want, err := t.digest(ctx, from, from.DB)
	if err != nil || want == have {
		return want, err
	}
	if have.Rows > 0 {
		return have, fmt.Errorf("%w: the target has %d rows already; name an empty one", ErrDiffers, have.Rows)
	}
	if err := t.copy(ctx, from, to, tx); err != nil {
		return have, err
	}
	if have, err = t.digest(ctx, to, tx); err == nil && have != want {
		err = fmt.Errorf("%w: %d rows with digest %s arrived as %d with %s", ErrDiffers, want.Rows, want.Digest, have.Rows, have.Digest)
	}
	return have, err
}

func (t *table) copy(ctx context.Context, from, to Database, tx *sql.Tx) (err error) {
	places := make([]string, len(t.columns))
	for i := range places {
		places[i] = "?"
		if to.Dialect == Postgres {
			places[i] = "$" + strconv.Itoa(i+1)
		}
	}
	override := ""
	if to.Dialect == Postgres {
		override = " OVERRIDING SYSTEM VALUE"
	}
	insert, err := tx.PrepareContext(ctx, "INSERT INTO "+to.path(t.name)+" ("+strings.Join(t.names(), ", ")+")"+override+" VALUES ("+strings.Join(places, ", ")+")") //nolint:gosec // names of our own schema
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, insert.Close()) }()
	row := make([]any, len(t.columns))
	query := t.selectAll(from)
	if t.sorted != "" {
		query += " ORDER BY " + t.sorted
	}
	err = each(ctx, from.DB, query, nil, func(values []any) error {
		for i, v := range values {
			row[i] = t.columns[i].value(v)
		}
		_, err := insert.ExecContext(ctx, row...)
		return err
	})
	if err != nil || to.Dialect != Postgres {
		return err
	}
	return t.sequences(ctx, to, tx)
}

// value is what a column of the target takes for one of the source.
func (c column) value(v any) any {
	switch c.kind {
	case "boolean":
		if n, ok := v.(int64); ok {
			return n != 0
		}
	case "bytea", "blob":
		if s, ok := v.(string); ok {
			return []byte(s)
		}
	case "text", "character varying", "json", "jsonb":
		if b, ok := v.([]byte); ok {
			return string(b)
		}
	case "timestamp with time zone":
		if n, ok := v.(int64); ok {
			return time.UnixMicro(n).UTC()
		}
	case "integer":
		switch v := v.(type) {
		case bool:
			if v {
				return int64(1)
			}
			return int64(0)
		case time.Time:
			return v.UnixMicro()
		}
	}
	return v
}

// sequences makes those of identity columns go on behind what was copied.
func (t *table) sequences(ctx context.Context, to Database, tx *sql.Tx) error {
	for _, c := range t.columns {
		if c.kind != "bigint" && c.kind != "integer" {
			continue
		}
		_, err := tx.ExecContext(ctx, "SELECT setval(s, (SELECT max("+strconv.Quote(c.name)+") FROM "+to.path(t.name)+")) FROM pg_get_serial_sequence($1, $2) AS s WHERE s IS NOT NULL", //nolint:gosec // names of our own schema
			to.path(t.name), c.name)
		if err != nil {
			return err
		}
	}
	return nil
}

// digest adds up the hashes of all rows, so that their order is no matter. A value is hashed as what it means: a truth as 0 or
// 1, an instant as microseconds, text and bytes alike.
func (t *table) digest(ctx context.Context, d Database, db queryer) (Table, error) {
	var total [sha256.Size]byte
	out := Table{Name: t.name}
	var b []byte
	err := each(ctx, db, t.selectAll(d), nil, func(values []any) error {
		b = b[:0]
		for _, v := range values {
			b = appendValue(b, v)
		}
		sum := sha256.Sum256(b)
		carry := 0
		for i := range total {
			carry += int(total[i]) + int(sum[i])
			total[i], carry = byte(carry), carry>>8
		}
		out.Rows++
		return nil
	})
	out.Digest = hex.EncodeToString(total[:])
	return out, err
}

func appendValue(b []byte, v any) []byte {
	kind, s := byte('t'), ""
	switch v := v.(type) {
	case nil:
		kind = 'n'
	case int64:
		kind, s = 'i', strconv.FormatInt(v, 10)
	case bool:
		kind, s = 'i', "0"
		if v {
			s = "1"
		}
	case time.Time:
		kind, s = 'i', strconv.FormatInt(v.UnixMicro(), 10)
	default:
		s = text(v)
	}
	b = append(b, kind)
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	return append(b, s...)
}
