package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tallystick/tallystick/internal/app/backup"
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/store/file"
	journalfolder "github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

type backupCmd struct {
	To string `help:"Folder that holds the backups; made if absent. Only what is new is copied." required:"" type:"path" placeholder:"FOLDER"`
	kept
	Secrets string `help:"Folder of the deployment's secrets, where they are not in the data folder." type:"path" env:"TALLY_SECRETS" placeholder:"DIR"`
	Keep    int    `help:"Remove older backups but for so many; 0: keep all." default:"0" placeholder:"N"`
}

// kept says where a deployment keeps what it knows, for commands that only can do with files.
type kept struct {
	Records string `help:"What serve has. A backup is of files alone, so any URL is refused." env:"TALLY_RECORDS" placeholder:"URL"`
	Journal string `help:"The same." env:"TALLY_JOURNAL" placeholder:"URL"`
}

// inFiles refuses what is not in the data folder: a copy of the rest would be no backup.
func (k *kept) inFiles() error {
	for _, one := range [][2]string{{storeRecords, k.Records}, {storeJournal, k.Journal}} {
		switch {
		case one[1] == "":
		case postgresURL(one[1]):
			return fmt.Errorf("this deployment has its %[1]s in PostgreSQL (--%[1]s): back that up with its own tools, by a base backup and an archive of its log, and the folder of secrets; see docs/backup.md, \"In PostgreSQL\"", one[0])
		default:
			return fmt.Errorf("this deployment has its %[1]s elsewhere (--%[1]s), and tally backup copies a data folder alone; see docs/backup.md, \"Elsewhere\"", one[0])
		}
	}
	return nil
}

// backedUp is what the command prints.
type backedUp struct {
	Backup     string             `json:"backup"`
	Target     string             `json:"target"`
	Running    bool               `json:"running"`
	Position   uint64             `json:"position"`
	Events     int64              `json:"events"`
	Checkpoint *backup.Checkpoint `json:"checkpoint"`
	Files      int                `json:"files"`
	Bytes      int64              `json:"bytes"`
	Written    int64              `json:"bytes_written"`
	Removed    int                `json:"backups_removed"`
}

func (c *backupCmd) Run(e *cli.Env) (err error) {
	if c.Keep < 0 {
		return errors.New("--keep is a number of backups, from 1 on; 0: keep all")
	}
	if err := c.inFiles(); err != nil {
		return err
	}
	held, err := holdFolder(e.DataDir())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.close()) }()
	run, err := backup.Begin(c.To, realNow(), version)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	t := taking{run: run, dir: e.DataDir(), secrets: c.Secrets, facts: backup.Manifest{Running: held.running()}}
	if err := t.take(e.Ctx); err != nil {
		return err
	}
	m, err := run.Publish(t.facts)
	if err != nil {
		return fmt.Errorf("publish the backup: %w", err)
	}
	out := backedUp{Backup: m.Name, Target: c.To, Running: m.Running, Position: m.Position, Events: m.Events, Checkpoint: m.Checkpoint, Files: len(m.Files), Bytes: m.Bytes(), Written: run.Written}
	if c.Keep > 0 {
		if out.Removed, err = run.Prune(c.Keep); err != nil {
			return fmt.Errorf("backup %s is finished; older ones could not be removed: %w", m.Name, err)
		}
	}
	if e.JSON {
		return cli.PrintJSON(e.Stdout, out)
	}
	rows := append([][2]any{{"backup", m.Name}}, factRows(m)...)
	rows = append(rows, [2]any{"bytes", fmt.Sprintf("%d in %d files, %d of them new", out.Bytes, out.Files, out.Written)})
	if c.Keep > 0 {
		rows = append(rows, [2]any{"removed", fmt.Sprintf("%d older backups", out.Removed)})
	}
	return table(e.Stdout, rows...)
}

// factRows are a backup's facts for a person.
func factRows(m *backup.Manifest) [][2]any {
	how := "stopped: with the spool"
	if m.Running {
		how = "running: without the spool"
	}
	at := "none yet"
	if m.Checkpoint != nil {
		at = fmt.Sprintf("%d records, root %s", m.Checkpoint.Size, m.Checkpoint.Root)
	}
	return [][2]any{{"server", how}, {"position", m.Position}, {"events", m.Events}, {"checkpoint", at}}
}

// held is a data folder that is read: with its lock, or beside the server that has it.
type held struct{ lock *os.File }

