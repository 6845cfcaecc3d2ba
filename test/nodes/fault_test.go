package nodes_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	gatewaysRun = 3
	kinds       = 6  // of faults
	connections = 64 // of each gateway, all with one key
)

// load keeps 64 connections to each gateway busy, whatever becomes of it.
type load struct {
	w      *world
	secret string
	stop   chan struct{}
	wg     sync.WaitGroup

	mu       sync.Mutex // guards all below
	answered map[string]bool
	twice    int
	lost     int            // requests without an answer
	codes    map[string]int // of all others
	denied   map[string]int // 429 in a row, by gateway
}

func (w *world) load(secret string) *load {
	l := &load{w: w, secret: secret, stop: make(chan struct{}), answered: map[string]bool{}, codes: map[string]int{}, denied: map[string]int{}}
	for _, g := range w.gates {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}, Timeout: patience}
		w.t.Cleanup(client.CloseIdleConnections)
		for range connections {
			l.wg.Go(func() { l.work(g, client) })
		}
	}
	return l
}

func (l *load) work(g *gate, client *http.Client) {
	for {
		rest := time.Duration(0)
		if g.at() == "" {
			rest = 20 * time.Millisecond
		} else {
			status, event, code, err := g.ask(client, l.secret)
			rest = l.note(g, status, event, code, err)
		}
		select {
		case <-l.stop:
			return
		case <-time.After(rest):
		}
	}
}

// note counts an answer, and says how long to wait before the next request.
func (l *load) note(g *gate, status int, event, code string, err error) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.lost++
		l.denied[g.name] = 0
		return 20 * time.Millisecond
	case status == http.StatusOK:
		if l.answered[event] {
			l.twice++
		}
		l.answered[event] = true
		l.denied[g.name] = 0
		return 0
	case status == http.StatusTooManyRequests:
		l.denied[g.name]++
	default:
		l.denied[g.name] = 0
	}
	l.codes[code]++
	return 10 * time.Millisecond
}

func (l *load) ok() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.answered)
}

// exhausted says whether every gateway refuses for good.
func (l *load) exhausted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.w.gates {
		if l.denied[g.name] < 3*connections {
			return false
		}
	}
	return true
}

func (l *load) fresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.denied)
}

func (l *load) end() {
	close(l.stop)
	l.wg.Wait()
}

// TestFaults is the run of the acceptance: three gateways, 64 connections each on one key with a hard limit; gateways are killed
// and restarted, paused, and cut off from the server. What is admitted never passes the limit; when all are back exactly the limit
// is reachable; the books balance.
func TestFaults(t *testing.T) {
	t.Logf("-rounds %d -seed %d -limit %d", *rounds, *seed, *limit)
	random := rand.New(rand.NewPCG(*seed, 3))
	w := newWorld(t, gatewaysRun)
	for round := range *rounds {
		w.round(round, random)
		if t.Failed() {
			t.FailNow()
		}
	}
}

func (w *world) round(round int, random *rand.Rand) {
	w.t.Helper()
	began := time.Now()
	customer := fmt.Sprintf("customer-%d", round+1)
	secret := w.customer(customer, "limited")
	l := w.load(secret)
	fired := map[string]int{}
	var story []string
	for n := 0; *quiet == false && n < kinds || *quiet == false && l.ok() < *limit*6/10 && n < 40; n++ {
		pause(w.t, time.Duration(100+random.IntN(200))*time.Millisecond)
		what, name := w.fault(round, n, random)
		fired[name]++
		story = append(story, fmt.Sprintf("%s at %d", what, l.ok()))
		if ok, calls := l.ok(), w.upstream.count(customer); max(ok, calls) > *limit {
			w.t.Errorf("round %d: %d were answered, the upstream was called %d times, with a limit of %d", round+1, ok, calls, *limit)
		}
	}
	l.fresh()
	eventually(w.t, "every gateway to refuse for good", l.exhausted)
	l.end()
	eventually(w.t, "every gateway to be connected", w.connected)
	usage := w.books(customer)
	calls := w.upstream.count(customer)
	w.t.Logf("round %2d: %s; %s", round+1, counts(fired), strings.Join(story, ", "))
	w.t.Logf("round %2d: answered %d, without an answer %d, upstream %d, usage %d of %d, other answers %s, %.1f s",
		round+1, len(l.answered), l.lost, calls, usage, *limit, counts(l.codes), time.Since(began).Seconds())
	if usage != *limit || max(calls, len(l.answered)) > *limit || l.twice > 0 || usage < calls {
		w.t.Errorf("round %d: usage %d, answered %d (%d twice), upstream %d, limit %d", round+1, usage, len(l.answered), l.twice, calls, *limit)
	}
	if over := usage - len(l.answered); over > l.lost {
		w.t.Errorf("round %d: %d were charged without an answer, but only %d had none", round+1, over, l.lost)
	}
}

func counts(m map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s ×%d", k, m[k]))
	}
	return strings.Join(out, " ")
}

// fault does one and mends it.
func (w *world) fault(round, n int, random *rand.Rand) (what, name string) {
	w.t.Helper()
	g := w.gates[random.IntN(len(w.gates))]
	long := time.Duration(200+random.IntN(1500)) * time.Millisecond
	kind := random.IntN(kinds)
	if n < kinds {
		kind = (n + round) % kinds // each at least once
	}
	switch kind {
	case 0:
		g.kill()
		g.start()
		g.ready()
		return "kill -9 " + g.name, "kill"
	case 1:
		g.signal(syscall.SIGSTOP)
		pause(w.t, long)
		g.signal(syscall.SIGCONT)
		return fmt.Sprintf("pause %s %v", g.name, long), "pause"
	case 2, 3:
		m := []mode{refuse, swallow}[kind-2]
		g.proxy.set(m)
		pause(w.t, long)
		if random.IntN(3) == 0 { // it comes back while it is cut off
			g.kill()
			g.proxy.set(pass)
			g.start()
			g.ready()
			return fmt.Sprintf("%s %s %v, then kill -9", m, g.name, long), m.String() + "+kill"
		}
		g.proxy.set(pass)
		return fmt.Sprintf("%s %s %v", m, g.name, long), m.String()
	}
	if kind == 4 {
		g.proxy.set(delay)
		pause(w.t, long)
		g.proxy.set(pass)
		return fmt.Sprintf("delay %s %v", g.name, long), "delay"
	}
	w.stop(syscall.SIGKILL)
	pause(w.t, long/2) // gateways go on within their leases
	w.serve()
	return fmt.Sprintf("kill -9 server %v", long/2), "server"
}
