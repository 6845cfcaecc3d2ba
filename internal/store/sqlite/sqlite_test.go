package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/storetest"
	"github.com/tallystick/tallystick/internal/store/storetest/ledgertest"
	"github.com/tallystick/tallystick/internal/store/storetest/recounts"
	"github.com/tallystick/tallystick/internal/store/storetest/sealtest"
	"github.com/tallystick/tallystick/internal/store/storetest/sendertest"
)

func mustOpen(t testing.TB, path string) *Records {
	t.Helper()
	r, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ok(t, r.Close()) })
	return r
}

// scratch is what suites of a contract get.
func scratch(t *testing.T) store.Records {
	t.Helper()
	r, err := Scratch(t.Context(), filepath.Join(t.TempDir(), "records.db"))
	ok(t, err)
	t.Cleanup(func() { ok(t, r.Close()) })
	return r
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Records(t, scratch)
}

func TestRecounts(t *testing.T) {
	t.Parallel()
	recounts.Suite(t, scratch)
}

var instant = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// populate stores one of each thing that never changes, and a lease.
func populate(t testing.TB, r *Records) {
	t.Helper()
	ctx := t.Context()
	audits := 0
	audit := func() store.Audit {
		audits++
		return store.Audit{ID: fmt.Sprintf("aud_%d", audits), Time: instant}
	}
	usd := money.MustCurrency("USD")
	ok(t, r.PutCatalog(ctx, store.CatalogVersion{Source: []byte("a: 1"), AppliedAt: instant}, 0))
	ok(t, r.PutCustomer(ctx, account.Customer{ID: "cus_1", Key: "acme", Zone: period.MustZone("UTC"), Currency: usd, CreatedAt: instant}, audit()))
	ok(t, r.PutSubscription(ctx, account.Subscription{ID: "sub_1", CustomerID: "cus_1", Plan: "pro", Start: instant, BillingDay: 1, CreatedAt: instant}, audit()))
	ok(t, r.PutChanges(ctx, "sub_1", []subscription.Change{{ID: "sch_1", At: instant, Kind: subscription.Pause, CreatedAt: instant}}, time.Time{}, audit()))
	c := store.Close{SubscriptionID: "sub_1", Period: period.Interval{Start: instant, End: instant.AddDate(0, 1, 0)}, ClosedAt: instant}
	_, err := r.BeginClose(ctx, c)
	ok(t, err)
	_, err = r.FinishClose(ctx, c, store.Issue{Invoice: &invoice.Invoice{
		ID: "inv_1", CustomerID: "cus_1", SubscriptionID: "sub_1", Plan: "pro", Status: invoice.Draft, Currency: usd, Period: c.Period,
		Total: money.NewAmount(2000, usd),
		Lines: []invoice.Line{{
			ID: "iln_1", Number: 1, Kind: invoice.FlatLine, Price: "platform", Period: c.Period,
			Quantity: money.FromInt(1), Exact: money.FromInt(20), Rounded: money.NewAmount(2000, usd),
		}},
	}}, instant)
	ok(t, err)
	epoch, err := r.BeginEpoch(ctx, 1, "boot", instant)
	ok(t, err)
	_, err = r.DrawLeases(ctx, 1, epoch, "boot", []store.Draw{{CounterKey: store.CounterKey{CustomerID: "cus_1", Meter: "calls", Window: period.Day}, Want: 5, Ceiling: 9}})
	ok(t, err)
}

func TestReopenKeepsAll(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "odd name?#%41 ü", "records.db")
	ok(t, os.Mkdir(filepath.Dir(path), 0o700))
	r := mustOpen(t, path)
	populate(t, r)
	ok(t, r.Close())
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 || files[0].Name() != "records.db" {
		t.Fatalf("a closed store leaves %v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}

	r = mustOpen(t, path)
	ctx := t.Context()
	inv, err := r.Invoice(ctx, "inv_1")
	if err != nil || inv.Number != 1 || len(inv.Lines) != 1 || inv.Total.String() != "20.00" {
		t.Fatalf("invoice %+v, %v", inv, err)
	}
	epoch, err := r.BeginEpoch(ctx, 1, "boot", instant)
	if err != nil || epoch != uint32(instant.Unix())+1 {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	if open, err := r.OpenLeases(ctx, 1, epoch); err != nil || len(open) != 1 || open[0].Charged != 5 {
		t.Fatalf("open leases %+v, %v", open, err)
	}
}

// The pragmas that the promises rest on, on every connection.
func TestPragmas(t *testing.T) {
	t.Parallel()
	r := mustOpen(t, filepath.Join(t.TempDir(), "records.db"))
	for _, c := range []struct {
		db    *sql.DB
		query string
		want  string
	}{
		{r.writer, "PRAGMA journal_mode", "wal"},
		{r.writer, "PRAGMA synchronous", "2"},
		{r.writer, "PRAGMA foreign_keys", "1"},
		{r.writer, "PRAGMA busy_timeout", "10000"},
		{r.reader, "PRAGMA query_only", "1"},
		{r.reader, "PRAGMA busy_timeout", "10000"},
		{r.reader, "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0 AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose_%'", "0"},
	} {
		var got string
		if err := c.db.QueryRowContext(t.Context(), c.query).Scan(&got); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.query, got, err, c.want)
		}
	}
}

