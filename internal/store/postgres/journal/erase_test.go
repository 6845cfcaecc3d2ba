package journal_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/postgres/journal"
)

func commit(subject string, position uint64, head, payload []byte) ([32]byte, error) {
	return sha256.Sum256(fmt.Appendf(nil, "%s %d %q %q", subject, position, head, payload)), nil
}

func keeping(t *testing.T, forget func(subject string, came bool)) *journal.Journal {
	t.Helper()
	return keepingIn(t, database(t), forget)
}

func keepingIn(t *testing.T, dsn string, forget func(subject string, came bool)) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{
		URL: dsn, Unsafe: true, Commit: commit, Forget: func(_ context.Context, subject string, came func() (bool, error)) error {
			c, err := came()
			forget(subject, c)
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func leaves(t *testing.T, j store.Journal) (all []store.Leaf) {
	t.Helper()
	if _, err := j.Leaves(t.Context(), 1, 10_000, func(l store.Leaf) error {
		l.Head, l.Payload, l.Document = bytes.Clone(l.Head), bytes.Clone(l.Payload), bytes.Clone(l.Document)
		if l.Commitment != nil {
			l.Commitment = new(*l.Commitment)
		}
		all = append(all, l)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// work does some of everything.
func work(t *testing.T, j store.Journal) {
	t.Helper()
	ctx := t.Context()
	b := batch(0, 6, 2)
	b.Entries[4].Event.Data = []byte(`{"n":1}`)
	b.Entries[5].Resolutions = nil
	b.Totals = []store.AdmittedTotal{{CustomerID: "cus_1", Meter: "api_calls", PeriodStart: 5, Total: b.Entries[0].Resolutions[0].Value}}
	b.Node, b.Epoch, b.Signature, b.KeyID = 1, 7, []byte("signed"), "gwk_1"
	b.Marks = []store.Mark{{Source: "s", ID: "e-1", Flags: store.Incomplete}}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := j.Append(ctx, b)
	do(err)
	do(j.Cut(ctx, "cus_1", noon().Add(3*time.Second)))
	amended := usage("e-2", 1)
	amended.Event.Data = []byte(`{"n":2}`)
	_, err = j.Revise(ctx, store.Revisions{Actor: "op", Reason: "typo", At: noon(), List: []store.Revision{
		{Source: "s", ID: "e-2", Kind: store.Amend, Event: amended.Event, Resolutions: amended.Resolutions, If: store.AnyRevision},
		{Source: "s", ID: "e-3", Kind: store.Void, If: 0},
		{Source: "s", ID: "e-5", Kind: store.Resolve, Resolutions: usage("e-5", 0).Resolutions, If: store.AnyRevision},
	}})
	do(err)
	_, err = j.Seal(ctx, []byte("one"), []byte("two"))
	do(err)
	_, err = j.Append(ctx, batch(4, 4, 2))
	do(err)
}

// TestSameLeaves: the records have the bytes that the journal of files has, so that trees over both are one.
func TestSameLeaves(t *testing.T) {
	t.Parallel()
	f, err := file.Open(file.Config{Dir: t.TempDir(), Commit: commit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	p := keeping(t, func(string, bool) {})
	work(t, f)
	work(t, p)
	if diff := cmp.Diff(leaves(t, f), leaves(t, p)); diff != "" {
		t.Errorf("leaves (-file +postgres):\n%s", diff)
	}
}

// TestErase: the payloads of a subject go, everything else stays as it was, the leaves' commitments among it.
func TestErase(t *testing.T) {
	t.Parallel()
	var forgotten []string
	j := keeping(t, func(subject string, came bool) { forgotten = append(forgotten, fmt.Sprint(subject, came)) })
	work(t, j)
	before := leaves(t, j)
	var used [2]any
	usageOf := func() (u [2]any) {
		if err := j.View(t.Context(), func(v store.View) (err error) {
			for c := range u {
				if u[c], err = v.Usage(key(c), period.Interval{}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return u
	}
	used = usageOf()
	order, err := j.Erase(t.Context(), "c1", "op", "asked for", noon())
	if err != nil {
		t.Fatal(err)
	}
	after := leaves(t, j)
	if order != uint64(len(before)+1) || len(after) != len(before)+1 {
		t.Fatalf("the order is at %d of %d", order, len(after))
	}
	erased := 0
	for i, l := range before {
		want := l
		if l.Subject == "c1" {
			sum, _ := commit(l.Subject, l.Position, l.Head, l.Payload)
			want.Subject, want.Payload, want.Commitment = "", nil, &sum
			erased++
		}
		if diff := cmp.Diff(want, after[i]); diff != "" {
			t.Errorf("leaf %d (-want +got):\n%s", l.Position, diff)
		}
	}
	if erased < 3 || after[len(before)].Subject != "" {
		t.Errorf("%d payloads were erased; the order's own subject is %q", erased, after[len(before)].Subject)
	}
	if diff := cmp.Diff(used, usageOf()); diff != "" {
		t.Errorf("usage has changed:\n%s", diff)
	}
	r, err := j.Event(t.Context(), "s", "e-1")
	if err != nil || !r.Erased || r.Event.Subject != "" || len(r.Resolutions) != 1 || r.Flags != store.Incomplete {
		t.Errorf("the erased event reads %+v, %v", r, err)
	}
	if results, err := j.Append(t.Context(), batch(1, 1, 2)); err != nil || results[0].Outcome != store.Duplicate {
		t.Errorf("an erased event sent again: %v, %v", results, err)
	}
	if len(forgotten) != 1 || forgotten[0] != "c1false" || j.Erasing() != 0 {
		t.Errorf("forgotten %v, %d erasures wait", forgotten, j.Erasing())
	}
}

// TestRetain: by age, whole stretches at a time, and nothing that is too young.
func TestRetain(t *testing.T) {
	t.Parallel()
	j := keeping(t, func(string, bool) {})
	work(t, j)
	for _, one := range []struct {
		before time.Time
		more   bool
	}{{noon(), false}, {noon().Add(time.Hour), true}, {noon().Add(time.Hour), false}} {
		more, err := j.Retain(t.Context(), one.before, noon().Add(2*time.Hour))
		if err != nil || more != one.more {
			t.Fatalf("Retain before %v: %v, %v", one.before, more, err)
		}
	}
	for _, l := range leaves(t, j) {
		if len(l.Payload) > 0 {
			t.Errorf("leaf %d still has a payload", l.Position)
		}
	}
	page, err := j.Scan(t.Context(), store.Scan{SeriesKey: key(0), Limit: 10})
	if err != nil || len(page.Records) == 0 || !page.Records[0].Erased {
		t.Errorf("scan after retention: %v, %v", page, err)
	}
}

// TestRowsInParts: chunks of an erasure and stretches of retention end within rows of the log; what stands beside in the row stays.
func TestRowsInParts(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	j := keepingIn(t, dsn, func(string, bool) {})
	const old, young = 10 * 410, 150
	for from := 0; from < old; from += 410 {
		if _, err := j.Append(t.Context(), batch(from, 410, 3)); err != nil {
			t.Fatal(err)
		}
	}
	late := batch(old, young, 3)
	late.ReceivedAt = noon().Add(2 * time.Hour)
	if _, err := j.Append(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	check := func(what string, gone func(l *store.Leaf) bool) {
		t.Helper()
		for _, l := range leaves(t, j) {
			if l.ID != "" && (len(l.Payload) == 0) != gone(&l) {
				t.Fatalf("%s: event %s at %d: a payload of %d bytes", what, l.ID, l.Position, len(l.Payload))
			}
		}
	}
	before := leaves(t, j)
	if _, err := j.Erase(t.Context(), "c1", "op", "asked", noon()); err != nil {
		t.Fatal(err)
	}
	ofOne := func(l *store.Leaf) bool { return before[l.Position-1].Subject == "c1" }
	check("erased", ofOne)
	for _, want := range []bool{true, false} {
		if more, err := j.Retain(t.Context(), noon().Add(time.Hour), noon().Add(time.Hour)); more != want || err != nil {
			t.Fatalf("retain: %t, %v", more, err)
		}
	}
	check("retained", func(l *store.Leaf) bool { return ofOne(l) || l.Position <= retained })
	holds(t, j, old+young, 3)
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	var wrong int
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM journal_log WHERE size <> (SELECT sum(octet_length(b)) FROM unnest(bodies) AS b)").Scan(&wrong); err != nil || wrong > 0 {
		t.Errorf("%d rows of the log have another size than they say, %v", wrong, err)
	}
}

// retained is how many positions one erasure by age covers.
const retained = 4000

// TestLargeRecords: more data than is read at once is read, and erased, in several turns.
func TestLargeRecords(t *testing.T) {
	t.Parallel()
	j := keeping(t, func(string, bool) {})
	data := append(append([]byte(`"`), bytes.Repeat([]byte("x"), 1<<20-2)...), '"')
	for i := range 12 {
		b := batch(i, 1, 1)
		b.Entries[0].Event.Data = data
		if _, err := j.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, j, 12, 1)
	if _, err := j.Erase(t.Context(), "c0", "op", "asked", noon()); err != nil {
		t.Fatal(err)
	}
	erased := 0
	for _, l := range leaves(t, j) {
		if l.ID != "" && l.Commitment != nil && l.Payload == nil {
			erased++
		}
	}
	if erased != 12 {
		t.Errorf("%d of 12 records were erased", erased)
	}
}
