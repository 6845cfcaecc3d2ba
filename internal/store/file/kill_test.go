package file_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

const killDir, killRound = "TALLY_TEST_KILL_DIR", "TALLY_TEST_KILL_ROUND"

// TestKilled kills a process that appends with several producers, three times on one folder. Whatever it acknowledged is
// there exactly once afterwards, and what it sent again in the next round is a duplicate.
func TestKilled(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(killDir); dir != "" {
		appendUntilKilled(t, dir, os.Getenv(killRound))
		return
	}
	dir := t.TempDir()
	acked := map[string]bool{}
	for round := range 3 {
		n := len(acked)
		for id := range killOnce(t, dir, round, 200+rand.IntN(800)) {
			acked[id] = true
		}
		if len(acked) == n {
			t.Fatal("nothing was acknowledged")
		}
		checkAcked(t, dir, acked)
	}
}

// killOnce lets a child append until it has acknowledged so many batches, kills it, and returns the acknowledged ids.
func killOnce(t *testing.T, dir string, round, batches int) map[string]bool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), killDir+"="+dir, fmt.Sprintf("%s=%d", killRound, round))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked := map[string]bool{}
	in := bufio.NewReader(out)
	for n := 0; ; n++ {
		line, err := in.ReadString('\n')
		if err != nil {
			break // what was printed before the kill has been read; a half line was not acknowledged
		}
		for id := range strings.FieldsSeq(line) {
			acked[id] = true
		}
		if n == batches {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child was not killed: %v", err)
	}
	return acked
}

func checkAcked(t *testing.T, dir string, acked map[string]bool) {
	t.Helper()
	j := open(t, file.Config{Dir: dir, SegmentBytes: 64 << 10, Checkpoint: 200})
	defer closeJournal(t, j)
	seen := map[string]int{}
	s := store.Scan{Limit: 1000}
	for {
		page, err := j.Scan(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			seen[r.Event.ID]++
		}
		if s.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	for id := range acked {
		if seen[id] != 1 {
			t.Errorf("acknowledged event %s is there %d times", id, seen[id])
		}
	}
	var all []string
	for id, n := range seen {
		if n != 1 {
			t.Errorf("event %s is there %d times", id, n)
		}
		all = append(all, id)
	}
	holds(t, j, all...)
}

// appendUntilKilled is the child: it prints the ids of each batch once Append has returned, every batch atomic, some sent twice.
func appendUntilKilled(t *testing.T, dir, round string) {
	j := open(t, file.Config{Dir: dir, SegmentBytes: 64 << 10, Checkpoint: 200})
	var wg sync.WaitGroup
	var mu sync.Mutex
	for producer := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				r := round
				if n%7 == 0 {
					r = "0" // sent by every round
				}
				var ids []string
				for i := range 1 + n%4 {
					ids = append(ids, fmt.Sprintf("%s-%d-%d-%d", r, producer, n, i))
				}
				if _, err := send(j, ids...); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				_, err := io.WriteString(os.Stdout, strings.Join(ids, " ")+"\n")
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
}