// holdFolder keeps others from opening the folder, where none has it open.
func holdFolder(dir string) (held, error) {
	if _, err := os.Stat(filepath.Join(dir, "records.db")); err != nil {
		return held{}, fmt.Errorf("%s is no data folder with records (name one with --dir; for records in PostgreSQL see docs/backup.md and docs/migrate.md): %w", dir, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return held{}, fmt.Errorf("open lock: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return held{}, lock.Close()
	}
	if err != nil {
		return held{}, errors.Join(fmt.Errorf("lock %s: %w", dir, err), lock.Close())
	}
	return held{lock}, nil
}

func (h held) running() bool { return h.lock == nil }

func (h held) close() error {
	if h.lock == nil {
		return nil
	}
	return h.lock.Close()
}

// taking is one backup of a data folder. The records come first, then the journal, which has everything that they refer to; the
// secrets last, since they are made before the records name them. What can be made anew is left out: jobs.db, client.json,
// journal/index, journal/tree.
type taking struct {
	run     *backup.Run
	dir     string
	secrets string // a folder beside secrets/, whose files come before those; may be empty
	facts   backup.Manifest
}

func (t *taking) take(ctx context.Context) error {
	if err := t.records(ctx); err != nil {
		return err
	}
	if err := t.journal(ctx); err != nil {
		return err
	}
	if c := t.facts.Checkpoint; c != nil && c.Size > t.facts.Position {
		return fmt.Errorf("the records have a checkpoint of %d records, the journal has %d: its end is missing; run tally audit", c.Size, t.facts.Position)
	}
	if !t.facts.Running {
		if err := t.files(ctx, "spool"); err != nil {
			return err
		}
	}
	if err := t.secret(ctx); err != nil {
		return err
	}
	for _, name := range []string{"clock.json", "VERSION"} {
		if err := t.whole(ctx, name, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (t *taking) records(ctx context.Context) (err error) {
	tmp := t.run.Temporary("records.db")
	copied, err := sqlite.Copy(ctx, filepath.Join(t.dir, "records.db"), tmp)
	if err != nil {
		return err
	}
	t.facts.Schema, t.facts.Deployment = copied.Schema, copied.Deployment
	if c := copied.Checkpoint; c != nil {
		t.facts.Checkpoint = &backup.Checkpoint{Size: c.Size, Root: base64.StdEncoding.EncodeToString(c.Root[:]), Note: string(c.Note)}
	}
	in, err := os.Open(tmp)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close(), os.Remove(tmp)) }()
	return t.run.Chunks(ctx, "records.db", in)
}

// journal takes the segments in order. One may be sealed meanwhile: then its other form is taken. The last one is taken up to
// the end of its last whole commit; if the one that was last has been sealed by then, it goes on to the next.
func (t *taking) journal(ctx context.Context) error {
	dir := filepath.Join(t.dir, "journal")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	all, err := journalfolder.List(file.OS{}, dir)
	for i := 0; err == nil && i < len(all); i++ {
		err = t.segment(ctx, all[i], i == len(all)-1)
		gone := errors.Is(err, fs.ErrNotExist)
		if gone || err == nil && i == len(all)-1 && all[i].Sealed {
			if all, err = journalfolder.List(file.OS{}, dir); gone {
				i--
			}
		}
	}
	return err
}

func (t *taking) segment(ctx context.Context, s journalfolder.Source, last bool) (err error) {
	path := "journal/" + filepath.Base(s.Name)
	e, err := journalfolder.Measure(file.OS{}, s, last)
	if err != nil {
		return err
	}
	if s.Sealed {
		err = t.whole(ctx, path, 1)
	} else {
		err = t.growing(ctx, path, s.Name, e.Bytes)
	}
	if err == nil {
		t.facts.Position = max(t.facts.Position, e.Last)
		t.facts.Events += e.Events
	}
	return err
}

func (t *taking) growing(ctx context.Context, path, name string, size int64) (err error) {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return t.run.Growing(ctx, path, io.NewSectionReader(in, 0, size))
}

// whole takes one file. stamped: it is only ever replaced, so that its size and time of change tell whether it is the same.
func (t *taking) whole(ctx context.Context, path string, stamped int64) error {
	return t.from(ctx, filepath.Join(t.dir, filepath.FromSlash(path)), path, stamped)
}

// from takes a file of any place under a path of the data folder.
func (t *taking) from(ctx context.Context, name, path string, stamped int64) (err error) {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	modified := st.ModTime().UnixNano() * stamped
	if t.run.Known(path, st.Size(), modified) {
		return nil
	}
	return t.run.Whole(ctx, path, in, modified)
}

// files takes all files of a folder.
func (t *taking) files(ctx context.Context, dir string) error {
	return t.folder(ctx, filepath.Join(t.dir, dir), dir, nil)
}

// secret takes the secrets: of a folder of their own first, then what the data folder has beside.
func (t *taking) secret(ctx context.Context) error {
	own, taken := filepath.Join(t.dir, "secrets"), map[string]bool{}
	if t.secrets != "" && filepath.Clean(t.secrets) != own {
		if _, err := os.Stat(t.secrets); err != nil {
			return fmt.Errorf("--secrets: %w", err)
		}
		if err := t.folder(ctx, t.secrets, "secrets", taken); err != nil {
			return err
		}
	}
	return t.folder(ctx, own, "secrets", taken)
}

// folder takes all files of a folder under a path, but those whose name is taken; what a crash left of a replacement is no part
// of it.
func (t *taking) folder(ctx context.Context, name, path string, taken map[string]bool) error {
	entries, err := os.ReadDir(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasSuffix(e.Name(), ".tmp") || taken[e.Name()] {
			continue
		}
		if err := t.from(ctx, filepath.Join(name, e.Name()), path+"/"+e.Name(), 0); err != nil {
			return err
		}
		if taken != nil {
			taken[e.Name()] = true
		}
	}
	return nil
}
