// Package pgtest gives tests a PostgreSQL server of their own: one cluster per test binary, in a temporary folder, reached by
// a socket alone, and a fresh database per test.
//
// The programs are those in TALLY_TEST_PG_BIN, else the newest of /usr/lib/postgresql/*/bin. Where there are none the test
// fails and says what to install; it is never skipped. As root the server runs as the user postgres, for it refuses to run as
// root. A watchdog stops the server and removes its folder when the test binary ends, however it ends.
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	role        = "tally"
	callTimeout = time.Minute // for one statement of the harness, on a machine that is busy
)

// shared is the cluster that all tests of the binary use.
var shared struct { //nolint:gochecknoglobals // one server for a test binary, however many tests it has
	sync.Mutex
	*Cluster
}

// Database is the URL of a fresh, empty database on the binary's cluster. It is dropped when the test ends.
func Database(tb testing.TB) string {
	tb.Helper()
	return def(tb).Database(tb)
}

// Migrated is Database with what migrate made, which runs once per name in the binary: the database is a clone of what it left.
// migrate must have closed its connections when it returns.
func Migrated(tb testing.TB, name string, migrate func(ctx context.Context, dsn string) error) string {
	tb.Helper()
	return def(tb).Migrated(tb, name, migrate)
}

func def(tb testing.TB) *Cluster {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.Cluster == nil {
		c, err := start(Config{})
		if err != nil {
			tb.Fatal(err)
		}
		shared.Cluster = c
	}
	return shared.Cluster
}

// Config is how a cluster is run.
type Config struct {
	Fsync    bool     // default: off, a test does not survive a power cut
	Settings []string // further ones, "name=value"
}

// Cluster is one server. It is safe for concurrent use.
type Cluster struct {
	folder  string // data, socket and log; its path is short, a socket's may have 107 bytes only
	options string

	mu        sync.Mutex
	made      int
	templates map[string]string // database by the name of what migrated it
	watchdog  *os.File          // its end tells the watchdog
}

// Start runs a cluster for one test alone, say to restart it. It is stopped when the test ends.
func Start(tb testing.TB, cfg Config) *Cluster {
	tb.Helper()
	c, err := start(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = c.Stop(context.Background(), "immediate") // it may be stopped already
		_ = c.watchdog.Close()
	})
	return c
}

// URL reaches a database of the cluster.
func (c *Cluster) URL(database string) string {
	q := url.Values{"host": {c.folder}, "user": {role}}
	return "postgres:///" + database + "?" + q.Encode()
}

// Folder holds the server's data folder, its socket and its log.
func (c *Cluster) Folder() string { return c.folder }

// Database is the URL of a fresh, empty database. It is dropped when the test ends.
func (c *Cluster) Database(tb testing.TB) string {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.create(tb, "template1")
}

// Migrated is a clone of a database that migrate was run on, which happens once per name.
func (c *Cluster) Migrated(tb testing.TB, name string, migrate func(ctx context.Context, dsn string) error) string {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	template, ok := c.templates[name]
	if !ok {
		template = "template_" + strconv.Itoa(len(c.templates))
		if err := c.exec("CREATE DATABASE " + template); err != nil {
			tb.Fatal(err)
		}
		if err := migrate(tb.Context(), c.URL(template)); err != nil {
			_ = c.exec("DROP DATABASE " + template + " WITH (FORCE)")
			tb.Fatalf("migrate the template %s: %v", name, err)
		}
		c.templates[name] = template
	}
	return c.create(tb, template)
}

func (c *Cluster) create(tb testing.TB, template string) string {
	tb.Helper()
	c.made++
	name := "test" + strconv.Itoa(c.made)
	if err := c.exec("CREATE DATABASE " + name + " TEMPLATE " + template); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = c.exec("DROP DATABASE " + name + " WITH (FORCE)") // it only saves room; the server may be stopped
	})
	return c.URL(name)
}

func (c *Cluster) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// Stop stops the server: "fast" ends sessions in order, "immediate" is a crash.
func (c *Cluster) Stop(ctx context.Context, mode string) error {
	return c.run(ctx, "pg_ctl", "-D", filepath.Join(c.folder, "data"), "-m", mode, "-w", "stop")
}

// Resume starts it again after Stop.
func (c *Cluster) Resume(ctx context.Context) error {
	return c.run(ctx, "pg_ctl", "-D", filepath.Join(c.folder, "data"), "-w", "-t", "60", "-l", filepath.Join(c.folder, "log"),
		"-o", c.options, "start")
}
