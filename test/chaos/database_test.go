package chaos_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tallystick/tallystick/test/fleet"
)

// database is a primary whose commits wait for a standby, and the links of the servers to it.
type database struct {
	primary, standby *fleet.Postgres
	links            []*link
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	d := &database{}
	t.Cleanup(func() {
		for _, p := range []*fleet.Postgres{d.standby, d.primary} {
			if p == nil {
				continue
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	var err error
	if d.primary, err = fleet.NewPostgres(patient(t)); err != nil {
		t.Fatal(err)
	}
	if err := d.primary.CreateDatabase(patient(t), "tally"); err != nil {
		t.Fatal(err)
	}
	if err := d.follow(patient(t)); err != nil {
		t.Fatal(err)
	}
	return d
}

// follow makes a standby of the primary and has commits wait for it.
func (d *database) follow(ctx context.Context) (err error) {
	if d.standby, err = d.primary.Standby(ctx); err != nil {
		return err
	}
	return d.primary.Confirm(ctx, true)
}

// restart ends the primary as a crash does and starts it again.
func (d *database) restart(ctx context.Context) error {
	d.primary.Stop(syscall.SIGQUIT)
	return d.primary.Start(ctx)
}

// failover makes the standby the primary. The old one is fenced before: no server reaches it any more, and it is killed and its
// data deleted. A new standby is made of the new primary.
func (d *database) failover(ctx context.Context) error {
	for _, l := range d.links {
		l.cut()
	}
	old := d.primary
	old.Stop(syscall.SIGKILL)
	d.primary, d.standby = d.standby, nil
	if err := d.primary.Promote(ctx); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	for _, l := range d.links {
		if err := l.join(d.primary.Addr); err != nil {
			return err
		}
	}
	if err := old.Close(); err != nil {
		return err
	}
	return d.follow(ctx)
}

// signal sends a signal to all processes of a PostgreSQL: each is a group of its own.
func signal(p *fleet.Postgres, s syscall.Signal) error {
	pid := p.PID()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return err
	}
	for _, f := range append([]string{strconv.Itoa(pid)}, strings.Fields(string(b))...) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return err
		}
		if err := syscall.Kill(n, s); err != nil && err != syscall.ESRCH { // it may have ended meanwhile
			return err
		}
	}
	return nil
}
