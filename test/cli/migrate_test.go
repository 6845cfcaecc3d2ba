package cli_test

import (
	"fmt"
	"testing"

	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/test/process"
)

// TestMigratePostgres lists, applies and keeps the schemas of records and journal in PostgreSQL.
func TestMigratePostgres(t *testing.T) {
	t.Parallel()
	tally, err := process.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	url := pgtest.Database(t)
	type result struct {
		Stores []struct {
			Store            string
			Version          int64
			Pending, Changed int
			Migrations       []struct{ Applied bool }
		}
	}
	ask := func(args ...string) (r result) {
		t.Helper()
		if err := tally.JSON(t.Context(), &r, append([]string{"migrate"}, append(args, "--records", url)...)...); err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := ask("status").Stores[0]
	if before.Version != 0 || before.Pending == 0 || before.Pending != len(before.Migrations) {
		t.Errorf("an empty database: %+v", before)
	}
	if jobs := ask("status").Stores[1]; jobs.Store != "jobs" || jobs.Version != 0 || jobs.Pending == 0 {
		t.Errorf("jobs of an empty database: %+v", jobs)
	}
	upAll := ask("up")
	if jobs := upAll.Stores[1]; jobs.Version == 0 || jobs.Pending != 0 || jobs.Changed != len(jobs.Migrations) {
		t.Errorf("jobs after up: %+v", jobs)
	}
	up := upAll.Stores[0]
	if up.Pending != 0 || up.Changed != before.Pending || up.Version < 15 {
		t.Errorf("after up: %+v", up)
	}
	if again := ask("up").Stores[0]; again.Changed != 0 || again.Version != up.Version {
		t.Errorf("up once more: %+v", again)
	}
	if down := ask("down", "--to", "15").Stores[0]; down.Version != 15 || down.Pending != len(down.Migrations)-1 {
		t.Errorf("down to the first one: %+v", down)
	}
	if r, err := tally.Run(t.Context(), "migrate", "down", "--to", "1", "--records", url); err != nil || r.Code != 1 {
		t.Errorf("down below the first one: exit %d, %v", r.Code, err)
	}
	both := ask("up", "--journal", url)
	if len(both.Stores) != 3 || both.Stores[1].Changed == 0 || both.Stores[1].Pending != 0 {
		t.Errorf("with the journal: %+v", both)
	}
	last := both.Stores[1].Version
	if one := ask("down", "--store", "journal", "--to", fmt.Sprint(last), "--journal", url); len(one.Stores) != 1 || one.Stores[0].Changed != 0 || one.Stores[0].Version != last {
		t.Errorf("the journal down to where it is: %+v", one)
	}
	if r, err := tally.Run(t.Context(), "migrate", "down", "--store", "journal", "--to", "0", "--journal", url); err != nil || r.Code != 1 {
		t.Errorf("a journal was dropped: exit %d, %v", r.Code, err)
	}
}
