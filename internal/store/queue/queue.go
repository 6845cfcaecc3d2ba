// Package queue triggers work by River, over SQLite or PostgreSQL. It only triggers: what is due, and how far it is, the work
// reads from the records, so a job that is lost or runs twice does no harm.
package queue

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	_ "modernc.org/sqlite" // the driver

	"github.com/tallystick/tallystick/internal/store/schema"
)

// What a job may take, and what becomes of one whose process died.
const (
	jobTimeout  = 2 * time.Minute // work does a part, and is triggered again for the next
	rescueAfter = 3 * time.Minute // a job of a process that died is taken up by another so long after
	stopTimeout = 10 * time.Second
	keepDone    = time.Hour // of finished jobs, for those who look
	workersMax  = 4
)

// Kind is one sort of work.
type Kind struct {
	Name  string
	Every time.Duration // triggered so often, and once at the start; 0: only by Add
	// Work does a part of what is due. An error is logged; the next trigger tries again.
	Work func(ctx context.Context, argument string) error
}

// Config is what a Queue needs. Exactly one of SQLite and Postgres is set.
type Config struct {
	SQLite   string // path of a database file that the queue has to itself
	Postgres string // URL
	// Alone says that no other process works the queue now: what one that died left running is taken up at once. Of SQLite it is so.
	Alone bool
	Kinds []Kind
	Poll  time.Duration // how often SQLite is asked; default a second
	Log   *slog.Logger  // default: discard
}

// Queue is safe for concurrent use.
type Queue struct {
	client
	close func() error
	log   *slog.Logger
}

