// Package fleet runs a deployment of many nodes as processes of one machine, for tests and for make cluster: PostgreSQL with
// or without a synchronous standby, servers, gateways, and load balancers before them. Everything listens on the loopback
// address and ends with the process that began it.
package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PostgresVariable names a folder with PostgreSQL's programs, instead of that of the newest Debian package.
const PostgresVariable = "TALLY_TEST_PG_BIN"

// Bounds of PostgreSQL's start and end.
const (
	postgresWait = 60 * time.Second
	postgresPoll = 20 * time.Millisecond
)

// Postgres is one PostgreSQL cluster with a data folder of its own. It serves the loopback address, without passwords unless it is
// kept.
// Its methods are for one goroutine.
type Postgres struct {
	Addr string // host:port, the same over restarts
	dir  string // of the data
	kept bool   // Close leaves it there
	bin  string
	owns *syscall.Credential // nil: the user that runs this
	log  *os.File
	cmd  *exec.Cmd
	end  chan struct{} // closed when the process of cmd has ended
}

// NewPostgres makes a cluster in a temporary folder and starts it.
func NewPostgres(ctx context.Context) (*Postgres, error) {
	p, err := newPostgres()
	if err != nil {
		return nil, err
	}
	if err := p.tool(ctx, "initdb", "-D", p.dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, p.begin(ctx)
}

// begin starts a new cluster, or leaves nothing.
func (p *Postgres) begin(ctx context.Context) error {
	if err := p.Start(ctx); err != nil {
		return errors.Join(err, p.Close())
	}
	return nil
}

// Standby makes a copy of the running cluster that follows it and starts it. Confirm makes commits wait for it.
func (p *Postgres) Standby(ctx context.Context) (*Postgres, error) {
	s, err := newPostgres()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		return nil, err
	}
	if err := s.tool(ctx, "pg_basebackup", "-h", host, "-p", port, "-U", "postgres", "-D", s.dir, "-R", "-X", "stream", "-c", "fast", "--no-sync"); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, s.begin(ctx)
}

// newPostgres makes the folder. It lies in the system's temporary one, whose parents user postgres can pass.
func newPostgres() (*Postgres, error) {
	bin, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tally-postgres-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // user postgres must get through
		return nil, err
	}
	p := &Postgres{dir: filepath.Join(dir, "data"), bin: bin}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		if p.owns, err = postgresUser(); err != nil {
			return nil, err
		}
		if err := os.Chown(p.dir, int(p.owns.Uid), int(p.owns.Gid)); err != nil {
			return nil, err
		}
	}
	if p.Addr, err = FreeAddr(); err != nil {
		return nil, err
	}
	p.log, err = os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return p, err
}

// FreeAddr is an address of the loopback that nobody listens on now.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func postgresPrograms() (string, error) {
	if bin := os.Getenv(PostgresVariable); bin != "" {
		return bin, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("PostgreSQL's programs are not in /usr/lib/postgresql: run make deps, or name their folder in %s", PostgresVariable)
	}
	version := func(path string) int {
		n, err := strconv.Atoi(strings.Split(path, "/")[4])
		if err != nil {
			return 0
		}
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

func postgresUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root and needs its user: %w", err)
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uerr, gerr)
}

