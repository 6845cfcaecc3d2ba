package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/tallystick/tallystick/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	versionTable = "records_migrations"

	lockMigrations lock = "migrations" // of a session: migrations have transactions of their own
)

// Schema is how far a database's schema is.
//
// Servers of two neighbouring versions run on it together. A migration therefore only adds what the older program does not
// notice (expand): tables, nullable columns or ones with a default, indexes. What takes something away (contract) comes one
// version later, when no server of the older one is left, and says so: it sets records_schema.min_reader to the migration that a
// program must know at least. A program opens a schema that is newer than it knows exactly when MinReader is not.
type Schema struct {
	Current    int64 // the newest migration that was applied; 0: none
	Known      int64 // the newest one that this program has
	MinReader  int64 // what a program must know at least; 0: any
	Migrations []Migration
}

// Usable says whether this program can work on the schema as it is.
func (s Schema) Usable() bool { return s.Current >= s.Known && s.MinReader <= s.Known }

// Migration is one that this program has.
type Migration struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero: not yet
}

// Status reads how far the schema is. It changes nothing.
func Status(ctx context.Context, dsn string) (Schema, error) {
	var s Schema
	err := withProvider(ctx, dsn, func(c *pgx.Conn, p *goose.Provider) (err error) {
		s, err = readSchema(ctx, c, p)
		return err
	})
	return s, err
}

// Up applies what is pending and returns how far the schema was and is. Servers may run meanwhile; of several callers one works,
// the others wait. store.ErrNewer: the schema is one that this program cannot use.
func Up(ctx context.Context, dsn string) (from, to int64, err error) {
	err = locked(ctx, dsn, func(c *pgx.Conn, p *goose.Provider) error {
		s, err := readSchema(ctx, c, p)
		if err != nil {
			return err
		}
		from, to, err = up(ctx, s, p)
		return err
	})
	return from, to, err
}

// Down takes the newest migration back and returns how far the schema is then. Taking back the first one drops all records.
func Down(ctx context.Context, dsn string) (to int64, err error) {
	err = locked(ctx, dsn, func(c *pgx.Conn, p *goose.Provider) error {
		s, err := readSchema(ctx, c, p)
		if err != nil {
			return err
		}
		if s.Current > s.Known {
			return fmt.Errorf("%w: schema version %d, this program knows up to %d", store.ErrNewer, s.Current, s.Known)
		}
		if _, err := p.Down(ctx); err != nil {
			return fmt.Errorf("take back schema version %d: %w", s.Current, err)
		}
		s, err = readSchema(ctx, c, p)
		to = s.Current
		return err
	})
	return to, err
}

// ensure makes the schema usable. Where it is already nothing is locked and no right to change it is needed.
func ensure(ctx context.Context, cfg *pgx.ConnConfig) error {
	var s Schema
	err := provided(ctx, cfg, func(c *pgx.Conn, p *goose.Provider) (err error) {
		if err := fit(ctx, c); err != nil {
			return err
		}
		s, err = readSchema(ctx, c, p)
		return err
	})
	if err != nil {
		return err
	}
	if s.Current >= s.Known {
		return compatible(s)
	}
	return lockedOn(ctx, cfg, func(c *pgx.Conn, p *goose.Provider) error {
		s, err := readSchema(ctx, c, p) // another server may have been faster
		if err == nil {
			_, _, err = up(ctx, s, p)
		}
		return err
	})
}

// fit refuses a server that cannot keep what we promise.
func fit(ctx context.Context, c *pgx.Conn) error {
	var version int
	var encoding string
	var standby bool
	err := c.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), pg_is_in_recovery()").
		Scan(&version, &encoding, &standby)
	switch {
	case err != nil:
		return err
	case version < oldest*10000:
		return fmt.Errorf("%w: PostgreSQL %d or newer is needed, this is %d", store.ErrInvalid, oldest, version/10000)
	case encoding != "UTF8":
		return fmt.Errorf("%w: the database's encoding is %s, create it with ENCODING 'UTF8'", store.ErrInvalid, encoding)
	case standby:
		return fmt.Errorf("%w: the server is a standby; list all hosts in the URL and add target_session_attrs=read-write", store.ErrInvalid)
	}
	return nil
}

