package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server stands at the border to HTTP: it keeps what is sent by id, as the real one does.
type server struct {
	mu     sync.Mutex // guards all below
	stored map[string]string
	calls  int
	failAt int // the call that fails, and all after it; 0: none
}

func (s *server) send(_ context.Context, body []byte) ([]Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls++; s.failAt > 0 && s.calls >= s.failAt {
		return nil, errors.New("the server is away")
	}
	if s.stored == nil {
		s.stored = map[string]string{}
	}
	var out []Outcome
	for line := range strings.Lines(string(body)) {
		var e struct{ ID, Source string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ID == "" || e.Source == "" {
			out = append(out, Outcome{Status: "rejected", Rule: "must be an event", Fix: "mend it"})
			continue
		}
		was, known := s.stored[e.ID]
		switch {
		case !known:
			s.stored[e.ID] = line
			out = append(out, Outcome{Status: "accepted", ID: e.ID})
		case was == line:
			out = append(out, Outcome{Status: "duplicate", ID: e.ID})
		default:
			out = append(out, Outcome{Status: "conflict", ID: e.ID, Rule: "is taken", Fix: "take another", Digest: "a", Stored: "b"})
		}
	}
	return out, nil
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func event(id int) string {
	return fmt.Sprintf(`{"specversion":"1.0","source":"s","type":"t","id":"%d"}`+"\n", id)
}

func events(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.WriteString(event(i))
	}
	return b.String()
}

func TestLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := "\ufeff" + events(0, 1500) + "\n  \r\nrubbish\r\n{\"specversion\":\"1.0\",\"type\":\"x\",\"source\":\"s\",\"id\":\"3\"}\n{\"id\":\"" + strings.Repeat("x", 70_000) + "\"}\n" + `{"id":"` + strings.Repeat("y", 65_600) + "\"}\n" + strings.TrimSpace(events(7, 8))
	plain := write(t, filepath.Join(dir, "events.ndjson"), text)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte(text))
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	gz := write(t, filepath.Join(dir, "events.ndjson.gz"), packed.String())
	packed.Reset()
	zs, err := zstd.NewWriter(&packed, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	_, err = zs.Write([]byte(text))
	if err := errors.Join(err, zs.Close()); err != nil {
		t.Fatal(err)
	}
	zst := write(t, filepath.Join(dir, "events.ndjson.zst"), packed.String())
	s := &server{}
	var rejects []byte
	for i, path := range []string{plain, plain, gz, zst} {
		var notes bytes.Buffer
		r := Run{Path: path, Rejects: filepath.Join(dir, "rejects"), Parallel: 3, Send: s.send, Notes: &notes}
		got, err := r.Do(t.Context())
		want := Counts{Accepted: 1500, Duplicate: 1, Conflict: 1, Rejected: 3}
		if i > 0 {
			want = Counts{Duplicate: 1501, Conflict: 1, Rejected: 3}
		}
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Fatalf("%s: %v %s", path, err, d)
		}
		b, err := os.ReadFile(filepath.Join(dir, "rejects"))
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && !bytes.Equal(b, rejects) {
			t.Errorf("%s: other rejects:\n%s", path, b)
		}
		rejects = b
		if !strings.Contains(notes.String(), path+":1503: rejected: must be an event; mend it\n") || !strings.Contains(notes.String(), path+`:1504: conflict: event "3": is taken (this one is a, the stored one b); take another`) {
			t.Errorf("notes: %s", notes.String())
		}
		if _, err := os.Stat(path + stateSuffix); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the state is left: %v", err)
		}
	}
	const want = `{"line":1503,"status":"rejected","rule":"must be an event","fix":"mend it"}
{"line":1504,"status":"conflict","id":"3","rule":"is taken","fix":"take another","digest":"a","stored_digest":"b"}
{"line":1505,"status":"rejected","rule":"an event has at most 65536 bytes, this one has more","fix":"send less data with it"}
{"line":1506,"status":"rejected","rule":"an event has at most 65536 bytes, this one has 65609","fix":"send less data with it"}
`
	if d := cmp.Diff(want, string(rejects)); d != "" {
		t.Error(d)
	}
}

