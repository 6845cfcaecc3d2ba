package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of what is copied table by table

	appseal "github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/postgres"
	"github.com/tallystick/tallystick/internal/store/sqlite"
	"github.com/tallystick/tallystick/internal/store/transfer"
)

type moveCmd struct {
	From        string `help:"Data folder of a stopped server." required:"" placeholder:"DIR"`
	FromRecords string `help:"URL of its records, where they are in PostgreSQL." placeholder:"URL"`
	FromJournal string `help:"URL of its journal, where that is in PostgreSQL." placeholder:"URL"`
	FromSecrets string `help:"Folder of its secrets, where they are not in the data folder." type:"path" placeholder:"DIR"`
	To          string `help:"Data folder to make. A move that was stopped goes on when it is started again." required:"" placeholder:"DIR"`
	ToRecords   string `help:"URL of an empty database for the records; default: records.db of the folder." placeholder:"URL"`
	ToJournal   string `help:"URL of a database for the journal, which may be that of the records; default: the folder." placeholder:"URL"`
}

// movedTo is what the command prints.
type movedTo struct {
	From     string            `json:"from"`
	To       string            `json:"to"`
	Resumed  uint64            `json:"resumed_at"` // position up to which an earlier call had come
	Tables   []transfer.Table  `json:"tables"`
	Compared transfer.Compared `json:"compared"`
	Audit    appseal.Report    `json:"audit"`
	Anchor   string            `json:"anchor"` // the old tree's last checkpoint, which the new tree leads to
}

// end is one side of a move.
type end struct {
	records store.Records
	journal store.Journal
	tables  transfer.Database
	closers []func() error
}

func (n *end) close() (err error) {
	for _, one := range slices.Backward(n.closers) {
		err = errors.Join(err, one())
	}
	return err
}

// openEnd opens records and journal of a folder, and the tables below the records. url, at: of records and journal in PostgreSQL.
func openEnd(ctx context.Context, f *folder, url, at string) (n *end, err error) {
	n = &end{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	var db *sql.DB
	if n.records, err = openMoved(ctx, f, url); err != nil {
		return n, err
	}
	n.closers = append(n.closers, n.records.Close)
	n.tables.Dialect = transfer.SQLite
	if url == "" {
		db, err = sqlite.Raw(f.path("records.db"))
	} else {
		n.tables.Dialect = transfer.Postgres
		db, err = sql.Open("pgx", url)
	}
	if err != nil {
		return n, fmt.Errorf("records: %w", err)
	}
	n.closers = append(n.closers, db.Close)
	n.tables.DB = db
	journal, err := openJournal(ctx, f, at, 0, erasing{})
	if err != nil {
		return n, err
	}
	n.journal = journal
	n.closers = append(n.closers, journal.Close)
	return n, nil
}

// openMoved opens records, which brings them to the newest migration.
func openMoved(ctx context.Context, f *folder, url string) (store.Records, error) {
	if url != "" {
		return postgres.Open(ctx, url)
	}
	records, err := sqlite.Open(ctx, f.path("records.db"))
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	return records, nil
}

func (c *moveCmd) Run(e *cli.Env) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	from, to, part, err := c.folders()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.close(), to.close()) }()
	out := movedTo{From: from.dir, To: filepath.Clean(c.To)}
	if err := c.move(e, from, to, &out); err != nil {
		return fmt.Errorf("%w; what was moved is kept in %s: start the same command again to go on", err, part)
	}
	if n := len(out.Audit.Findings); n > 0 {
		if err := out.print(e); err != nil {
			return err
		}
		return fmt.Errorf("the audit of what was moved found something (%d): it is left in %s, and %s was not made", n, part, out.To)
	}
	if err := os.Rename(part, out.To); err != nil {
		return err
	}
	return out.print(e)
}

// check refuses what is not moved.
func (c *moveCmd) check() error {
	for _, name := range []string{c.From, c.To} {
		if strings.Contains(name, "://") { // it may have a password
			return errors.New("--from and --to name folders, of secrets and of what is not in PostgreSQL: name databases by --from-records, --from-journal, --to-records and --to-journal")
		}
	}
	for _, one := range [][2]string{{"--from-records", c.FromRecords}, {"--to-records", c.ToRecords}, {"--from-journal", c.FromJournal}, {"--to-journal", c.ToJournal}} {
		if one[1] != "" && !postgresURL(one[1]) {
			return unknownDriver(one[0], one[1], "postgres://USER@HOST/DATABASE")
		}
	}
	if c.FromRecords != "" && c.ToRecords != "" {
		return errors.New("records are not moved from one PostgreSQL to another one: use pg_dump and pg_restore")
	}
	return nil
}