func compatible(s Schema) error {
	if s.MinReader > s.Known {
		return fmt.Errorf("%w: schema version %d needs a program that knows version %d, this one knows up to %d", store.ErrNewer, s.Current, s.MinReader, s.Known)
	}
	return nil
}

func up(ctx context.Context, s Schema, p *goose.Provider) (from, to int64, err error) {
	if s.Current >= s.Known {
		return s.Current, s.Current, compatible(s)
	}
	if _, err := p.Up(ctx); err != nil {
		return s.Current, s.Current, fmt.Errorf("migrate from schema version %d to %d: %w", s.Current, s.Known, err)
	}
	return s.Current, s.Known, nil
}

// readSchema writes nothing: goose's own calls would create its table.
func readSchema(ctx context.Context, c *pgx.Conn, p *goose.Provider) (s Schema, err error) {
	for _, m := range p.ListSources() {
		s.Migrations = append(s.Migrations, Migration{Version: m.Version, Name: m.Path})
		s.Known = max(s.Known, m.Version)
	}
	var exists bool
	if err := c.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", versionTable).Scan(&exists); err != nil || !exists {
		return s, err
	}
	type applied struct {
		version int64
		at      time.Time
	}
	all, err := list(ctx, c, func(row scanner) (a applied, err error) {
		err = row.Scan(&a.version, &a.at)
		return a, err
	}, "SELECT version_id, (max(tstamp) AT TIME ZONE current_setting('TimeZone')) FROM "+versionTable+" WHERE is_applied AND version_id > 0 GROUP BY version_id")
	if err != nil {
		return s, err
	}
	for _, a := range all {
		s.Current = max(s.Current, a.version)
		for i := range s.Migrations {
			if s.Migrations[i].Version == a.version {
				s.Migrations[i].AppliedAt = a.at.UTC()
			}
		}
	}
	if s.Current > 0 {
		err = c.QueryRow(ctx, "SELECT min_reader FROM records_schema").Scan(&s.MinReader)
	}
	return s, err
}

func withProvider(ctx context.Context, dsn string, do func(c *pgx.Conn, p *goose.Provider) error) error {
	cfg, err := config(dsn)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	if err := provided(ctx, cfg.ConnConfig, do); err != nil {
		return fmt.Errorf("records: %s: %w", place(cfg.ConnConfig), err)
	}
	return nil
}

func locked(ctx context.Context, dsn string, do func(c *pgx.Conn, p *goose.Provider) error) error {
	cfg, err := config(dsn)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	if err := lockedOn(ctx, cfg.ConnConfig, do); err != nil {
		return fmt.Errorf("records: %s: %w", place(cfg.ConnConfig), err)
	}
	return nil
}

// provided runs do with a connection and goose, which uses another one.
func provided(ctx context.Context, cfg *pgx.ConnConfig, do func(c *pgx.Conn, p *goose.Provider) error) (err error) {
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	db := stdlib.OpenDB(*cfg)
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := provider(db)
	if err != nil {
		return err
	}
	return do(c, p)
}

func provider(db *sql.DB) (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	versions, err := database.NewStore(database.DialectPostgres, versionTable)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider("", db, dir, goose.WithStore(versions), goose.WithDisableGlobalRegistry(true))
}

// lockedOn is provided under a lock of the session, which ends with it.
func lockedOn(ctx context.Context, cfg *pgx.ConnConfig, do func(c *pgx.Conn, p *goose.Provider) error) error {
	return provided(ctx, cfg, func(c *pgx.Conn, p *goose.Provider) error {
		if _, err := c.Exec(ctx, "SELECT pg_advisory_lock($1)", lockMigrations.key()); err != nil {
			return err
		}
		err := do(c, p)
		var pe *pgconn.PgError
		if errors.As(err, &pe) && pe.Code == "42501" { // insufficient_privilege
			return fmt.Errorf("%w; run `tally migrate up` as the owner of the tables", err)
		}
		return err
	})
}
