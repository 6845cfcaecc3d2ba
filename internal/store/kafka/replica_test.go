package kafka

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

func noon(minutes int) time.Time { return time.Date(2026, 3, 1, 12, minutes, 0, 0, time.UTC) }

func entry(id string, minute int, value string) store.Entry {
	return store.Entry{
		Event:       meter.Event{Source: "gateway/1", ID: id, Type: "request", Subject: "acme", Time: noon(minute), Data: []byte(`{"n":` + value + `}`)},
		Origin:      meter.Reported,
		Resolutions: []meter.Resolution{{CustomerID: "cus_acme", Meter: "calls", CatalogVersion: 1, Value: money.MustDecimal(value)}},
	}
}

func batch(all ...store.Entry) store.Batch {
	return store.Batch{Producer: "p", ReceivedAt: noon(30), Entries: all}
}

// salted stands for the tree's commitments.
func salted(subject string, position uint64, head, payload []byte) ([32]byte, error) {
	return sha256.Sum256(fmt.Appendf(nil, "%s %d %x %x", subject, position, head, payload)), nil
}

// picture is all that a replica tells: what must be the same on each.
type picture struct {
	Position uint64
	Leaves   []string
	Events   []store.Record
	Series   []store.Series
	Windows  [][]store.Window
	Tallies  []string
	History  []store.Revised
}

func pictureOf(t *testing.T, j store.Journal) (p picture) {
	t.Helper()
	ctx := context.Background()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(j.View(ctx, func(v store.View) error {
		p.Position, p.Series = v.Position(), v.Series()
		for _, s := range p.Series {
			w, err := v.Windows(s.SeriesKey, period.Interval{})
			if err != nil {
				return err
			}
			p.Windows = append(p.Windows, w)
			reported, err := v.Reported(s.SeriesKey, period.Interval{})
			if err != nil {
				return err
			}
			voided, err := v.Voided(s.SeriesKey, period.Interval{})
			if err != nil {
				return err
			}
			admitted, err := v.Admitted(s.SeriesKey, 7)
			if err != nil {
				return err
			}
			p.Tallies = append(p.Tallies, reported.String(), voided.String(), admitted.String())
		}
		return nil
	}))
	_, err := j.Leaves(ctx, 1, 1<<30, func(l store.Leaf) error {
		sum, _ := salted(l.Subject, l.Position, l.Head, l.Payload) // the same before and after it was erased
		if l.Commitment != nil {
			sum = *l.Commitment
		}
		p.Leaves = append(p.Leaves, fmt.Sprintf("%d %x %x", l.Position, l.Head, sum))
		return nil
	})
	check(err)
	for cursor := ""; ; {
		page, err := j.Scan(ctx, store.Scan{Cursor: cursor, Limit: 1000})
		check(err)
		p.Events = append(p.Events, page.Records...)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(p.Events) > 0 {
		e := p.Events[0].Event
		p.History, err = j.History(ctx, e.Source, e.ID)
		check(err)
	}
	return p
}

func same(t *testing.T, what string, want, got picture) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b money.Decimal) bool { return a.Equal(b) })); d != "" {
		t.Errorf("%s: −want +got:\n%s", what, d)
	}
}

