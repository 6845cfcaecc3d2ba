package queue

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store/pgtest"
)

// engines runs a test on both.
func engines(t *testing.T, test func(t *testing.T, cfg Config)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, Config{SQLite: filepath.Join(t.TempDir(), "jobs.db"), Poll: 10 * time.Millisecond})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, Config{Postgres: pgtest.Database(t), Poll: 10 * time.Millisecond})
	})
}

// run works a queue until the test ends.
func run(t *testing.T, cfg Config) *Queue {
	t.Helper()
	q, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func TestPeriodicWorkBeginsAtOnce(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, cfg Config) {
		did := make(chan string, 1)
		cfg.Kinds = []Kind{{Name: "bill", Every: time.Hour, Work: func(_ context.Context, argument string) error {
			did <- argument
			return nil
		}}}
		run(t, cfg)
		if got := <-did; got != "" {
			t.Errorf("a periodic job has the argument %q", got)
		}
	})
}

// TestOneWaitsOrRuns: while a job runs, others of the same kind and argument are not added; of another argument they are.
func TestOneWaitsOrRuns(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, cfg Config) {
		begun, goOn := make(chan string, 8), make(chan bool)
		var count atomic.Int64
		cfg.Kinds = []Kind{{Name: "run", Work: func(_ context.Context, argument string) error {
			count.Add(1)
			begun <- argument
			if argument == "a" {
				<-goOn
			}
			return nil
		}}}
		q := run(t, cfg)
		for range 3 {
			if err := q.Add(t.Context(), "run", "a"); err != nil {
				t.Fatal(err)
			}
		}
		if got := <-begun; got != "a" {
			t.Fatalf("began with %q", got)
		}
		if err := q.Add(t.Context(), "run", "a"); err != nil {
			t.Fatal(err)
		}
		if err := q.Add(t.Context(), "run", "b"); err != nil {
			t.Fatal(err)
		}
		if got := <-begun; got != "b" {
			t.Errorf("then came %q", got)
		}
		close(goOn)
		if n := count.Load(); n != 2 {
			t.Errorf("%d jobs ran, want 2", n)
		}
	})
}

// TestFailureIsTriedAgain by the next trigger, not by River's own slow retries.
func TestFailureIsTriedAgain(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, cfg Config) {
		did := make(chan bool, 8)
		cfg.Kinds = []Kind{{Name: "bill", Every: time.Second, Work: func(context.Context, string) error {
			did <- true
			return context.DeadlineExceeded
		}}}
		run(t, cfg)
		<-did
		<-did
	})
}

// TestJobOfADeadProcess is what a kill -9 leaves: a job that runs nowhere.
func TestJobOfADeadProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "jobs.db")
	did := make(chan string, 1)
	cfg := Config{SQLite: path, Poll: 10 * time.Millisecond, Kinds: []Kind{{Name: "run", Work: func(_ context.Context, argument string) error {
		did <- argument
		return nil
	}}}}
	q, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Add(t.Context(), "run", "left"); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "UPDATE river_job SET state = 'running', attempt = 1"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, cfg)
	if got := <-did; got != "left" {
		t.Errorf("worked %q", got)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	work := func(context.Context, string) error { return nil }
	for name, cfg := range map[string]Config{
		"no database": {Kinds: []Kind{{Name: "a", Work: work}}},
		"two":         {SQLite: "x", Postgres: "y", Kinds: []Kind{{Name: "a", Work: work}}},
		"no work":     {SQLite: filepath.Join(t.TempDir(), "a.db")},
		"twice":       {SQLite: filepath.Join(t.TempDir(), "b.db"), Kinds: []Kind{{Name: "a", Work: work}, {Name: "a", Work: work}}},
	} {
		if q, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s was opened", name)
			_ = q.Close()
		}
	}
}
