package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/tallystick/tallystick/internal/app/backup"
	appseal "github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

type restoreCmd struct {
	From    string `help:"Folder that holds the backups." required:"" type:"path" placeholder:"FOLDER"`
	Backup  string `help:"Which one, as --list names it; default: the newest." placeholder:"NAME"`
	Secrets string `help:"Empty folder to put the secrets in, for servers with --secrets; they are in the data folder too." type:"path" placeholder:"DIR"`
	List    bool   `help:"List the backups, and restore nothing." xor:"what"`
	Check   bool   `help:"Read the backup and compare all digests, and restore nothing." xor:"what"`
}

func (c *restoreCmd) Run(e *cli.Env) error {
	if c.List {
		return c.list(e)
	}
	m, err := backup.Load(c.From, c.Backup)
	if err != nil {
		return err
	}
	if c.Check {
		if err := backup.Verify(e.Ctx, c.From, m); err != nil {
			return err
		}
		if e.JSON {
			return cli.PrintJSON(e.Stdout, m)
		}
		return table(e.Stdout, append(append([][2]any{{"backup", m.Name}}, factRows(m)...), [2]any{"digests", fmt.Sprintf("all match: %d bytes in %d files", m.Bytes(), len(m.Files))})...)
	}
	return c.restore(e, m)
}

func (c *restoreCmd) list(e *cli.Env) error {
	names, err := backup.List(c.From)
	if err != nil {
		return err
	}
	all := []*backup.Manifest{}
	for _, name := range names {
		m, err := backup.Load(c.From, name)
		if err != nil {
			return err
		}
		m.Files = nil
		all = append(all, m)
	}
	if e.JSON {
		return cli.PrintJSON(e.Stdout, map[string]any{"items": all, "next": nil})
	}
	var rows [][2]any
	for _, m := range all {
		rows = append(rows, [2]any{m.Name, fmt.Sprintf("position %d, %d events, tally %s", m.Position, m.Events, m.Version)})
	}
	return table(e.Stdout, rows...)
}

// restored is what the command prints.
type restored struct {
	Backup   string         `json:"backup"`
	Dir      string         `json:"dir"`
	Position uint64         `json:"position"`
	Audit    appseal.Report `json:"audit"`
	Usage    []usageSum     `json:"usage"`
	Ledger   []ledgerSum    `json:"ledger"`
	// Differences are what the audit and the sums found, and where they are not what the manifest says.
	Differences []string `json:"differences"`
}

// usageSum is what all customers used of a meter, for ever.
type usageSum struct {
	Meter  string        `json:"meter"`
	Events int64         `json:"events"`
	Sum    money.Decimal `json:"sum"`
}

type ledgerSum struct {
	Currency   string `json:"currency"`
	Sum        string `json:"sum"`
	Receivable string `json:"receivable"`
	Balance    string `json:"balance"`
	Difference string `json:"difference"`
}

