package queue

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// cluster is one PostgreSQL server for all tests of the package, reached by a socket alone.
type cluster struct {
	folder string
	made   int
}

var servers struct { // one server for the package's tests, stopped in TestMain
	sync.Mutex
	*cluster
}

func TestMain(m *testing.M) {
	code := m.Run()
	if servers.cluster != nil {
		_ = servers.pg("pg_ctl", "-D", filepath.Join(servers.folder, "data"), "-m", "immediate", "-w", "stop")
		_ = os.RemoveAll(servers.folder)
	}
	os.Exit(code)
}

// postgres is the URL of a fresh database.
func postgres(t *testing.T) string {
	t.Helper()
	servers.Lock()
	defer servers.Unlock()
	if servers.cluster == nil {
		servers.cluster = start(t)
	}
	servers.made++
	name := "test" + strconv.Itoa(servers.made)
	if err := servers.pg("createdb", "-h", servers.folder, "-U", "tally", name); err != nil {
		t.Fatal(err)
	}
	return "postgres:///" + name + "?host=" + servers.folder + "&user=tally"
}

func start(t *testing.T) *cluster {
	t.Helper()
	folder, err := os.MkdirTemp("", "pg") //nolint:usetesting // outlives the test, and a socket's path may have 107 bytes only
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{folder: folder}
	if uid, gid, ok := c.other(); ok {
		if err := os.Chown(folder, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(folder, "data")
	if err := c.pg("initdb", "-D", data, "-U", "tally", "--auth=trust", "--no-sync"); err != nil {
		t.Fatal(err)
	}
	err = c.pg("pg_ctl", "-D", data, "-w", "-l", filepath.Join(folder, "log"),
		"-o", "-c listen_addresses='' -c unix_socket_directories="+folder+" -c fsync=off", "start")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// other is whom PostgreSQL runs as instead of root.
func (c *cluster) other() (uid, gid int, ok bool) {
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, false
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid, true
}

// pg runs one of its programs.
func (c *cluster) pg(program string, args ...string) error {
	bin := os.Getenv("TALLY_TEST_PG_BIN")
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); bin == "" && len(found) > 0 {
		bin = found[len(found)-1]
	}
	cmd := exec.Command(filepath.Join(cmp.Or(bin, "/usr/bin"), program), args...)
	cmd.Dir = c.folder
	if uid, gid, ok := c.other(); ok {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return &failure{program, out.String(), err}
	}
	return nil
}

type failure struct {
	program, output string
	error
}

func (f *failure) Error() string { return f.program + ": " + f.error.Error() + "\n" + f.output }

// TestAlone: a job that a process which died left running keeps others of its kind from being added; who has the queue alone
// takes it up at once.
func TestAlone(t *testing.T) {
	t.Parallel()
	did := make(chan string, 1)
	cfg := Config{Postgres: postgres(t), Poll: 10 * time.Millisecond, Alone: true, Kinds: []Kind{{Name: "bill", Work: func(_ context.Context, argument string) error {
		did <- argument
		return nil
	}}}}
	dead, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Add(t.Context(), "bill", "left"); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), cfg.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now()"); err != nil {
		t.Fatal(err)
	}
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, cfg)
	if got := <-did; got != "left" {
		t.Errorf("took up %q", got)
	}
}
