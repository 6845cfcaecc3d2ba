//go:build kafka

// Package kafka_test runs the journal against a real Apache Kafka. run.sh finds the jars.
package kafka_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/journaltest"
	"github.com/tallystick/tallystick/internal/store/kafka"
)

// The variables that make this binary a process that writes.
const (
	envURL  = "TALLY_TEST_KAFKA_URL"
	envDir  = "TALLY_TEST_KAFKA_DIR"
	envName = "TALLY_TEST_KAFKA_NAME"
)

func open(ctx context.Context, url, dir string) (*kafka.Journal, error) {
	cfg, err := kafka.ParseURL(url)
	if err != nil {
		return nil, err
	}
	cfg.File = file.Config{Dir: dir}
	return kafka.Open(ctx, cfg)
}

func entry(id string) store.Entry {
	return store.Entry{
		Event:       meter.Event{Source: "s", ID: id, Type: "request", Subject: "acme", Time: time.UnixMicro(1_772_366_400_000_000), Data: []byte(`{"n":1}`)},
		Origin:      meter.Reported,
		Resolutions: []meter.Resolution{{CustomerID: "cus_acme", Meter: "calls", CatalogVersion: 1, Value: money.MustDecimal("1")}},
	}
}

// write is a process that appends for ever and prints what was acknowledged. What fails with an unknown outcome it sends again.
func write() {
	ctx := context.Background()
	j, err := open(ctx, os.Getenv(envURL), os.Getenv(envDir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for n := 0; ; n++ {
		b := store.Batch{Producer: "p", ReceivedAt: time.UnixMicro(1_772_366_400_000_000)}
		for i := range 20 {
			b.Entries = append(b.Entries, entry(fmt.Sprintf("%s-%d-%d", os.Getenv(envName), n, i)))
		}
		results, err := j.Append(ctx, b)
		for errors.Is(err, store.ErrUnknown) {
			results, err = j.Append(ctx, b)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for i, r := range results {
			fmt.Println(b.Entries[i].Event.ID, r.Position)
		}
	}
}

// writer is such a process.
type writer struct {
	cmd   *exec.Cmd
	mu    sync.Mutex
	acked map[string]string // id: position
	more  chan struct{}
	done  chan struct{}
}

func startWriter(t *testing.T, url, dir, name string) *writer {
	t.Helper()
	w := &writer{cmd: exec.Command(os.Args[0]), acked: map[string]string{}, more: make(chan struct{}, 1), done: make(chan struct{})}
	w.cmd.Env = append(os.Environ(), envURL+"="+url, envDir+"="+dir, envName+"="+name)
	w.cmd.Stderr = os.Stderr
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.cmd.Process.Kill() })
	go func() {
		defer close(w.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if id, position, ok := strings.Cut(lines.Text(), " "); ok {
				w.mu.Lock()
				w.acked[id] = position
				w.mu.Unlock()
				select {
				case w.more <- struct{}{}:
				default:
				}
			}
		}
	}()
	return w
}

// reach waits until so many events more are acknowledged.
func (w *writer) reach(t *testing.T, more int) {
	t.Helper()
	w.mu.Lock()
	want := len(w.acked) + more
	w.mu.Unlock()
	late := time.NewTimer(60 * time.Second)
	defer late.Stop()
	for {
		w.mu.Lock()
		have := len(w.acked)
		w.mu.Unlock()
		if have >= want {
			return
		}
		select {
		case <-w.more:
		case <-w.done:
			t.Fatal("the process that writes ended")
		case <-late.C:
			t.Fatalf("%d of %d events were acknowledged in a minute", have, want)
		}
	}
}

func (w *writer) kill() {
	_ = w.cmd.Process.Signal(syscall.SIGKILL)
	<-w.done
	_ = w.cmd.Wait()
}

// TestConformance runs the journal's suite on the broker.
func TestConformance(t *testing.T) {
	b := theBroker(t)
	journaltest.Run(t, func(t *testing.T, dir string) store.Journal {
		t.Helper()
		h := fnv.New64()
		_, _ = h.Write([]byte(dir))
		j, err := open(context.Background(), b.url(fmt.Sprintf("journal-%x", h.Sum64())), dir)
		if err != nil {
			t.Fatal(err)
		}
		return j
	})
}

// TestKilled kills the broker and the processes that write, by SIGKILL. What was acknowledged is there, on every replica at the
// position that was told, and no event is there twice.
func TestKilled(t *testing.T) {
	b := theBroker(t)
	url := b.url("killed")
	dirs := []string{t.TempDir(), t.TempDir()}
	acked := map[string]string{}
	collect := func(w *writer) {
		for id, position := range w.acked {
			acked[id] = position
		}
	}
	for round := range 2 {
		one := startWriter(t, url, dirs[0], fmt.Sprintf("one-%d", round))
		two := startWriter(t, url, dirs[1], fmt.Sprintf("two-%d", round))
		one.reach(t, 200)
		two.reach(t, 200)
		if round == 0 {
			b.restart(t)
			one.reach(t, 200) // the same processes go on
			two.reach(t, 200)
		}
		one.kill()
		two.reach(t, 100)
		two.kill()
		collect(one)
		collect(two)
	}
	var last string
	for i, dir := range append(dirs, t.TempDir()) {
		j, err := open(t.Context(), url, dir)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]string{}
		page := store.Page{Next: "-"}
		for cursor := ""; page.Next != ""; cursor = page.Next {
			if page, err = j.Scan(t.Context(), store.Scan{Cursor: cursor, Limit: 1000}); err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Records {
				if seen[r.Event.ID] != "" {
					t.Errorf("replica %d: event %s is there twice", i, r.Event.ID)
				}
				seen[r.Event.ID] = fmt.Sprint(r.Position)
			}
		}
		missing := 0
		for id, position := range acked {
			if seen[id] != position {
				missing++
			}
		}
		s := j.Stats()
		all := fmt.Sprintf("position %d, %d events", s.Position, s.Events)
		t.Logf("replica %d: %s, %d acknowledged, %d of them missing", i, all, len(acked), missing)
		if missing > 0 || len(seen) != s.Events || last != "" && last != all {
			t.Errorf("replica %d differs", i)
		}
		last = all
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestThroughput tells how many events a second one process appends, acknowledged by the broker and applied.
func TestThroughput(t *testing.T) {
	b := theBroker(t)
	j, err := open(t.Context(), b.url("speed"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const callers, batches, size = 8, 10, 1000
	begin := time.Now()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range batches {
				b := store.Batch{Producer: "p", ReceivedAt: time.UnixMicro(1_772_366_400_000_000)}
				for i := range size {
					b.Entries = append(b.Entries, entry(fmt.Sprintf("%d-%d-%d", c, n, i)))
				}
				if _, err := j.Append(t.Context(), b); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	t.Logf("%d callers, batches of %d: %d events in %s, %.0f a second", callers, size, callers*batches*size, took.Round(time.Millisecond), callers*batches*size/took.Seconds())
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}