// restore writes the files beside the folder, audits them, and only then gives them the folder's name.
func (c *restoreCmd) restore(e *cli.Env, m *backup.Manifest) error {
	dir := filepath.Clean(e.DataDir())
	if err := backup.Fresh(dir); err != nil {
		return err
	}
	if c.Secrets != "" {
		if err := backup.Fresh(c.Secrets); err != nil {
			return fmt.Errorf("--secrets: %w", err)
		}
	}
	part := dir + ".part"
	if _, err := os.Lstat(part); err == nil {
		return fmt.Errorf("%s is there: an earlier restore ended before its end; remove it, then try again", part)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := backup.Restore(e.Ctx, c.From, m, part); err != nil {
		if errors.Is(err, backup.ErrDamaged) {
			err = fmt.Errorf("%w; restore an older backup with --backup (--list), nothing is in %s", err, dir)
		}
		return errors.Join(err, os.RemoveAll(part))
	}
	out := restored{Backup: m.Name, Dir: dir, Differences: []string{}}
	if err := out.examine(e, part, m); err != nil {
		return fmt.Errorf("the backup is restored to %s, and cannot be audited: %w", part, err)
	}
	if len(out.Differences) == 0 {
		if c.Secrets != "" {
			if err := copyFiles(filepath.Join(part, "secrets"), c.Secrets); err != nil {
				return fmt.Errorf("--secrets: %w", err)
			}
		}
		if err := os.Rename(part, dir); err != nil {
			return err
		}
	}
	if err := out.print(e); err != nil {
		return err
	}
	if n := len(out.Differences); n > 0 {
		return fmt.Errorf("what was restored differs (%d): it is left in %s, and %s was not made", n, part, dir)
	}
	return nil
}

// examine opens what was restored and compares it with the manifest and with itself.
func (r *restored) examine(e *cli.Env, dir string, m *backup.Manifest) (err error) {
	f, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	records, err := sqlite.Open(e.Ctx, f.path("records.db"))
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	// What lived in memory of the gateway is not known: windows in memory begin used up, as after a power cut.
	if err := records.PutSetting(e.Ctx, lastBoot, "restored"); err != nil {
		return err
	}
	name, err := f.origin(e.Ctx, records)
	if err != nil {
		return err
	}
	_, verifier, err := f.sealKey(name)
	if err != nil {
		return err
	}
	against := []byte(nil)
	if m.Checkpoint != nil {
		against = []byte(m.Checkpoint.Note)
	}
	if r.Audit, err = auditStopped(e.Ctx, f, "", appseal.Audited{
		Seals: records, Keys: records, Invoices: records, Verifier: verifier, Random: rand.Reader, Against: nonEmpty(against),
	}); err != nil {
		return err
	}
	for _, one := range r.Audit.Findings {
		r.Differences = append(r.Differences, one.What+" "+one.Where)
	}
	if err := r.sums(e.Ctx, f.path("journal"), records); err != nil {
		return err
	}
	r.compare("records in the journal", m.Position, r.Audit.Records)
	r.compare("events", m.Events, r.Audit.Events)
	return nil
}

func (r *restored) compare(what string, want, have any) {
	if fmt.Sprint(want) != fmt.Sprint(have) {
		r.Differences = append(r.Differences, fmt.Sprintf("%s: the backup had %v, restored are %v", what, want, have))
	}
}

// sums reads what was used of each meter and what the ledger holds.
func (r *restored) sums(ctx context.Context, dir string, records store.Records) (err error) {
	journal, err := file.Open(file.Config{Dir: dir})
	if errors.Is(err, store.ErrCorrupt) {
		return nil // the audit has told it
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	meters := map[string]meter.Rollup{}
	err = journal.View(ctx, func(v store.View) error {
		r.Position = v.Position()
		for _, s := range v.Series() {
			u, err := v.Usage(s.SeriesKey, period.Interval{})
			if err != nil {
				return err
			}
			if meters[s.Meter], err = meters[s.Meter].Merge(u); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(meters)) {
		r.Usage = append(r.Usage, usageSum{Meter: key, Events: meters[key].Count, Sum: meters[key].Sum})
	}
	list, err := records.Conservation(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		c := &list[i]
		r.Ledger = append(r.Ledger, ledgerSum{
			Currency: c.Currency.String(), Sum: c.Sum.String(), Receivable: c.Receivable.String(), Balance: c.Balance.String(), Difference: c.Difference.String(),
		})
		if c.Difference.Minor() != 0 || len(c.Wrong) > 0 {
			r.Differences = append(r.Differences, fmt.Sprintf("the ledger does not agree with the documents in %s: %s", c.Currency, c.Difference))
		}
	}
	return nil
}

func (r *restored) print(e *cli.Env) error {
	if e.JSON {
		return cli.PrintJSON(e.Stdout, r)
	}
	rows := [][2]any{
		{"backup", r.Backup},
		{"position", r.Position},
		{"events", r.Audit.Events},
		{"series", r.Audit.Series},
		{"closes", r.Audit.Closes},
		{"checkpoints", r.Audit.Checkpoints},
		{"root", r.Audit.Root},
		{"checkpoint", r.Audit.Against},
	}
	for _, u := range r.Usage {
		rows = append(rows, [2]any{"usage " + u.Meter, fmt.Sprintf("%s from %d events", u.Sum, u.Events)})
	}
	for _, l := range r.Ledger {
		rows = append(rows, [2]any{"ledger " + l.Currency, fmt.Sprintf("sum %s, receivable %s, balances %s", l.Sum, l.Receivable, l.Balance)})
	}
	for _, d := range r.Differences {
		rows = append(rows, [2]any{"DIFFERENCE", d})
	}
	if len(r.Differences) == 0 {
		rows = append(rows, [2]any{"differences", "none"}, [2]any{"restored to", r.Dir})
	}
	return table(e.Stdout, rows...)
}