// TestResume: a run that was cut off goes on where outcomes are known, with all counts and rejects as if nothing had happened.
func TestResume(t *testing.T) {
	t.Parallel()
	for _, table := range []bool{false, true} {
		t.Run(fmt.Sprint("table ", table), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, text := filepath.Join(dir, "in"), strings.Replace(events(0, 9500), event(4200), event(4200)+"rubbish\n", 1)
			var m *Mapping
			newMapping := func() *Mapping { return m }
			if table {
				text = strings.ReplaceAll(strings.ReplaceAll(text, `{"specversion":"1.0","source":"s","type":"t","id":"`, `"`), `"}`, `",1`)
				text = "key,n\n" + strings.Replace(text, "rubbish", `"a"b,1`, 1)
				newMapping = func() *Mapping {
					m, err := ParseMapping("id=key,data.n=n", "t", "s")
					if err != nil {
						t.Fatal(err)
					}
					return m
				}
			}
			write(t, path, text)
			s := &server{failAt: 6}
			run := func() (Counts, string, error) {
				var notes bytes.Buffer
				r := Run{Path: path, Mapping: newMapping(), Parallel: 2, Rejects: filepath.Join(dir, "rejects"), Send: s.send, Notes: &notes}
				c, err := r.Do(t.Context())
				return c, notes.String(), err
			}
			_, _, err := run()
			if err == nil || !strings.Contains(err.Error(), "the server is away") || !strings.Contains(err.Error(), "run the same command again") {
				t.Fatal(err)
			}
			sent := len(s.stored)
			s.failAt, s.calls = 0, 0
			c, notes, err := run()
			if err != nil || !strings.Contains(notes, "going on at byte ") {
				t.Fatalf("%v, %s", err, notes)
			}
			if c.Accepted+c.Duplicate != 9500 || c.Rejected != 1 || s.calls > 6 || sent < 4000 || len(s.stored) != 9500 {
				t.Errorf("%+v, %d calls, %d sent before, %d stored", c, s.calls, sent, len(s.stored))
			}
			b, err := os.ReadFile(filepath.Join(dir, "rejects"))
			line := 4202
			if table {
				line++
			}
			if err != nil || strings.Count(string(b), "\n") != 1 || !strings.HasPrefix(string(b), fmt.Sprintf(`{"line":%d,`, line)) {
				t.Errorf("rejects: %s, %v", b, err)
			}
			// The same again, but the file changes in between.
			s.failAt, s.calls = 6, 0
			if _, _, err := run(); err == nil {
				t.Fatal("it went through")
			}
			write(t, path, strings.Replace(text, "17", "71", 1))
			s.failAt, s.calls = 0, 0
			c, notes, err = run()
			if err != nil || !strings.Contains(notes, "has changed since") || c.Accepted+c.Duplicate+c.Conflict != 9500 {
				t.Errorf("%+v %s %v", c, notes, err)
			}
		})
	}
}

func TestRestartAndStdinsPlace(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "in"), events(0, 5000))
	s := &server{failAt: 4}
	r := Run{Path: path, Parallel: 1, Send: s.send, Notes: &bytes.Buffer{}}
	if _, err := r.Do(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("outcomes are known up to byte %d (line 3000) of %s;", len(events(0, 3000)), path)) {
		t.Fatal(err)
	}
	s.failAt = 0
	var notes bytes.Buffer
	var drawn int
	r = Run{Path: path, Parallel: 1, Restart: true, Send: s.send, Notes: &notes, Progress: func(taken, size, events int64, end bool) {
		drawn++
		if end && (taken != size || events != 5000) {
			t.Errorf("%d of %d bytes, %d events", taken, size, events)
		}
	}}
	c, err := r.Do(t.Context())
	if err != nil || c != (Counts{Accepted: 2000, Duplicate: 3000}) || notes.Len() > 0 || drawn != 6 {
		t.Errorf("%+v, %v, %s, drawn %d times", c, err, notes.String(), drawn)
	}
}

func TestFilesThatAreNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mapping, err := ParseMapping("id=id,data.n=n", "t", "s")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "missing"): "no such file",
		dir:                           "is a folder",
		write(t, filepath.Join(dir, "a.gz"), "x"):                                               "it is not gzip",
		write(t, filepath.Join(dir, "a.zst"), "xxxxxxxxx"):                                      "it is not zstd",
		write(t, filepath.Join(dir, "a.csv"), ""):                                               "line 1: it has no header line",
		write(t, filepath.Join(dir, "b.csv"), "id,m\n1,2\n"):                                    `line 1: there is no column "n" for data.n; the header has id, m`,
		write(t, filepath.Join(dir, "c.csv"), "id,n,n\n1,2,3\n"):                                `line 1: column "n", which is for data.n, stands twice`,
		write(t, filepath.Join(dir, "d.csv"), "\"id,n\n1,2\n"):                                  "line 1: ",
		write(t, filepath.Join(dir, "e.csv"), "id,n\n1,2\n\"3,"+strings.Repeat("\n4,5", 1<<19)): "e.csv:3: a row has more than 1048576 bytes",
	} {
		r := Run{Path: name, Parallel: 1, Send: (&server{}).send, Notes: &bytes.Buffer{}}
		if Table(name) {
			r.Mapping = mapping
		}
		if _, err := r.Do(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func TestAnswersThatFitNot(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "in"), events(0, 2))
	for want, told := range map[string][]Outcome{
		"too few":        {{Status: "accepted"}},
		"too many":       {{Status: "accepted"}, {Status: "accepted"}, {Status: "accepted"}},
		`outcome "lost"`: {{Status: "accepted"}, {Status: "lost"}},
	} {
		r := Run{Path: path, Parallel: 1, Notes: &bytes.Buffer{}, Send: func(context.Context, []byte) ([]Outcome, error) { return told, nil }}
		if c, err := r.Do(t.Context()); err == nil || !strings.Contains(err.Error(), want) || c != (Counts{}) {
			t.Errorf("%s: %v, %+v", want, err, c)
		}
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"[############............]  50% of 20 MB, 10 MB, 40000 events, 5000 kB/s, 20000 events/s, 2s left": bar(10_000_000, 20_000_000, 40_000, 2*time.Second),
		"[........................]   0% of 5 B, 0 B, 0 events, 0 B/s, 0 events/s, ? left":                  bar(0, 5, 0, 0),
		"9999 B, 3 events, 9999 B/s, 3 events/s":                                                            bar(9999, 0, 3, time.Second),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if Terminal(&bytes.Buffer{}) {
		t.Error("a buffer is no terminal")
	}
	now := time.Unix(0, 0)
	var out bytes.Buffer
	draw := NewBar(&out, func() time.Time { return now })
	draw(1, 2, 1, false)
	now = now.Add(redraw)
	draw(1, 2, 1, false)
	draw(2, 2, 2, true)
	if strings.Count(out.String(), "\r") != 2 || !strings.HasSuffix(out.String(), "\n") {
		t.Errorf("%q", out.String())
	}
}

// TestFirstComesFirst: of events with one identity the first in the file counts, however many batches are under way.
func TestFirstComesFirst(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 12 {
		text.WriteString(strings.Replace(event(1_000_000), `"t"`, fmt.Sprintf(`"t%d"`, i), 1) + events(i*1000, i*1000+999))
	}
	path := write(t, filepath.Join(t.TempDir(), "in"), text.String())
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		hastened := func(ctx context.Context, body []byte) ([]Outcome, error) {
			if bytes.Contains(body, []byte(`"t0"`)) {
				<-time.After(time.Second) // all that can overtake it does
			}
			return s.send(ctx, body)
		}
		r := Run{Path: path, Parallel: ParallelMax, Send: hastened, Notes: &bytes.Buffer{}}
		c, err := r.Do(t.Context())
		if err != nil || c.Conflict != 11 || !strings.Contains(s.stored["1000000"], `"t0"`) {
			t.Errorf("%+v, %v, stored %s", c, err, s.stored["1000000"])
		}
	})
}
