package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/kafka"
	pgjournal "github.com/tallystick/tallystick/internal/store/postgres/journal"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

// storage says where a deployment keeps what it knows.
type storage struct {
	Records   string `help:"Where the records are: postgres://USER@HOST/DATABASE. Default: SQLite in the data folder." env:"TALLY_RECORDS" placeholder:"URL"`
	Journal   string `help:"Where usage events are: postgres://USER@HOST/DATABASE, kafka://HOST/TOPIC or file:///FOLDER. Default: a log in the data folder." env:"TALLY_JOURNAL" placeholder:"URL"`
	Secrets   string `help:"Folder of the deployment's secrets, the same for all its servers. Default: secrets in the data folder." type:"path" env:"TALLY_SECRETS" placeholder:"DIR"`
	Advertise string `help:"URL at which the other servers reach this one's API. Default: the API's address." env:"TALLY_ADVERTISE" placeholder:"URL"`
}

// shared says that several servers can have the records.
func (s *storage) shared() bool { return postgresURL(s.Records) }

func postgresURL(at string) bool {
	u, err := url.Parse(at)
	return err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql")
}

// openRecords opens the records at a URL; empty: those of the folder.
func openRecords(ctx context.Context, f *folder, at string) (store.Records, error) {
	if at != "" {
		return nil, unknownDriver("--records", at, "postgres://USER@HOST/DATABASE")
	}
	records, err := sqlite.Open(ctx, f.path("records.db"))
	if err != nil {
		return nil, fmt.Errorf("records: %w", err) // an interface around nothing would be closed
	}
	return records, nil
}

// erasing is what a journal that erases payloads asks of the records.
type erasing struct {
	commit func(subject string, position uint64, head, payload []byte) ([32]byte, error)
	forget func(ctx context.Context, subject string, came func() (bool, error)) error
}

// openJournal opens the journal at a URL; empty: that of the folder. fence is the lead of this process where the journal is in the
// database of the records, or 0.
func openJournal(ctx context.Context, f *folder, at string, fence uint64, e erasing) (store.Keeper, error) {
	if at == "" {
		return openFile(f.path("journal"), e)
	}
	if strings.HasPrefix(at, "kafka://") { // several hosts are no URL to net/url
		j, err := openKafka(ctx, f.path("journal-kafka"), at, e)
		if err != nil {
			return nil, err
		}
		return j, nil
	}
	switch u, err := url.Parse(at); {
	case err != nil:
	case postgresURL(at):
		j, err := pgjournal.Open(ctx, pgjournal.Config{URL: at, Fence: fence, Commit: e.commit, Forget: e.forget})
		if err != nil {
			return nil, err // an interface around nothing would be closed
		}
		return j, nil
	case u.Scheme == "file" && u.Host == "" && u.Path != "":
		return openShared(u.Path, e)
	}
	return nil, unknownDriver("--journal", at, "postgres://USER@HOST/DATABASE, kafka://HOST/TOPIC or file:///FOLDER")
}

// openKafka opens the journal in a topic; dir is what this process makes of it.
func openKafka(ctx context.Context, dir, at string, e erasing) (*kafka.Journal, error) {
	cfg, err := kafka.ParseURL(at)
	if err != nil {
		return nil, fmt.Errorf("--journal: %w", err)
	}
	cfg.File = file.Config{Dir: dir, Commit: e.commit}
	j, err := kafka.Open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return j, nil
}

func openFile(dir string, e erasing) (store.Keeper, error) {
	j, err := file.Open(file.Config{Dir: dir, Commit: e.commit, Forget: e.forget})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return j, nil
}

// sharedJournal is a file journal outside of the data folder. One process at a time has it.
type sharedJournal struct {
	store.Keeper
	lock *os.File
}

func openShared(dir string, e erasing) (store.Keeper, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("the journal in %s is in use by another process", dir), lock.Close())
	}
	j, err := openFile(filepath.Join(dir, "journal"), e)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &sharedJournal{j, lock}, nil
}

// Close gives the lock up last.
func (j *sharedJournal) Close() error { return errors.Join(j.Keeper.Close(), j.lock.Close()) }

// Stats are those of the file journal.
func (j *sharedJournal) Stats() file.Stats { return statsOf(j.Keeper) }

// figures is a journal that counts segments, groups and syncs.
type figures interface{ Stats() file.Stats }

// statsOf are a journal's figures, if it has such.
func statsOf(j store.Keeper) (st file.Stats) {
	if f, ok := j.(figures); ok {
		return f.Stats()
	}
	return st
}

// examine looks at the journal, if it lies in something that can be set up wrongly.
func (s *server) examine(ctx context.Context) []store.Check {
	if j, ok := s.journal.(store.Examiner); ok {
		return j.Examine(ctx)
	}
	return nil
}

func unknownDriver(flag, at, want string) error {
	if u, err := url.Parse(at); err == nil { // a password must not be printed
		at = u.Redacted()
	} else {
		at = "the value"
	}
	return fmt.Errorf("%s: %s names no store that this binary knows; use %s", flag, at, want)
}
