package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/tallystick/tallystick/internal/cli"
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
type schemas struct{}

// each calls do with every store's migrations. change: they are to be changed, so nobody may have the folder open.
func (schemas) each(e *cli.Env, change bool, do func(name string, s *schema.Schema) error) (err error) {
	held, err := holdFolder(e.DataDir())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.close()) }()
	if change && held.running() {
		return fmt.Errorf("data folder %s is in use by another tally process; stop it first", e.DataDir())
	}
	f := folder{dir: e.DataDir()}
	return sqlite.Schema(e.Ctx, f.path("records.db"), func(s *schema.Schema) error { return do("records", s) })
}

// migrated is one store of what the commands print.
type migrated struct {
	Store      string             `json:"store"`
	Version    int64              `json:"version"` // of the newest one applied
	Pending    int                `json:"pending"`
	Changed    int                `json:"changed"` // by this command
	Migrations []schema.Migration `json:"migrations"`
}

// run does something with each store and prints what is there then.
func (c *schemas) run(e *cli.Env, change func(s *schema.Schema) (int, error)) error {
	var all []migrated
	err := c.each(e, change != nil, func(name string, s *schema.Schema) (err error) {
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

func (c *migrateStatusCmd) Run(e *cli.Env) error { return c.run(e, nil) }

type migrateUpCmd struct{ schemas }

func (c *migrateUpCmd) Run(e *cli.Env) error {
	return c.run(e, func(s *schema.Schema) (int, error) { return s.Up(e.Ctx) })
}

type migrateDownCmd struct {
	schemas
	To int64 `help:"The version that stays the newest." required:"" placeholder:"N"`
}

func (c *migrateDownCmd) Run(e *cli.Env) error {
	return c.run(e, func(s *schema.Schema) (int, error) { return s.Down(e.Ctx, c.To) })
}
