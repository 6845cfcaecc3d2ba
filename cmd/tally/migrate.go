package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/postgres"
	pgjournal "github.com/tallystick/tallystick/internal/store/postgres/journal"
	"github.com/tallystick/tallystick/internal/store/queue"
	"github.com/tallystick/tallystick/internal/store/schema"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

type migrateCmd struct {
	Status migrateStatusCmd `cmd:"" help:"List the migrations of records and journal, and which are applied."`
	Up     migrateUpCmd     `cmd:"" help:"Apply what is pending. A server does it at its start too."`
	Down   migrateDownCmd   `cmd:"" help:"Undo migrations, for an older program. What they added is lost: take a backup before."`
}

// schemas is what the command works on: what has a schema of its own. The file journal has a format instead, which every
// program of its version or a later one reads, so it never is to be migrated.
type schemas struct {
	Records string `help:"URL of records in PostgreSQL, instead of those of the data folder." env:"TALLY_RECORDS" placeholder:"URL"`
	Journal string `help:"URL of a journal in PostgreSQL. Journals elsewhere have no schema." env:"TALLY_JOURNAL" placeholder:"URL"`
}

// steps is a schema that can be read and changed.
type steps interface {
	Status(ctx context.Context) ([]schema.Migration, error)
	Up(ctx context.Context) (int, error)
	Down(ctx context.Context, to int64) (int, error)
}

// each calls do with the migrations of every store, or of one. change: they are to be changed, so nobody may have the folder open.
func (c *schemas) each(e *cli.Env, one string, change bool, do func(name string, s steps) error) error {
	if one != storeJournal {
		if err := c.records(e, change, do); err != nil {
			return err
		}
	}
	switch {
	case one == storeRecords:
	case postgresURL(c.Journal):
		if err := pgjournal.Schema(e.Ctx, c.Journal, func(s *schema.Schema) error { return do(storeJournal, s) }); err != nil {
			return err
		}
	case one == storeJournal:
		return errors.New("only a journal in PostgreSQL has a schema: name its URL with --journal")
	}
	if one == "" && c.Records != "" {
		return do(storeJobs, pgJobs{c.Records})
	}
	return nil
}

// The stores, as the commands name them.
const (
	storeRecords = "records"
	storeJournal = "journal"
	storeJobs    = "jobs" // in the database of the records; those of a data folder are made anew when they are lost
)

func (c *schemas) records(e *cli.Env, change bool, do func(name string, s steps) error) (err error) {
	if c.Records != "" {
		return do(storeRecords, pgRecords{c.Records})
	}
	held, err := holdFolder(e.DataDir())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.close()) }()
	if change && held.running() {
		return fmt.Errorf("data folder %s is in use by another tally process; stop it first", e.DataDir())
	}
	f := folder{dir: e.DataDir()}
	return sqlite.Schema(e.Ctx, f.path("records.db"), func(s *schema.Schema) error { return do(storeRecords, s) })
}

// pgRecords is the schema of records in PostgreSQL.
type pgRecords struct{ dsn string }

func (r pgRecords) Status(ctx context.Context) ([]schema.Migration, error) {
	s, err := postgres.Status(ctx, r.dsn)
	if err != nil {
		return nil, err
	}
	if s.MinReader > s.Known {
		return nil, fmt.Errorf("%w: schema version %d needs a program that knows version %d, this one knows up to %d", store.ErrNewer, s.Current, s.MinReader, s.Known)
	}
	all := make([]schema.Migration, 0, len(s.Migrations))
	for _, m := range s.Migrations {
		all = append(all, schema.Migration{Version: m.Version, Name: m.Name, Applied: !m.AppliedAt.IsZero(), AppliedAt: m.AppliedAt.UTC(), Reversible: m.Version > s.Migrations[0].Version})
	}
	return all, nil
}

func (r pgRecords) Up(ctx context.Context) (n int, err error) {
	before, err := r.Status(ctx)
	if err != nil {
		return 0, err
	}
	from, to, err := postgres.Up(ctx, r.dsn)
	for _, m := range before {
		if m.Version > from && m.Version <= to {
			n++
		}
	}
	return n, err
}

