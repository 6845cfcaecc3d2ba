// Package journal keeps usage events in PostgreSQL, for any number of servers on the same database.
//
// All appends take the lock of one row, which holds the position of the last record; so positions have no gaps and outcomes
// follow one order. Each process commits many calls in one transaction, led by the first that waits. Identities, rollups, tallies
// and the record itself are written in that transaction. The record has the bytes that the log of files would have, so that a
// tree over either is the same.
package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/schema"
)

// Config of a Journal.
type Config struct {
	URL string // postgres://…
	// Commit commits to a payload before it is erased, as the tree does; without it nothing can be erased.
	Commit func(subject string, position uint64, head, payload []byte) ([32]byte, error)
	// Forget is told each subject of whom an erasure left no payload: its key may go. came tells whether an event of the subject
	// has come meanwhile. Optional.
	Forget func(ctx context.Context, subject string, came func() (bool, error)) error
	// Fence is the lead of the process that writes, in records that are in the same database: once another one leads, each change
	// fails with store.ErrConflict. 0: whoever has the journal may write.
	Fence uint64
	// Unsafe lets a server that does not sync its commits be used: for tests.
	Unsafe bool
	// HeadWait is how long another session may hold the head without work: a process that was stopped is put out then. Default: 5 s.
	HeadWait time.Duration
}

// Journal implements store.Keeper. It is safe for concurrent use.
type Journal struct {
	cfg   Config
	pool  *pgxpool.Pool // of reads and of erasing, which may take long
	write *pgxpool.Pool // of what takes the head

	turn    chan struct{} // held by who commits
	doubt   int           // groups to come that look their events up; of who commits
	mu      sync.Mutex    // guards waiting and bytes
	waiting []*call
	bytes   int

	closed  atomic.Bool
	running sync.WaitGroup
	entry   sync.RWMutex // Close waits for what has entered
}

var _ store.Keeper = (*Journal)(nil)

// Open connects and brings the schema to the newest migration. It refuses a server whose commits may be lost, and tables
// with ErrEarlier.
func Open(ctx context.Context, cfg Config) (*Journal, error) {
	if cfg.HeadWait <= 0 {
		cfg.HeadWait = headWait
	}
	j := &Journal{cfg: cfg, turn: make(chan struct{}, 1)}
	pc, err := j.connections("")
	if err != nil {
		return nil, fmt.Errorf("journal: the database's URL: %w: %w", store.ErrInvalid, err)
	}
	if err := onSchema(ctx, pc.ConnConfig, func(s *schema.Schema) error {
		_, err := s.Up(ctx)
		return err
	}); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	// What is looked up under the head has a key. A plan made while a table was small would go on to read all of it.
	wc, err := j.connections(fmt.Sprintf(`SET idle_in_transaction_session_timeout = %[1]d; SET lock_timeout = %[1]d; SET statement_timeout = %[2]d;
		SET enable_seqscan = off; SET jit = off`,
		cfg.HeadWait.Milliseconds(), commitWait.Milliseconds()))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	wc.MaxConns = writers
	if j.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if j.write, err = pgxpool.NewWithConfig(ctx, wc); err != nil {
		j.pool.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := errors.Join(j.pool.Ping(ctx), j.write.Ping(ctx)); err != nil {
		j.pool.Close()
		j.write.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	return j, nil
}

const (
	headWait = 5 * time.Second
	readers  = 16 // connections, where the URL has no pool_max_conns
	writers  = 3  // one works a group, others settle what became of one whose connection was lost
)

// connections is the configuration of a pool; each connection is checked, and set up by SQL, when it is new.
func (j *Journal) connections(setup string) (*pgxpool.Config, error) {
	pc, err := pgxpool.ParseConfig(j.cfg.URL)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(j.cfg.URL, "pool_max_conns") {
		pc.MaxConns = readers
	}
	if pc.ConnConfig.RuntimeParams["application_name"] == "" {
		pc.ConnConfig.RuntimeParams["application_name"] = "tally journal"
	}
	pc.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		if err := safe(ctx, c, j.cfg.Unsafe); err != nil {
			return err
		}
		_, err := c.Exec(ctx, setup)
		return err
	}
	return pc, nil
}

// safe refuses a server that says a commit is durable which is not, or that cannot keep every text. A server may be restarted
// with other settings, so that each new connection is checked.
func safe(ctx context.Context, c *pgx.Conn, unsafe bool) error {
	if _, err := c.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false)
		WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')`); err != nil {
		return err
	}
	var encoding, fsync, pages string
	if err := c.QueryRow(ctx, "SELECT current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes')").
		Scan(&encoding, &fsync, &pages); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database has the encoding %s: create one with ENCODING 'UTF8': %w", encoding, store.ErrInvalid)
	}
	if !unsafe && (fsync != "on" || pages != "on") {
		return fmt.Errorf("the database has fsync = %s and full_page_writes = %s, so that usage which was acknowledged can be lost: set both to on: %w",
			fsync, pages, store.ErrInvalid)
	}
	return nil
}

// changing is how a transaction begins that changes the journal.
func (j *Journal) changing() pgx.TxOptions {
	if j.cfg.Fence == 0 {
		return pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	}
	return pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT tally_fence(" + strconv.FormatUint(j.cfg.Fence, 10) + ")"}
}

// enter begins a call; leave ends it.
func (j *Journal) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.entry.RLock()
	defer j.entry.RUnlock()
	if j.closed.Load() {
		return store.ErrClosed
	}
	j.running.Add(1)
	return nil
}

func (j *Journal) leave() { j.running.Done() }

// Close waits for running calls and closes the connections. Later calls fail with store.ErrClosed; closing again does nothing.
func (j *Journal) Close() error {
	j.entry.Lock()
	was := j.closed.Swap(true)
	j.entry.Unlock()
	j.running.Wait()
	if !was {
		j.pool.Close()
		j.write.Close()
	}
	return nil
}

// Tick implements store.Keeper: the index is never behind.
func (j *Journal) Tick(context.Context) error { return nil }

// wrap says what a failure of the database means to a caller.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) {
		switch pe.Code {
		case "53100", "53200", "53300", "53400": // disk full, out of memory, too many connections
			return fmt.Errorf("%s: %w: %w", what, store.ErrFull, err)
		case "TL001": // raised by tally_fence
			return fmt.Errorf("%s: %w: %w", what, store.ErrConflict, err)
		case "22021", "22P05": // a byte that no text of the database can have
			return fmt.Errorf("%s: a text has a character that PostgreSQL cannot keep: %w: %w", what, store.ErrInvalid, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, store.ErrInvalid)...)
}
