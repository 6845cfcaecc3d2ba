package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestKill kills the server with kill -9 under a burst on 64 connections, again and again on the same folder: with all of
// them waiting for the upstream, with the limit almost used up, and soon after the start, when leases are fresh.
func TestKill(t *testing.T) {
	t.Parallel()
	t.Logf("-rounds %d -seed %d", *rounds, *seed)
	random := rand.New(rand.NewPCG(*seed, 1))
	w := newWorld(t, filepath.Join(t.TempDir(), "data"))
	w.ready()
	var c *customer
	customers := 0
	for round := range *rounds {
		if c == nil {
			customers++
			c = w.customer(fmt.Sprintf("customer-%d", customers), "limited")
		}
		began, before := time.Now(), len(c.answered)
		fault := w.killOnce(c, round, random)
		usage := w.audit(c, false)
		t.Logf("round %3d: %s; answered %d, usage %d of %d, upstream %d, %d ms", round+1, fault, len(c.answered)-before, usage, dailyLimit,
			w.upstream.count(c.key), time.Since(began).Milliseconds())
		if round%2 == 1 || round == *rounds-1 {
			w.exhaust(c)
			c = nil
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// killOnce is one fault: a burst, a kill in the middle, perhaps another one during the restart, and a restart. It says what it was.
func (w *world) killOnce(c *customer, round int, random *rand.Rand) string {
	w.t.Helper()
	l := w.burst(c)
	var fault string
	switch round % 4 {
	case 0:
		n := 1 + random.IntN(300)
		l.until(w.t, "answers", func(k counts) bool { return k.ok >= n || k.denied > 0 })
		w.upstream.hold()
		w.upstream.until(w.t, connections)
		fault = fmt.Sprintf("kill -9 with the upstream holding %d", w.upstream.running())
		if random.IntN(3) == 0 { // the drain waits for what runs
			fault = "SIGTERM, then " + fault
			if err := w.server.Signal(syscall.SIGTERM); err != nil {
				w.t.Fatal(err)
			}
		}
	case 2:
		n := 1 + random.IntN(120)
		l.until(w.t, "answers", func(k counts) bool { return k.ok >= n })
		fault = fmt.Sprintf("kill -9 after %d answers", n)
	default:
		n := dailyLimit - random.IntN(100) - len(c.answered)
		l.until(w.t, "most of the limit", func(k counts) bool { return k.ok >= n || k.denied > 0 })
		fault = fmt.Sprintf("kill -9 near the limit, %d answered", len(c.answered)+l.so().ok)
	}
	w.kill()
	underway := l.underway()
	w.upstream.release()
	answers := l.end()
	fault += fmt.Sprintf(", %d cut off", l.counts.failed)
	if l.counts.failed == 0 {
		w.t.Errorf("round %d: no request was in flight (%d underway): %s", round+1, underway, describe(answers))
	}
	if l.counts.other+l.counts.unavailable > 0 {
		w.t.Errorf("round %d: unexpected answers: %s", round+1, describe(answers))
	}
	c.saw(w.t, answers)
	if random.IntN(2) == 0 {
		fault += ", then " + w.killDuringStart(time.Duration(random.IntN(40_000))*time.Microsecond)
	}
	args := []string{}
	if random.IntN(3) == 0 {
		args = append(args, "--spool-sync", "strict")
		fault += ", then strict"
	}
	w.ready(args...)
	return fault
}

// killDuringStart kills a restart before it is done, or just after.
func (w *world) killDuringStart(after time.Duration) string {
	w.t.Helper()
	p := w.start()
	select {
	case <-time.After(after):
	case <-p.Ended():
		w.t.Errorf("the server ended at its start: %s", p.Stderr.Bytes())
	}
	w.kill()
	return fmt.Sprintf("kill -9 of the restart after %v", after)
}

// exhaust uses the rest of the limit: neither a crash nor a drain may take any of it away, nor add to it.
func (w *world) exhaust(c *customer) {
	w.t.Helper()
	l := w.burst(c)
	l.until(w.t, "the limit to be used up", func(k counts) bool { return k.denied >= 2*connections || k.failed > 0 })
	answers := l.end()
	if l.counts.ok+l.counts.denied != len(answers) {
		w.t.Errorf("answers other than 200 and 429: %s", describe(answers))
	}
	for _, a := range answers {
		if a.status == http.StatusTooManyRequests && a.code != "quota_exceeded" {
			w.t.Errorf("refused for %s", a.code)
			break
		}
	}
	c.saw(w.t, answers)
	usage := w.audit(c, false)
	if usage != dailyLimit {
		w.t.Errorf("%s: the limit of %d ended at %d", c.key, dailyLimit, usage)
	}
}

// TestDrain ends the server with SIGTERM under a burst: what runs is answered, nothing else is taken, and the leases are
// closed to the unit.
func TestDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, filepath.Join(t.TempDir(), "data"))
	w.ready()
	c := w.customer("drained", "limited")
	l := w.burst(c)
	l.until(t, "answers", func(k counts) bool { return k.ok >= 500 })
	w.upstream.hold()
	w.upstream.until(t, connections)
	if err := w.server.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	eventually(t, "the gateway to take no more connections", func() bool {
		resp, err := fresh.Get(w.endpoint.Gateway + "/nothing")
		if err != nil {
			return true
		}
		_ = resp.Body.Close()
		return false
	})
	if n := w.upstream.running(); n != connections {
		t.Errorf("%d of %d requests are still running while the server drains", n, connections)
	}
	w.upstream.release()
	code, err := w.server.Wait(patient(t))
	if err != nil || code != 0 {
		t.Errorf("after SIGTERM: exit %d, %v\n%s", code, err, w.server.Stderr.Bytes())
	}
	answers := l.end()
	for _, a := range answers {
		if a.err != nil && !a.refused() || a.err == nil && a.status != http.StatusOK {
			t.Errorf("during the drain: %s", describe(answers))
			break
		}
	}
	t.Logf("SIGTERM with the upstream holding %d: %s", connections, describe(answers))
	c.saw(t, answers)
	w.ready()
	if usage, calls := w.audit(c, true), w.upstream.count(c.key); usage != calls {
		t.Errorf("usage is %d, the upstream was called %d times", usage, calls)
	}
	w.exhaust(c)
	if calls := w.upstream.count(c.key); calls != dailyLimit {
		t.Errorf("the upstream was called %d times, the limit is %d", calls, dailyLimit)
	}
}