// tool runs one of PostgreSQL's programs to its end.
func (p *Postgres) tool(ctx context.Context, name string, args ...string) error {
	cmd := p.command(ctx, name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func (p *Postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "PGCONNECT_TIMEOUT=5", passwordVariable + "=" + os.Getenv(passwordVariable)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owns, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Start starts it and waits until it answers. It follows settings that Set made.
func (p *Postgres) Start(ctx context.Context) error {
	_, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(postgresWait)
	for {
		p.cmd = p.command(context.WithoutCancel(ctx), "postgres", "-D", p.dir, "-c", "port="+port, "-c", "listen_addresses=127.0.0.1",
			"-c", "unix_socket_directories=", "-c", "max_connections=120", "-c", "wal_level=replica", "-c", "shared_buffers=64MB",
			"-c", "hot_standby=on", "-c", "wal_receiver_status_interval=1s", "-c", "wal_receiver_timeout=5s", "-c", "wal_sender_timeout=5s",
			"-c", "log_min_messages=warning", "-c", "max_wal_size=512MB")
		p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
		if err := p.cmd.Start(); err != nil {
			return fmt.Errorf("start PostgreSQL: %w", err)
		}
		end, cmd := make(chan struct{}), p.cmd
		go func() {
			_ = cmd.Wait() // the log says why it ended
			close(end)
		}()
		p.end = end
		err := p.answers(ctx, deadline)
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		// The children of one that was killed may hold its memory for a moment.
		p.Stop(syscall.SIGKILL)
		if err := pause(ctx, postgresPoll*10); err != nil {
			return err
		}
	}
}

// answers waits for the first answer.
func (p *Postgres) answers(ctx context.Context, deadline time.Time) error {
	for {
		_, err := p.Query(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-p.end:
			return fmt.Errorf("PostgreSQL ended at its start:\n%s", p.Log())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, p.Log())
		}
		if err := pause(ctx, postgresPoll); err != nil {
			return err
		}
	}
}

// Log is the end of what it wrote.
func (p *Postgres) Log() string {
	b, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// PID is the process's number.
func (p *Postgres) PID() int { return p.cmd.Process.Pid }

// Stop sends SIGINT (fast), SIGQUIT (immediate: as a crash) or SIGKILL and waits for the end.
func (p *Postgres) Stop(s syscall.Signal) {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Signal(s) // it may have ended
	select {
	case <-p.end:
	case <-time.After(postgresWait):
		_ = p.cmd.Process.Kill()
		<-p.end
	}
}

// Ended is closed when the process that Start started has ended.
func (p *Postgres) Ended() <-chan struct{} { return p.end }

// Close ends it and deletes its data, unless it is kept.
func (p *Postgres) Close() error {
	if p.kept {
		p.Stop(syscall.SIGINT)
		return p.log.Close()
	}
	p.Stop(syscall.SIGQUIT)
	_ = p.log.Close() // nobody reads it any more
	return os.RemoveAll(filepath.Dir(p.dir))
}

// Query runs one statement and returns what psql prints of its rows: columns separated by |.
func (p *Postgres) Query(ctx context.Context, sql string) (string, error) {
	return p.QueryIn(ctx, "postgres", sql)
}

// QueryIn is Query in another database.
func (p *Postgres) QueryIn(ctx context.Context, database, sql string) (string, error) {
	host, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		return "", err
	}
	cmd := p.command(ctx, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "postgres", "-d", database, "-c", sql)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, bytes.TrimSpace(problem.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

// CreateDatabase makes an empty database.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) error {
	_, err := p.Query(ctx, `CREATE DATABASE "`+name+`"`)
	return err
}

// URL is where clients reach a database, at an address that may be a proxy's.
func URL(addr, database string) string {
	return "postgres://postgres@" + addr + "/" + database + "?sslmode=disable&connect_timeout=5"
}

// Confirm says whether a commit waits until the standby has it on disk. It returns when that is so.
func (p *Postgres) Confirm(ctx context.Context, standby bool) error {
	names := ""
	if standby {
		names = "*"
	}
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()"} {
		if _, err := p.Query(ctx, sql); err != nil {
			return err
		}
	}
	if !standby {
		return nil
	}
	for {
		state, err := p.Query(ctx, "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'")
		if err == nil && state == "sync" {
			return nil
		}
		if err := pause(ctx, postgresPoll); err != nil {
			return fmt.Errorf("the standby does not follow (%q): %w", state, err)
		}
	}
}

// Promote makes a standby the primary and returns when it takes writes. The old primary must be stopped before: nothing here
// keeps two of them apart. Commits wait for no standby until Confirm.
func (p *Postgres) Promote(ctx context.Context) error {
	if _, err := p.Query(ctx, "SELECT pg_promote(true, 30)"); err != nil {
		return err
	}
	for {
		if in, err := p.Query(ctx, "SELECT pg_is_in_recovery()"); err == nil && in == "f" {
			break
		}
		if err := pause(ctx, postgresPoll); err != nil {
			return fmt.Errorf("the standby was not promoted: %w", err)
		}
	}
	return p.Confirm(ctx, false)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
