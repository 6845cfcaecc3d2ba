package journal

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/schema"
)

//go:embed migrations/*.sql
var migrations embed.FS

const versionTable = "journal_migrations"

// ErrEarlier says that a database has tables from before the first version of the schema. Nothing in it was
// changed.
var ErrEarlier = errors.New("the tables are those of an earlier development build: move the journal to a folder by `tally move` of that build, " +
	"then from there to another database by `tally move` of this one")

// Schema calls do with the migrations of the journal at a URL, without applying any; the table that lists them is made. It waits
// for whoever migrates meanwhile. store.ErrInvalid: it is no URL of a database. ErrEarlier.
func Schema(ctx context.Context, url string, do func(*schema.Schema) error) error {
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("journal: the database's URL: %w: %w", store.ErrInvalid, err)
	}
	if err := onSchema(ctx, pc.ConnConfig, do); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// migrateLock is of a session, so that several servers that start together migrate once.
func migrateLock() int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("tally journal migrations")) // it cannot fail
	return int64(h.Sum64())                            //nolint:gosec // any number will do
}

// onSchema runs do under the lock of migrations.
func onSchema(ctx context.Context, cc *pgx.ConnConfig, do func(*schema.Schema) error) (err error) {
	c, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	if _, err := c.Exec(ctx, "SELECT pg_advisory_lock($1)", migrateLock()); err != nil { // until the connection ends
		return err
	}
	// It had a first migration too, of other tables, so that the number tells nothing.
	var earlier bool
	if err := c.QueryRow(ctx, "SELECT to_regclass('journal_records') IS NOT NULL").Scan(&earlier); err != nil {
		return err
	}
	if earlier {
		return ErrEarlier
	}
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	versions, err := database.NewStore(database.DialectPostgres, versionTable)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*cc)
	defer func() { err = errors.Join(err, db.Close()) }()
	s, err := schema.New(database.DialectCustom, db, dir, goose.WithStore(versions))
	if err != nil {
		return err
	}
	return do(s)
}