// folders opens the source, and the target under a name of its own until all is there.
func (c *moveCmd) folders() (from, to *folder, part string, err error) {
	if _, err := os.Stat(filepath.Join(c.From, "VERSION")); err != nil {
		return nil, nil, "", fmt.Errorf("%s is no data folder: %w", c.From, err)
	}
	part = filepath.Clean(c.To) + ".part"
	if _, err := os.Lstat(c.To); !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, "", fmt.Errorf("%s is there already: name a new folder with --to", c.To)
	}
	if from, err = openFolder(c.From); err != nil {
		return nil, nil, "", err
	}
	if to, err = openFolder(part); err != nil {
		return nil, nil, "", errors.Join(err, from.close())
	}
	if c.FromSecrets != "" {
		from.secrets = c.FromSecrets
	}
	return from, to, part, nil
}

func (c *moveCmd) move(e *cli.Env, from, to *folder, out *movedTo) (err error) {
	source, err := openEnd(e.Ctx, from, c.FromRecords, c.FromJournal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.close()) }()
	if err := c.fill(e, source, to, out); err != nil {
		return err
	}
	if err := copyFolders(from, to); err != nil {
		return err
	}
	return out.audit(e.Ctx, source, to, c)
}

// fill copies records and journal, and compares them.
func (c *moveCmd) fill(e *cli.Env, source *end, to *folder, out *movedTo) (err error) {
	target, err := openEnd(e.Ctx, to, c.ToRecords, c.ToJournal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	if out.Tables, err = transfer.Tables(e.Ctx, source.tables, target.tables); err != nil {
		return fmt.Errorf("move the records: %w", err)
	}
	err = target.journal.View(e.Ctx, func(v store.View) error {
		out.Resumed = v.Position()
		return nil
	})
	if err != nil {
		return err
	}
	step := uint64(0)
	err = transfer.Journal(e.Ctx, source.journal, target.journal, func(at uint64) {
		if at/progressEvery != step {
			step = at / progressEvery
			fmt.Fprintf(e.Stderr, "%d records of the journal are moved\n", at)
		}
	})
	if err != nil {
		return fmt.Errorf("move the journal: %w", err)
	}
	if out.Compared, err = transfer.Compare(e.Ctx, source.journal, target.journal); err != nil {
		return fmt.Errorf("compare the journals: %w", err)
	}
	return nil
}

// progressEvery is after how many records a line of progress is printed.
const progressEvery = 100_000

// copyFolders takes over what is in files: secrets, the spool and the clock. What a folder of secrets has beside the data folder
// comes last.
func copyFolders(from, to *folder) error {
	for _, one := range [][2]string{{from.path("secrets"), to.path("secrets")}, {from.secrets, to.path("secrets")}, {from.path("spool"), to.path("spool")}} {
		if err := copyFiles(one[0], one[1]); err != nil {
			return err
		}
	}
	return copyFile(from.path("clock.json"), to.path("clock.json"))
}

// copyFiles copies the files of a folder, which need not be there, durably into another one.
func copyFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, one := range entries {
		if !one.Type().IsRegular() {
			continue
		}
		if err := copyFile(filepath.Join(from, one.Name()), filepath.Join(to, one.Name())); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return writeDurable(to, b)
}

// audit reads what was moved whole, and looks whether it leads to the old tree's last checkpoint.
func (out *movedTo) audit(ctx context.Context, source *end, to *folder, c *moveCmd) (err error) {
	records, err := openMoved(ctx, to, c.ToRecords)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	name, err := to.origin(ctx, records)
	if err != nil {
		return err
	}
	_, verifier, err := to.sealKey(name)
	if err != nil {
		return err
	}
	cfg := appseal.Audited{Seals: records, Keys: records, Invoices: records, Verifier: verifier, Random: rand.Reader}
	last, err := source.records.Checkpoints(ctx, 0, 1)
	if err != nil {
		return err
	}
	if len(last) > 0 {
		cfg.Against, out.Anchor = last[0].Note, string(last[0].Note)
	}
	out.Audit, err = auditStopped(ctx, to, c.ToJournal, cfg)
	return err
}

func (out *movedTo) print(e *cli.Env) error {
	if e.JSON {
		return cli.PrintJSON(e.Stdout, out)
	}
	rows := int64(0)
	for _, t := range out.Tables {
		rows += t.Rows
	}
	c := out.Compared
	list := append([][2]any{}, [2]any{"records", fmt.Sprintf("%d rows in %d tables, the same count and digest each", rows, len(out.Tables))},
		[2]any{"journal", fmt.Sprintf("%d records, %d events, %d histories: the same at the same positions", c.Records, c.Events, c.Histories)},
		[2]any{"usage", fmt.Sprintf("%d series, %d buckets, %d periods with admitted totals: the same", c.Series, c.Buckets, c.Periods)},
		[2]any{"anchor", out.Audit.Against})
	for _, f := range out.Audit.Findings {
		list = append(list, [2]any{"FINDING", f.What + " " + f.Where})
	}
	if len(out.Audit.Findings) == 0 {
		list = append(list, [2]any{"findings", "none"}, [2]any{"moved to", out.To})
	}
	return table(e.Stdout, list...)
}
