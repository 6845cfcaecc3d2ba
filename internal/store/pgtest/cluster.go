package pgtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
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

// errMissing says what to do.
var errMissing = errors.New("PostgreSQL's programs are missing: run `make deps`, or set TALLY_TEST_PG_BIN to the folder that holds initdb")

// Bin is the folder of PostgreSQL's programs.
func Bin() (string, error) {
	if bin := os.Getenv("TALLY_TEST_PG_BIN"); bin != "" {
		if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
			return "", fmt.Errorf("TALLY_TEST_PG_BIN: %w", err)
		}
		return bin, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errMissing
	}
	version := func(path string) int { // 9.6 counts as 0
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) })
	return filepath.Dir(newest), nil
}

func start(cfg Config) (_ *Cluster, err error) {
	folder, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(folder)
		}
	}()
	if cred := credential(); cred != nil {
		if err := os.Chown(folder, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // whoever runs the tests reaches the socket
		return nil, err
	}
	fsync := "off"
	if cfg.Fsync {
		fsync = "on"
	}
	settings := append([]string{
		"listen_addresses=", "unix_socket_directories=" + folder, "fsync=" + fsync, "shared_buffers=32MB", "max_connections=200",
		"max_wal_size=256MB", "autovacuum_naptime=10s", "log_min_messages=warning", "log_lock_waits=off",
	}, cfg.Settings...)
	c := &Cluster{folder: folder, options: "-c " + strings.Join(settings, " -c "), templates: map[string]string{}}
	if err := c.watch(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = c.watchdog.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	data := filepath.Join(folder, "data")
	if err := c.run(ctx, "initdb", "-D", data, "-U", role, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"); err != nil {
		return nil, err
	}
	if err := c.Resume(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// watch starts the watchdog: a shell that waits for the end of a pipe which only this process holds, then stops the server
// and removes the folder. It outlives this process by that moment.
func (c *Cluster) watch() error {
	bin, err := Bin()
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = read.Close() }()
	// The server may be starting yet, which pg_ctl takes for no server.
	const script = `read -r _
for _ in 1 2 3 4 5 6 7 8; do
	"$1/pg_ctl" -D "$2/data" -m immediate -w stop && break
	sleep 1
done
rm -rf -- "$2"`
	cmd := exec.Command("/bin/sh", "-c", script, "watchdog", bin, c.folder) //nolint:gosec,noctx // it must outlive every context
	cmd.Stdin, cmd.Dir = read, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential()} // an interrupt at the terminal is not for it
	if err := cmd.Start(); err != nil {
		_ = write.Close()
		return fmt.Errorf("start the watchdog: %w", err)
	}
	c.watchdog = write
	return cmd.Process.Release()
}

// run runs one of PostgreSQL's programs to its end.
func (c *Cluster) run(ctx context.Context, program string, args ...string) error {
	bin, err := Bin()
	if err != nil {
		return err
	}
	// A file, not a pipe: pg_ctl hands its output on to the server, and waiting for the end of a pipe would last as long as that.
	out, err := os.CreateTemp("", "pgtest")
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(out.Close(), os.Remove(out.Name())) }()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, program), args...) //nolint:gosec // programs of PostgreSQL
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.folder, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential()}
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		log, _ := os.ReadFile(filepath.Join(c.folder, "log"))
		return fmt.Errorf("%s: %w\n%s", program, err, bytes.TrimSpace(slices.Concat(said, log)))
	}
	return nil
}

// credential is whom PostgreSQL runs as instead of root; nil: as whoever runs the tests.
func credential() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
