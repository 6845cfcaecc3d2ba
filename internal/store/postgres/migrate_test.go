package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/pgtest"
)

func exec(t *testing.T, dsn, statement string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // also when the test is over
	c, err := pgx.Connect(ctx, dsn)
	ok(t, err)
	defer func() { ok(t, c.Close(ctx)) }()
	_, err = c.Exec(ctx, statement)
	ok(t, err)
}

// databaseOf is the name of the database in one of pgtest's URLs.
func databaseOf(dsn string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(dsn, "postgres:///"), "?")
	return name
}

func TestServersThatStartTogetherMigrateOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	before, err := Status(t.Context(), dsn)
	ok(t, err)
	if before.Current != 0 || before.Known < 15 || before.Usable() || len(before.Migrations) == 0 || !before.Migrations[0].AppliedAt.IsZero() {
		t.Errorf("an empty database: %+v", before)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			r, err := Open(t.Context(), dsn)
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(r.Ping(t.Context()), r.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after, err := Status(t.Context(), dsn)
	ok(t, err)
	if after.Current != after.Known || !after.Usable() || time.Since(after.Migrations[0].AppliedAt).Abs() > 2*time.Hour {
		t.Errorf("after opening: %+v", after)
	}
	if from, to, err := Up(t.Context(), dsn); err != nil || from != to || to != after.Known {
		t.Errorf("up again: from %d to %d, %v", from, to, err)
	}
}

// TestDownAndUpAgain: every migration can be taken back, and leaves nothing when all are.
func TestDownAndUpAgain(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	s, err := Status(t.Context(), dsn)
	ok(t, err)
	for range s.Migrations {
		if _, err := Down(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
	}
	c, err := pgx.Connect(t.Context(), dsn)
	ok(t, err)
	defer func() { ok(t, c.Close(t.Context())) }()
	var left string
	ok(t, c.QueryRow(t.Context(), `SELECT coalesce(string_agg(name, ' '), '') FROM (
		SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> $1
		UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace) x`, versionTable).Scan(&left))
	if left != "" {
		t.Errorf("left behind: %s", left)
	}
	if s, err := Status(t.Context(), dsn); err != nil || s.Current != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if from, to, err := Up(t.Context(), dsn); err != nil || from != 0 || to != s.Known {
		t.Errorf("up again: from %d to %d, %v", from, to, err)
	}
	ok(t, mustOpen(t, dsn).PutSetting(t.Context(), "a", "b"))
}

// TestNeighbouringVersions: a newer schema is used as long as it allows the programs that this one is.
func TestNeighbouringVersions(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	exec(t, dsn, "INSERT INTO "+versionTable+" (version_id, is_applied) VALUES (999, true)")
	ok(t, mustOpen(t, dsn).PutSetting(t.Context(), "a", "b"))
	if _, _, err := Up(t.Context(), dsn); err != nil {
		t.Errorf("up under a newer schema: %v", err)
	}
	if _, err := Down(t.Context(), dsn); !errors.Is(err, store.ErrNewer) {
		t.Errorf("down under a newer schema: %v", err)
	}
	exec(t, dsn, "UPDATE records_schema SET min_reader = 999")
	_, err := Open(t.Context(), dsn)
	if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "needs a program that knows version 999") {
		t.Errorf("open: %v", err)
	}
	if s, err := Status(t.Context(), dsn); err != nil || s.Usable() || s.Current != 999 || s.MinReader != 999 {
		t.Errorf("status: %+v, %v", s, err)
	}
}

func TestWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://tally:geheim@127.0.0.1:1/none":                      "127.0.0.1:1",
		"postgres://tally:geheim@127.0.0.1:notaport/none":               "the database's URL",
		strings.Replace(pgtest.Database(t), "user=tally", "user=no", 1): `role "no" does not exist`,
	} {
		_, err := Open(t.Context(), dsn)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%v, want %q and no password", err, want)
		}
	}
	dsn := pgtest.Database(t)
	exec(t, dsn, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
	t.Cleanup(func() { exec(t, dsn, "DROP DATABASE latin") })
	_, err := Open(t.Context(), strings.Replace(dsn, databaseOf(dsn), "latin", 1))
	if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "ENCODING 'UTF8'") {
		t.Errorf("another encoding: %v", err)
	}
}