// Whoever opens the file with SQLite meets the triggers.
func TestWhatIsImmutableRefusesSQL(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.db")
	populate(t, mustOpen(t, path))
	db, err := sql.Open("sqlite", path)
	ok(t, err)
	t.Cleanup(func() { ok(t, db.Close()) })
	for _, statement := range []string{
		"UPDATE invoices SET total_minor = 1",
		"DELETE FROM invoices",
		"INSERT OR REPLACE INTO invoices SELECT * FROM invoices",
		"INSERT OR REPLACE INTO invoices (number, id, customer_id, subscription_id, plan, status, currency, period_start, period_end, total_minor, catalog_version, tz_version, position, finalized_at) SELECT 2, id, customer_id, subscription_id, plan, status, currency, period_start, period_end, 1, catalog_version, tz_version, position, finalized_at FROM invoices",
		"INSERT INTO invoices (number, id, customer_id, subscription_id, plan, status, currency, period_start, period_end, total_minor, catalog_version, tz_version, position, finalized_at) SELECT 3, 'inv_3', customer_id, subscription_id, plan, status, currency, period_start, period_end, 1, catalog_version, tz_version, position, finalized_at FROM invoices",
		"UPDATE invoice_lines SET exact = '1'",
		"DELETE FROM invoice_lines",
		"INSERT OR REPLACE INTO invoice_lines SELECT * FROM invoice_lines",
		"INSERT OR REPLACE INTO invoice_lines (invoice_id, number, id, kind, price, meter, period_start, period_end, quantity, exact, rounded_minor) SELECT 'inv_2', number, id, kind, price, meter, period_start, period_end, quantity, exact, 1 FROM invoice_lines",
		"INSERT INTO invoice_lines (invoice_id, number, id, kind, price, meter, period_start, period_end, quantity, exact, rounded_minor) VALUES ('inv_1', 2, 'iln_2', 'flat', 'p', '', 0, 1, '1', '1', 100)",
		"UPDATE catalogs SET source = x'00'",
		"DELETE FROM catalogs",
		"INSERT OR REPLACE INTO catalogs SELECT * FROM catalogs",
		"INSERT INTO catalogs SELECT 3, source, digest, applied_at, applied_by FROM catalogs",
		"UPDATE subscription_changes SET at = 0",
		"DELETE FROM subscription_changes",
		"INSERT OR REPLACE INTO subscription_changes SELECT * FROM subscription_changes",
		"UPDATE closes SET done = 0",
		"UPDATE audits SET actor = 'nobody'",
		"DELETE FROM audits",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "immutable") && !strings.Contains(err.Error(), "without a gap") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// TestSubscriptionsOfOlderRecords: an end that was known before there were changes still keeps the next one out, and in.
func TestSubscriptionsOfOlderRecords(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.db")
	r := mustOpen(t, path)
	audit := func(id string) store.Audit { return store.Audit{ID: id, Time: instant} }
	ok(t, r.PutCustomer(t.Context(), account.Customer{ID: "cus_1", Key: "acme", Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD"), CreatedAt: instant}, audit("aud_1")))
	ended := account.Subscription{ID: "sub_1", CustomerID: "cus_1", Plan: "pro", Start: instant, End: instant.Add(time.Hour), BillingDay: 1, CreatedAt: instant}
	ok(t, r.PutSubscription(t.Context(), ended, audit("aud_2")))
	dir, err := fs.Sub(migrations, "migrations")
	ok(t, err)
	p, err := goose.NewProvider(goose.DialectSQLite3, r.writer, dir, goose.WithDisableGlobalRegistry(true))
	ok(t, err)
	_, err = p.DownTo(t.Context(), 10)
	ok(t, err)
	ok(t, r.Close())
	r = mustOpen(t, path)
	if s, err := r.Subscription(t.Context(), "sub_1"); err != nil || s != ended {
		t.Errorf("%+v, %v", s, err)
	}
	if c, err := r.Customer(t.Context(), "acme"); err != nil || c.Billing != (account.BillingDetails{}) {
		t.Errorf("%+v, %v", c, err)
	}
	next := ended
	next.ID, next.End, next.Start = "sub_2", time.Time{}, ended.End.Add(-1000)
	if err := r.PutSubscription(t.Context(), next, audit("aud_3")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("into the old one: %v", err)
	}
	next.Start = ended.End
	ok(t, r.PutSubscription(t.Context(), next, audit("aud_4")))
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.db")
	r := mustOpen(t, path)
	_, err := r.writer.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
	ok(t, err)
	ok(t, r.Close())
	before, err := os.ReadFile(path)
	ok(t, err)
	_, err = Open(t.Context(), path)
	if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "schema version 99, this program knows up to ") || !strings.Contains(err.Error(), path) {
		t.Fatalf("open: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Fatalf("the refused file was changed: %v", err)
	}
}

func TestForeignAndDamagedFiles(t *testing.T) {
	t.Parallel()
	populated := filepath.Join(t.TempDir(), "records.db")
	r := mustOpen(t, populated)
	populate(t, r)
	ok(t, r.Close())
	sound, err := os.ReadFile(populated)
	ok(t, err)
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	db, err := sql.Open("sqlite", foreign)
	ok(t, err)
	_, err = db.ExecContext(t.Context(), "CREATE TABLE invoices (id)")
	ok(t, err)
	ok(t, db.Close())
	theirs, err := os.ReadFile(foreign)
	ok(t, err)
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"text":            {[]byte(strings.Repeat("this is no database\n", 100)), "not a database"},
		"another program": {theirs, "another program"},
		"cut short":       {sound[:len(sound)/2], ""},
		"zeroed pages":    {append(bytes.Clone(sound[:4096]), make([]byte, len(sound)-4096)...), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "records.db")
			ok(t, os.WriteFile(path, c.content, 0o600))
			_, err := Open(t.Context(), path)
			if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("open: %v", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, c.content) {
				t.Fatalf("the file was changed: %v", err)
			}
		})
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "no", "folder.db")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("open without a folder: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	storetest.OnSmallDisk(t, 2<<20, func(t *testing.T, dir string) {
		r := mustOpen(t, filepath.Join(dir, "records.db"))
		populate(t, r)
		stored := 0
		for ; ; stored++ {
			err := r.PutSetting(t.Context(), fmt.Sprint("s", stored), strings.Repeat("x", 10_000))
			if errors.Is(err, store.ErrFull) {
				break
			}
			ok(t, err)
			if stored > 1000 {
				t.Fatal("the disk never gets full")
			}
		}
		if _, err := r.BeginEpoch(t.Context(), 2, "boot", instant); err != nil && !errors.Is(err, store.ErrFull) {
			t.Fatalf("a small write on a full disk: %v", err)
		}
		for i := range stored + 1 {
			got, err := r.Setting(t.Context(), fmt.Sprint("s", i))
			if err != nil || (got != "") != (i < stored) {
				t.Fatalf("setting %d of %d: %d bytes, %v", i, stored, len(got), err)
			}
		}
	})
}