// client is a River client of either engine.
type client interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	StopAndCancel(ctx context.Context) error
	Insert(ctx context.Context, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// Open migrates the database and starts nothing.
func Open(ctx context.Context, cfg Config) (*Queue, error) {
	if (cfg.SQLite == "") == (cfg.Postgres == "") || len(cfg.Kinds) == 0 {
		return nil, errors.New("queue: a database of SQLite or of PostgreSQL, and work, are required")
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	q, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return q, nil
}

func open(ctx context.Context, cfg Config) (*Queue, error) {
	if cfg.Postgres != "" {
		pool, err := pgxpool.New(ctx, cfg.Postgres)
		if err != nil {
			return nil, err
		}
		c, err := newClient(ctx, riverpgxv5.New(pool), cfg)
		if err == nil && cfg.Alone {
			_, err = pool.Exec(ctx, reviveAll)
		}
		if err != nil {
			pool.Close()
			return nil, err
		}
		return &Queue{client: c, log: cfg.Log, close: func() error { pool.Close(); return nil }}, nil
	}
	db, err := openSQLite(ctx, cfg.SQLite)
	if err != nil {
		return nil, err
	}
	c, err := newClient(ctx, riversqlite.New(db), cfg)
	if err == nil {
		err = revive(ctx, db)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Queue{client: c, log: cfg.Log, close: db.Close}, nil
}

// openSQLite opens a file whose loss costs a trigger: it need not be synced.
func openSQLite(ctx context.Context, path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // River works in parallel, SQLite does not
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// reviveAll makes jobs available that a process which died left running.
const reviveAll = "UPDATE river_job SET state = 'available' WHERE state = 'running'"

// revive does so in a file, which has one owner.
func revive(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, reviveAll)
	return err
}

// Migrate brings the tables of jobs in PostgreSQL to the newest migration, as Open does too: for a role that may change tables,
// so that the one that serves need not.
func Migrate(ctx context.Context, postgres string) error {
	pool, err := pgxpool.New(ctx, postgres)
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	defer pool.Close()
	if err := migrate(ctx, riverpgxv5.New(pool), slog.New(slog.DiscardHandler)); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// Status lists the migrations of those tables in PostgreSQL. It changes nothing. One that this program does not know, of a newer
// River, is listed as applied and without a name.
func Status(ctx context.Context, postgres string) ([]schema.Migration, error) {
	pool, err := pgxpool.New(ctx, postgres)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	defer pool.Close()
	all, err := status(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("queue: migrations: %w", err)
	}
	return all, nil
}

func status(ctx context.Context, pool *pgxpool.Pool) ([]schema.Migration, error) {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	byVersion := map[int64]schema.Migration{}
	for _, m := range migrator.AllVersions() {
		byVersion[int64(m.Version)] = schema.Migration{Version: int64(m.Version), Name: m.Name}
	}
	var there bool
	if err := pool.QueryRow(ctx, "SELECT to_regclass('river_migration') IS NOT NULL").Scan(&there); err != nil {
		return nil, err
	}
	if there {
		rows, err := pool.Query(ctx, "SELECT version, created_at FROM river_migration WHERE line = 'main'")
		if err != nil {
			return nil, err
		}
		var version int64
		var at time.Time
		if _, err := pgx.ForEachRow(rows, []any{&version, &at}, func() error {
			m := byVersion[version]
			m.Version, m.Applied, m.AppliedAt = version, true, at.UTC()
			byVersion[version] = m
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Values(byVersion), func(a, b schema.Migration) int { return cmp.Compare(a.Version, b.Version) }), nil
}

func migrate[Tx any](ctx context.Context, driver riverdriver.Driver[Tx], log *slog.Logger) error {
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: log})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func newClient[Tx any](ctx context.Context, driver riverdriver.Driver[Tx], cfg Config) (*river.Client[Tx], error) {
	if err := migrate(ctx, driver, cfg.Log); err != nil {
		return nil, err
	}
	w := &worker{kinds: map[string]Kind{}, log: cfg.Log}
	periodic := []*river.PeriodicJob{}
	for _, k := range cfg.Kinds {
		if _, twice := w.kinds[k.Name]; twice || k.Name == "" || k.Work == nil {
			return nil, fmt.Errorf("kind %q has no name or work, or stands twice", k.Name)
		}
		w.kinds[k.Name] = k
		if k.Every > 0 {
			periodic = append(periodic, river.NewPeriodicJob(river.PeriodicInterval(k.Every), func() (river.JobArgs, *river.InsertOpts) {
				return job{Name: k.Name}, once()
			}, &river.PeriodicJobOpts{RunOnStart: true}))
		}
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	return river.NewClient(driver, &river.Config{
		Queues:                      map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workersMax}},
		Workers:                     workers,
		PeriodicJobs:                periodic,
		FetchPollInterval:           cfg.Poll,
		FetchCooldown:               min(cfg.Poll, 100*time.Millisecond),
		JobTimeout:                  jobTimeout,
		RescueStuckJobsAfter:        rescueAfter,
		CompletedJobRetentionPeriod: keepDone,
		Logger:                      cfg.Log,
	})
}

// job is what River stores.
type job struct {
	Name     string `json:"name"`
	Argument string `json:"argument"`
}

// Kind names all jobs to River.
func (job) Kind() string { return "tally" }

// once leaves one job of a kind and argument waiting or running.
func once() *river.InsertOpts {
	return &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled,
	}}}
}

type worker struct {
	river.WorkerDefaults[job]
	kinds map[string]Kind
	log   *slog.Logger
}

// Work does the job. It tells River of no error: what was not done is due still, and the next trigger finds it.
func (w *worker) Work(ctx context.Context, j *river.Job[job]) error {
	k, ok := w.kinds[j.Args.Name]
	if !ok {
		return river.JobCancel(fmt.Errorf("there is no work %q", j.Args.Name)) // of another version
	}
	if err := k.Work(ctx, j.Args.Argument); err != nil && ctx.Err() == nil {
		w.log.LogAttrs(ctx, slog.LevelError, "job failed; the next trigger tries again", slog.String("job", j.Args.Name),
			slog.String("argument", j.Args.Argument), slog.String("error", err.Error()))
	}
	return nil
}

// Add triggers a kind. One that waits or runs with the same argument already is enough.
func (q *Queue) Add(ctx context.Context, kind, argument string) error {
	if _, err := q.Insert(ctx, job{kind, argument}, once()); err != nil {
		return fmt.Errorf("queue: add %s: %w", kind, err)
	}
	return nil
}

// Run works until ctx ends, then waits for running jobs, and stops those that take too long.
func (q *Queue) Run(ctx context.Context) error {
	whole := context.WithoutCancel(ctx)
	if err := q.Start(whole); err != nil {
		return fmt.Errorf("queue: start: %w", err)
	}
	<-ctx.Done()
	patient, cancel := context.WithTimeout(whole, stopTimeout)
	defer cancel()
	if err := q.Stop(patient); err != nil {
		hasty, cancel := context.WithTimeout(whole, stopTimeout)
		defer cancel()
		if err := q.StopAndCancel(hasty); err != nil {
			return fmt.Errorf("queue: stop: %w", err)
		}
	}
	return nil
}

// Close releases the database.
func (q *Queue) Close() error { return q.close() }

var _ client = (*river.Client[pgx.Tx])(nil)