// TestRightsOfAServer: where the schema is there, a server needs no right to change it.
func TestRightsOfAServer(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	role := "server_" + databaseOf(dsn)
	exec(t, dsn, fmt.Sprintf(`CREATE ROLE %[1]s LOGIN;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %[1]s;
		GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO %[1]s`, role))
	t.Cleanup(func() { exec(t, dsn, fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role)) })
	r := mustOpen(t, strings.Replace(dsn, "user=tally", "user="+role, 1))
	populate(t, r)
	l, err := r.TakeLead(t.Context(), "a", "http://a", time.Minute)
	ok(t, err)
	ok(t, r.Fenced(l.Fence).PutSetting(t.Context(), "a", "b"))
	ok(t, r.Close())
}

// populate stores one of each thing that never changes.
func populate(t *testing.T, r *Records) {
	t.Helper()
	ctx := t.Context()
	ok(t, r.PutCatalog(ctx, store.CatalogVersion{Source: []byte("a: 1"), AppliedAt: instant}, 0))
	putCustomer(t, r, 1)
	ok(t, r.PutSubscription(ctx, subscribed(1, 1), audit()))
	ok(t, r.PutChanges(ctx, "sub_1", []subscription.Change{{ID: "sch_1", At: instant, Kind: subscription.Pause, CreatedAt: instant}}, time.Time{}, audit()))
	c := store.Close{SubscriptionID: "sub_1", Period: draft(1).Period, ClosedAt: instant}
	_, err := r.BeginClose(ctx, c)
	ok(t, err)
	_, err = r.FinishClose(ctx, c, store.Issue{Invoice: draft(1)}, instant)
	ok(t, err)
	e := entry("deposit", -1000)
	ok(t, r.Move(ctx, store.Movement{Payment: &store.Payment{
		ID: "pay_1", Kind: "payment", CustomerID: "cus_1", Amount: e.Postings[1].Amount, Applied: e.Postings[1].Amount, ReceivedAt: instant, CreatedAt: instant,
	}}, audit()))
	ok(t, r.PutEntries(ctx, []ledger.Entry{e}, audit()))
	_, err = r.PutGatewayKey(ctx, store.GatewayKey{ID: "gwk_1", Node: 2, CreatedAt: instant}, audit())
	ok(t, err)
}

// Whoever opens the database with SQL meets the triggers.
func TestWhatIsImmutableRefusesSQL(t *testing.T) {
	t.Parallel()
	r := mustOpen(t, migrated(t))
	populate(t, r)
	const columns = "customer_id, subscription_id, plan, status, currency, period_start, period_end, 1, catalog_version, tz_version, position, finalized_at FROM invoices"
	const into = "INSERT INTO invoices (number, id, customer_id, subscription_id, plan, status, currency, period_start, period_end, total_minor, catalog_version, tz_version, position, finalized_at) SELECT "
	for _, statement := range []string{
		"UPDATE invoices SET total_minor = 1",
		"DELETE FROM invoices",
		"TRUNCATE invoices CASCADE",
		into + "2, id, " + columns,
		into + "3, 'inv_3', " + columns,
		"UPDATE invoice_lines SET exact = '1'",
		"DELETE FROM invoice_lines",
		"INSERT INTO invoice_lines (invoice_id, number, id, kind, price, meter, period_start, period_end, quantity, exact, rounded_minor) VALUES ('inv_1', 2, 'iln_2', 'flat', 'p', '', 0, 1, '1', '1', 100)",
		"UPDATE catalogs SET source = ''",
		"DELETE FROM catalogs",
		"TRUNCATE catalogs",
		"INSERT INTO catalogs SELECT 3, source, digest, applied_at, applied_by FROM catalogs",
		"UPDATE subscription_changes SET at = 0",
		"DELETE FROM subscription_changes",
		"UPDATE closes SET done = false",
		"UPDATE audits SET actor = 'nobody'",
		"DELETE FROM audits",
		"UPDATE ledger_entries SET at = 0",
		"DELETE FROM ledger_postings",
		"INSERT INTO ledger_postings SELECT entry_id, 9, account, customer_id, currency, minor FROM ledger_postings",
		"UPDATE invoice_standings SET total = 1",
		"DELETE FROM payments",
		"UPDATE gateway_keys SET node = 1",
	} {
		_, err := r.db.pool.Exec(t.Context(), statement)
		if err == nil || !errors.Is(r.wrap("x", err), store.ErrConflict) ||
			!strings.Contains(err.Error(), "immutable") && !strings.Contains(err.Error(), "without a gap") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}