func TestNoRoomToCreate(t *testing.T) {
	storetest.OnSmallDisk(t, 4<<10, func(t *testing.T, dir string) {
		if _, err := Open(t.Context(), filepath.Join(dir, "records.db")); !errors.Is(err, store.ErrFull) {
			t.Fatalf("open on a full disk: %v", err)
		}
	})
}

// A caller that went away takes its write back, and the store stays usable.
func TestCanceledWrite(t *testing.T) {
	t.Parallel()
	r := mustOpen(t, filepath.Join(t.TempDir(), "records.db"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.PutSetting(ctx, "a", "b"); !errors.Is(err, context.Canceled) {
		t.Fatalf("put: %v", err)
	}
	got, err := r.Setting(t.Context(), "a")
	if err != nil || got != "" {
		t.Fatalf("setting %q, %v", got, err)
	}
	ok(t, r.PutSetting(t.Context(), "a", "b"))
}

func BenchmarkDrawLeases(b *testing.B) {
	for _, n := range []int{1, 20} {
		b.Run(fmt.Sprint(n, " draws"), func(b *testing.B) {
			r := mustOpen(b, filepath.Join(b.TempDir(), "records.db"))
			epoch, err := r.BeginEpoch(b.Context(), 1, "boot", instant)
			ok(b, err)
			draws := make([]store.Draw, n)
			for i := range draws {
				draws[i] = store.Draw{CounterKey: store.CounterKey{CustomerID: fmt.Sprint("cus_", i), Meter: "calls", Window: period.Day}, Want: 1, Ceiling: 1 << 60}
			}
			for b.Loop() {
				if _, err := r.DrawLeases(b.Context(), 1, epoch, "boot", draws); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestSenders(t *testing.T) {
	t.Parallel()
	sendertest.Producers(t, scratch)
	sendertest.Gateways(t, scratch)
	sendertest.Allowances(t, scratch)
	sendertest.Notices(t, scratch)
	sendertest.Nodes(t, scratch)
	sendertest.Refunds(t, scratch)
	sendertest.Subscriptions(t, scratch)
}

func TestSeals(t *testing.T) {
	t.Parallel()
	sealtest.Seals(t, scratch)
}

// TestForgottenKeyIsGone looks for the bytes of a deleted key in the files.
func TestForgottenKeyIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustOpen(t, filepath.Join(dir, "records.db"))
	key := [32]byte([]byte("the key of one person, 32 bytes."))
	_, err := r.SubjectKeys(t.Context(), []string{"a", "b"}, [][32]byte{key, {1}})
	ok(t, err)
	held := func() (found bool) {
		for _, name := range []string{"records.db", "records.db-wal"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			ok(t, err)
			found = found || bytes.Contains(b, key[:])
		}
		return found
	}
	if !held() {
		t.Fatal("the key is not in the files to begin with")
	}
	ok(t, r.ForgetSubject(t.Context(), "a"))
	if held() {
		t.Error("the key is still in the files")
	}
}

// TestMoneyIsImmutable alters what was posted behind the store's back.
func TestMoneyIsImmutable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.db")
	r := mustOpen(t, path)
	populate(t, r)
	ctx := t.Context()
	usd := func(n int64) money.Amount { return money.NewAmount(n, money.MustCurrency("USD")) }
	e, err := ledger.OfPayment(ledger.Payment{ID: "pay_1", CustomerID: "cus_1", Amount: usd(5), Receivable: usd(0), At: instant})
	ok(t, err)
	standing := invoice.Standing{
		InvoiceID: "inv_1", CustomerID: "cus_1", Turn: 1, Status: invoice.Finalized, Total: usd(2000), Applied: usd(0), Paid: usd(0), Credited: usd(0), CreditedDue: usd(0), At: instant,
	}
	m := store.Movement{
		Entries: []ledger.Entry{e}, Payment: &store.Payment{ID: "pay_1", Kind: store.PaymentIn, CustomerID: "cus_1", Amount: usd(5), Applied: usd(0), ReceivedAt: instant, CreatedAt: instant},
		CreditNote: &store.CreditNote{ID: "crn_1", InvoiceID: "inv_1", CustomerID: "cus_1", Net: usd(1), Tax: usd(0), Total: usd(1), Off: usd(0), CreatedAt: instant, Lines: []store.CreditNoteLine{{LineID: "iln_1", Net: usd(1), Tax: usd(0)}}},
	}
	if have, err := r.Standings(ctx, []string{"inv_1"}); err != nil || len(have) == 0 { // else the driver posted it
		m.Standing = &standing
	}
	ok(t, r.Move(ctx, m, store.Audit{ID: "aud_money", Time: instant}))
	for _, statement := range []string{
		"UPDATE ledger_entries SET reference = 'x'", "DELETE FROM ledger_entries", "INSERT OR REPLACE INTO ledger_entries SELECT * FROM ledger_entries",
		"UPDATE ledger_postings SET minor = minor + 1", "DELETE FROM ledger_postings", "INSERT OR REPLACE INTO ledger_postings SELECT * FROM ledger_postings",
		"INSERT INTO ledger_entries (id, key, kind, customer_id, reference, at) VALUES ('led_x', 'x', 'payment', 'cus_1', '', 0)",
		"UPDATE invoice_standings SET paid = 1", "DELETE FROM invoice_standings", "INSERT OR REPLACE INTO invoice_standings SELECT * FROM invoice_standings",
		"UPDATE payments SET amount = 1", "DELETE FROM payments", "INSERT OR REPLACE INTO payments SELECT * FROM payments",
		"UPDATE credit_notes SET net = 5", "DELETE FROM credit_notes", "INSERT OR REPLACE INTO credit_notes SELECT * FROM credit_notes",
		"UPDATE credit_note_lines SET net = 5", "DELETE FROM credit_note_lines", "INSERT OR REPLACE INTO credit_note_lines SELECT * FROM credit_note_lines",
	} {
		if _, err := r.writer.ExecContext(ctx, statement); err == nil || !strings.Contains(err.Error(), "immutable") && !strings.Contains(err.Error(), "balances") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	ledgertest.Suite(t, scratch)
}

func TestLeaders(t *testing.T) {
	t.Parallel()
	storetest.Leaders(t, func(t *testing.T) (one, other store.Leaders) {
		r := mustOpen(t, filepath.Join(t.TempDir(), "records.db"))
		return r, r
	})
}