// Down takes migrations back one by one; never the first one, which would drop all records.
func (r pgRecords) Down(ctx context.Context, to int64) (n int, err error) {
	all, err := r.Status(ctx)
	if err != nil {
		return 0, err
	}
	known := slices.ContainsFunc(all, func(m schema.Migration) bool { return m.Version == to })
	if !known {
		return 0, fmt.Errorf("%w: there is no schema version %d to go back to", store.ErrInvalid, to)
	}
	for i := len(all) - 1; i > 0 && all[i].Version > to; i-- {
		if !all[i].Applied {
			continue
		}
		if _, err := postgres.Down(ctx, r.dsn); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// pgJobs are the tables of jobs beside those records.
type pgJobs struct{ dsn string }

func (j pgJobs) Status(ctx context.Context) ([]schema.Migration, error) {
	return queue.Status(ctx, j.dsn)
}

func (j pgJobs) Up(ctx context.Context) (n int, err error) {
	before, err := j.Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range before {
		if !m.Applied {
			n++
		}
	}
	if err := queue.Migrate(ctx, j.dsn); err != nil {
		return 0, err
	}
	return n, nil
}

// Down is never asked for: a way back of the records leaves these tables as they are.
func (j pgJobs) Down(context.Context, int64) (int, error) {
	return 0, errors.New("the tables of jobs are not taken back")
}

// migrated is one store of what the commands print.
type migrated struct {
	Store      string             `json:"store"`
	Version    int64              `json:"version"` // of the newest one applied
	Pending    int                `json:"pending"`
	Changed    int                `json:"changed"` // by this command
	Migrations []schema.Migration `json:"migrations"`
}

// run does something with each store, or with one, and prints what is there then.
func (c *schemas) run(e *cli.Env, one string, change func(s steps) (int, error)) error {
	var all []migrated
	err := c.each(e, one, change != nil, func(name string, s steps) (err error) {
		m := migrated{Store: name}
		if change != nil {
			if m.Changed, err = change(s); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if m.Migrations, err = s.Status(e.Ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, one := range m.Migrations {
			if one.Applied {
				m.Version = max(m.Version, one.Version)
			} else {
				m.Pending++
			}
		}
		all = append(all, m)
		return nil
	})
	if err != nil {
		return err
	}
	if e.JSON {
		return cli.PrintJSON(e.Stdout, map[string]any{"stores": all})
	}
	tw := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "STORE\tVERSION\tMIGRATION\tAPPLIED\tCAN BE UNDONE")
	for _, m := range all {
		for _, one := range m.Migrations {
			at, back := "pending", "no"
			if one.Applied {
				at = one.AppliedAt.Format(time.RFC3339)
			}
			if one.Reversible {
				back = "yes"
			}
			fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\n", m.Store, one.Version, one.Name, at, back)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, m := range all {
		fmt.Fprintf(e.Stdout, "%s: version %d, %d pending", m.Store, m.Version, m.Pending)
		if change != nil {
			fmt.Fprintf(e.Stdout, ", %d changed now", m.Changed)
		}
		fmt.Fprintln(e.Stdout)
	}
	return nil
}

type migrateStatusCmd struct{ schemas }

func (c *migrateStatusCmd) Run(e *cli.Env) error { return c.run(e, "", nil) }

type migrateUpCmd struct{ schemas }

func (c *migrateUpCmd) Run(e *cli.Env) error {
	return c.run(e, "", func(s steps) (int, error) { return s.Up(e.Ctx) })
}

type migrateDownCmd struct {
	schemas
	To    int64  `help:"The version that stays the newest." required:"" placeholder:"N"`
	Store string `help:"Which store: records or journal." enum:"records,journal" default:"records" placeholder:"STORE"`
}

func (c *migrateDownCmd) Run(e *cli.Env) error {
	return c.run(e, c.Store, func(s steps) (int, error) { return s.Down(e.Ctx, c.To) })
}