// TestReplicas has two processes write at the same time, all kinds of commands, events of the same identities among them. Both,
// and a third one that is made from the topic afterwards, must end equal; every event is accepted once.
func TestReplicas(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	cfg := func() Config {
		cfg := config(c, "twins", t.TempDir())
		cfg.File.Commit, cfg.File.SegmentBytes = salted, 4<<10
		return cfg
	}
	a, b := open(t, cfg()), open(t, cfg())
	defer a.Close()
	defer b.Close()
	var mu sync.Mutex
	accepted := map[string]int{}
	var wg sync.WaitGroup
	for n, j := range []*Journal{a, b, a, b} {
		wg.Go(func() {
			for i := range 60 {
				own, shared := fmt.Sprintf("own-%d-%d", n, i), fmt.Sprintf("shared-%d", i)
				in := batch(entry(own, i%60, "1"), entry(shared, i%60, fmt.Sprint(1+n%2)))
				in.Node, in.Epoch, in.Totals = uint16(n), 1, []store.AdmittedTotal{{CustomerID: "cus_acme", Meter: "calls", PeriodStart: 7, Total: money.MustDecimal(fmt.Sprint(i))}}
				in.Marks = []store.Mark{{Source: "gateway/1", ID: own, Flags: store.Incomplete}}
				results, err := j.Append(t.Context(), in)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for k, r := range results {
					if r.Outcome == store.Accepted {
						accepted[in.Entries[k].Event.ID]++
					}
				}
				mu.Unlock()
				if err := every(t, j, i, n, own, shared); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if len(accepted) != 60*5 {
		t.Errorf("%d events accepted", len(accepted))
	}
	for id, n := range accepted {
		if n != 1 {
			t.Errorf("event %s was accepted %d times", id, n)
		}
	}
	for { // one compacts its files, erasures included, the other does not
		more, err := a.Compact(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
	}
	want := pictureOf(t, a)
	same(t, "the other process", want, pictureOf(t, b))
	third := open(t, cfg())
	same(t, "a folder made from the topic", want, pictureOf(t, third))
	for _, j := range []*Journal{a, b, third} {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}

// every now and then one of the rarer commands.
func every(t *testing.T, j *Journal, i, n int, own, shared string) error {
	ctx := t.Context()
	switch i % 8 {
	case 1:
		return j.Cut(ctx, "cus_acme", noon(i).Add(time.Second))
	case 2:
		_, err := j.Seal(ctx, fmt.Appendf(nil, "document %d of %d", i, n), []byte("second"))
		return err
	case 3:
		e := entry(shared, i, fmt.Sprint(10+n))
		_, err := j.Revise(ctx, store.Revisions{Actor: "a", Reason: "r", At: noon(40), List: []store.Revision{
			{Source: "gateway/1", ID: shared, Kind: store.Amend, Event: e.Event, Resolutions: e.Resolutions, If: store.AnyRevision},
			{Source: "gateway/1", ID: own, Kind: store.Void, If: store.AnyRevision},
		}})
		return err
	case 5:
		if n == 0 && i == 29 {
			_, err := j.Erase(ctx, "acme", "operator", "asked", noon(50))
			return err
		}
	}
	return nil
}

// commands reads a whole topic.
func commands(t *testing.T, cfg Config, end int64) (all []file.Command) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{cfg.Topic: {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for int64(len(all)) < end {
		for _, r := range client.PollFetches(t.Context()).Records() {
			cmd, err := c.decode(r.Value)
			if err != nil {
				t.Fatal(err)
			}
			cmd.Number = uint64(r.Offset) + 1
			all = append(all, cmd)
		}
	}
	return all
}

// script is commands whose repetition would show: amendments back and forth, documents, cuts, and calls that write nothing.
func script(t *testing.T, j *Journal) {
	t.Helper()
	ctx := t.Context()
	amend := func(value string) {
		e := entry("a", 0, value)
		if _, err := j.Revise(ctx, store.Revisions{Actor: "a", Reason: "r", At: noon(1), List: []store.Revision{
			{Source: "gateway/1", ID: "a", Kind: store.Amend, Event: e.Event, Resolutions: e.Resolutions, If: store.AnyRevision},
			{Source: "gateway/1", ID: "b", Kind: store.Amend, Event: e.Event, Resolutions: e.Resolutions, If: store.AnyRevision},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	steps := []func() error{
		func() error { _, err := j.Append(ctx, batch(entry("a", 0, "1"), entry("b", 1, "2"))); return err },
		func() error { _, err := j.Seal(ctx, []byte("one"), []byte("two")); return err },
		func() error { amend("5"); return nil },
		func() error { amend("6"); return nil },
		func() error { amend("5"); return nil },
		func() error { _, err := j.Append(ctx, batch(entry("a", 0, "1"))); return err }, // nothing new
		func() error { return j.Cut(ctx, "cus_acme", noon(7)) },
		func() error { return j.Cut(ctx, "cus_acme", noon(7)) }, // nothing new
		func() error { _, err := j.Erase(ctx, "bolt", "operator", "asked", noon(9)); return err },
		func() error { _, err := j.Seal(ctx, []byte("one")); return err },
		func() error { _, err := j.Append(ctx, batch(entry("c", 8, "3"))); return err },
		func() error { _, err := j.Append(ctx, batch(entry("c", 8, "3"))); return err }, // nothing new
		func() error { _, err := j.Append(ctx, batch(entry("c", 8, "4"))); return err }, // conflict
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

// TestKilledAnywhere takes up a folder as a kill would leave it after each number of commands: on the disk is what was applied,
// and kafka.json is as old as it can be. Nothing may be left out, and nothing applied twice.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	cfg := config(c, "killed", t.TempDir())
	cfg.File.Commit = salted
	j := open(t, cfg)
	script(t, j)
	want := pictureOf(t, j)
	end := j.Replica().Applied
	kept, err := os.ReadFile(filepath.Join(cfg.File.Dir, placeName)) // of the start
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	all := commands(t, cfg, end)
	for n := range len(all) + 1 {
		again := cfg
		again.File.Dir = t.TempDir()
		again.Create = false
		local, err := file.Open(file.Config{Dir: again.File.Dir, Commit: salted})
		if err != nil {
			t.Fatal(err)
		}
		for left := all[:n]; len(left) > 0; {
			answers, err := local.Apply(t.Context(), left)
			if err != nil {
				t.Fatal(err)
			}
			left = left[len(answers):]
		}
		if err := local.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(again.File.Dir, placeName), kept, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, again)
		same(t, fmt.Sprintf("after %d commands", n), want, pictureOf(t, j))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if n == len(all) { // and with what Close wrote down nothing is applied again
			j := open(t, again)
			if s := j.Replica(); s.Commands != 0 || s.Applied != end || s.Kept != end {
				t.Errorf("opened again: %+v", s)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCodec holds a command to what it was.
func TestCodec(t *testing.T) {
	t.Parallel()
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	e := entry("a", 3, "1.25")
	e.Event.TraceParent, e.Receipt, e.KeyID, e.Unit, e.Flags = "00-1-2-03", []byte("receipt"), "key_1", "bkf_1", store.Recovered|store.Overshoot
	e.Origin = meter.Admitted
	e.Resolutions[0].Dimensions = []meter.Dimension{{Name: "route", Value: "/x"}}
	e.Resolutions[0].Distinct = "who"
	long := e
	long.Event.ID, long.Event.Data = "long", []byte(`"`+strings.Repeat("x", 9000)+`"`)
	for name, cmd := range map[string]file.Command{
		"append": {Append: &store.Batch{
			Producer: "gateway/1", Node: 3, Epoch: 9, First: 4, Last: 8, Entries: []store.Entry{e, long}, ReceivedAt: noon(1), Atomic: true,
			Totals: []store.AdmittedTotal{{CustomerID: "c", Meter: "m", PeriodStart: -5, Total: money.MustDecimal("7.5")}},
			Marks:  []store.Mark{{Source: "s", ID: "i", Flags: store.Incomplete}}, Signature: []byte{1, 2}, KeyID: "node",
		}},
		"cut": {Cut: &file.Cut{CustomerID: "c", At: noon(7)}},
		"revise": {Revise: &store.Revisions{Actor: "a", Reason: "r", At: noon(2), List: []store.Revision{
			{Source: "s", ID: "i", Kind: store.Amend, Event: meter.Event{Source: "s", ID: "i", Type: "t", Subject: "u", Data: []byte("1"), Time: noon(0)}, Resolutions: e.Resolutions, If: store.AnyRevision},
			{Source: "s", ID: "j", Kind: store.Void, If: 0, Event: meter.Event{Source: "s", ID: "j", Time: noon(0)}},
			{Source: "s", ID: "k", Kind: store.Resolve, If: 77, Event: meter.Event{Source: "s", ID: "k", Time: noon(0)}},
		}}},
		"seal":    {Seal: [][]byte{[]byte("one"), bytes.Repeat([]byte("two"), 4000)}},
		"subject": {Order: &file.Order{Subject: "acme", Actor: "a", Reason: "r", At: noon(3)}},
		"range":   {Order: &file.Order{First: 3, Last: 9, Actor: "a", Reason: "r", At: noon(3)}},
	} {
		got, err := c.decode(c.encode(&cmd))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(cmd, got, cmp.Comparer(func(a, b money.Decimal) bool { return a.Equal(b) })); d != "" {
			t.Errorf("%s: −want +got:\n%s", name, d)
		}
	}
}

// FuzzDecode: whatever is in the topic, reading it ends, with a command or an error.
func FuzzDecode(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.close)
	b := batch(entry("a", 0, "1"))
	f.Add(c.encode(&file.Command{Append: &b}))
	f.Add(c.encode(&file.Command{Seal: [][]byte{bytes.Repeat([]byte("x"), 2000)}}))
	f.Fuzz(func(t *testing.T, value []byte) {
		cmd, err := c.decode(value)
		if err != nil {
			return
		}
		again, err := c.decode(c.encode(&cmd))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(cmd, again, cmp.Comparer(func(a, b money.Decimal) bool { return a.Equal(b) })); d != "" {
			t.Errorf("read again: %s", d)
		}
	})
}
