package servers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store/pgtest"
)

// load sends calls without pause until stop, and counts what became of them.
type load struct {
	w      *world
	token  string
	client *http.Client
	stopIt context.CancelFunc
	insist bool // sends events again
	wg     sync.WaitGroup

	events, reads, made, held, ended, looks, admitted atomic.Int64

	mu       sync.Mutex
	failures []string
}

func (w *world) load() (*load, context.Context) {
	w.t.Helper()
	var at struct{ Token string }
	b := readFile(w.t, filepath.Join(w.dir, "client.json"))
	if err := json.Unmarshal(b, &at); err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	l := &load{w: w, token: at.Token, stopIt: stop, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	w.t.Cleanup(func() { stop(); l.wg.Wait(); l.client.CloseIdleConnections() })
	return l, ctx
}

func (l *load) end() {
	l.stopIt()
	l.wg.Wait()
}

func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Sprintf(format, args...))
}

// send makes one call. It is not ended by stop: whoever began gets an answer.
func (l *load) send(method, at, secret, body, contentType string) (status int, text []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, at, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// worker calls again and again.
func (l *load) worker(ctx context.Context, what string, every time.Duration, once func(i int) (status int, text []byte, err error), good *atomic.Int64) {
	l.wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			began := time.Now()
			status, text, err := once(i)
			if err != nil || status < 200 || status > 299 {
				l.fail("%s %d at %s after %v: %d %v %.300s", what, i, began.Format("15:04:05.000000"), time.Since(began).Round(time.Millisecond), status, err, text)
				continue
			}
			good.Add(1)
		}
	})
}

// api has calls that write and read through the balancer.
func (l *load) api(ctx context.Context, customer string) {
	for n := range 3 {
		l.worker(ctx, "event", 5*time.Millisecond, func(i int) (int, []byte, error) {
			e := fmt.Sprintf(`{"specversion":"1.0","id":"e-%d-%d","source":"test","type":"request","subject":%q}`, n, i, customer)
			for began := time.Now(); ; { // an event has an identity: it is sent until it is answered
				status, text, err := l.send(http.MethodPost, l.w.balancer.URL+"/v1/events", l.token, e, "application/cloudevents+json")
				if !l.insist || err == nil && status < 300 || time.Since(began) > patience {
					return status, text, err
				}
			}
		}, &l.events)
	}
	l.worker(ctx, "read", 5*time.Millisecond, func(int) (int, []byte, error) {
		return l.send(http.MethodGet, l.w.balancer.URL+"/v1/customers/"+customer, l.token, "", "")
	}, &l.reads)
	l.worker(ctx, "create", 20*time.Millisecond, func(i int) (int, []byte, error) {
		return l.send(http.MethodPost, l.w.balancer.URL+"/v1/customers", l.token, fmt.Sprintf(`{"key":"made-%d"}`, i), "application/json")
	}, &l.made)
}

// requests go through a gateway.
func (l *load) requests(ctx context.Context, door, secret string) {
	l.worker(ctx, "request", 5*time.Millisecond, func(int) (int, []byte, error) {
		return l.send(http.MethodGet, door+"/hello", secret, "", "")
	}, &l.admitted)
}

// reservations are made, and ended somewhat later: then another server may lead. Each is settled with 1 of the 2 that it reserved.
func (l *load) reservations(ctx context.Context, customer string) {
	const behind = 20
	var open []string
	at := l.w.balancer.URL + "/v1/reservations"
	l.worker(ctx, "reservation", 20*time.Millisecond, func(i int) (int, []byte, error) {
		if i%2 == 0 {
			status, text, err := l.send(http.MethodPost, at, l.token, fmt.Sprintf(`{"customer":%q,"meter":"api_calls","cost":"2","ttl_s":600}`, customer), "application/json")
			var made struct{ ID string }
			if err == nil && json.Unmarshal(text, &made) == nil && status < 300 {
				open = append(open, made.ID)
			}
			return status, text, err
		}
		if len(open) <= behind {
			return http.StatusOK, nil, nil
		}
		id := open[0]
		open = open[1:]
		status, text, err := l.send(http.MethodPost, at+"/"+id+"/settle", l.token, `{"cost":"1"}`, "application/json")
		if err == nil && status < 300 {
			l.ended.Add(1)
		}
		return status, text, err
	}, &l.held)
	_, text, err := l.send(http.MethodPost, at, l.token, fmt.Sprintf(`{"customer":%q,"meter":"api_calls","ttl_s":600}`, customer), "application/json")
	var long struct{ ID string }
	if err != nil || json.Unmarshal(text, &long) != nil || long.ID == "" {
		l.fail("reservation: %v %s", err, text)
		return
	}
	for range 3 { // one is under way most of the time
		l.worker(ctx, "look", 10*time.Millisecond, func(int) (int, []byte, error) {
			return l.send(http.MethodGet, at+"/"+long.ID, l.token, "", "")
		}, &l.looks)
	}
}

// TestRollingRestart: three servers are restarted one after another while calls come in. Not one of them fails, also of those that are
// limited by what the leader has in memory only, or that end a reservation which another server made, and all that was answered is
// there afterwards.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, 1_000_000, "--drain-delay", "300ms")
	secret := w.customerOn("acme", "rated")
	w.customer("told")
	doors := []string{w.gateway("east"), w.gateway("west")}
	l, ctx := w.load()
	l.api(ctx, "told")
	w.customer("jobs")
	l.reservations(ctx, "jobs")
	for _, door := range doors {
		l.requests(ctx, door, secret)
	}
	pause(t, 500*time.Millisecond)
	led := map[string]bool{}
	for _, s := range append(w.servers, w.servers...) {
		led[w.leader().name] = true
		s.stop()
		s.start()
		s.ready()
	}
	last := w.leader() // once more the one that leads, which may be anyone
	led[last.name] = true
	last.stop()
	led[w.leader().name] = true
	last.start()
	last.ready()
	pause(t, 500*time.Millisecond)
	l.end()
	t.Logf("%d events, %d reads, %d created, %d reservations ended, %d looked at, %d requests; leaders %v", l.events.Load(), l.reads.Load(), l.made.Load(), l.ended.Load(), l.looks.Load(), l.admitted.Load(), led)
	if len(l.failures) > 0 {
		t.Errorf("%d calls failed, the first ones: %s", len(l.failures), strings.Join(l.failures[:min(5, len(l.failures))], "\n"))
		for _, s := range w.servers {
			t.Log(s.history())
		}
	}
	if said := w.balancer.said.Bytes(); len(said) > 0 {
		t.Logf("the balancer says %s", said)
	}
	if len(led) < 2 {
		t.Errorf("the lead did not move: %v", led)
	}
	if n := w.usage("told"); n != int(l.events.Load()) {
		t.Errorf("%d events were answered, %d are counted", l.events.Load(), n)
	}
	if n := w.usage("acme"); n != int(l.admitted.Load()) || int(w.calls.Load()) != n {
		t.Errorf("%d requests were answered, the upstream was called %d times, %d are counted", l.admitted.Load(), w.calls.Load(), n)
	}
	if n := w.usage("jobs"); n != int(l.ended.Load()) || n == 0 {
		t.Errorf("%d reservations were settled, %d are counted", l.ended.Load(), n)
	}
	var list struct{ Items []json.RawMessage }
	w.command(&list, "customers", "list", "--limit", "1000")
	if want := min(1000, int(l.made.Load())+3); len(list.Items) != want {
		t.Errorf("%d customers were made, %d are there", want, len(list.Items))
	}
	w.books()
}

// TestReservationAtItsServer: a server that stops answers for its reservations until its port is shut, and afterwards knows which it
// never had, or has no more.
func TestReservationAtItsServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 1000, "--drain-delay", "4s")
	w.customer("acme")
	var made struct{ ID string }
	w.command(&made, "reservations", "create", "acme", "api_calls", "5", "--ttl", "10m")
	l, _ := w.load()
	first := w.leader()
	first.signal(syscall.SIGTERM)
	eventually(t, "another one leads", func() bool {
		return slices.ContainsFunc(w.servers, func(s *server) bool { return s != first && s.leads() })
	})
	at := "/v1/reservations/" + made.ID
	if status, text, err := l.send(http.MethodPost, first.url()+at+"/settle", l.token, `{"cost":"3"}`, "application/json"); err != nil || status != http.StatusOK {
		t.Errorf("at the server that stops: %d %v %s", status, err, text)
	}
	if code, err := first.process.Wait(patient(t)); err != nil || code != 0 {
		t.Errorf("it ended with %d, %v", code, err)
	}
	if status, text, err := l.send(http.MethodGet, w.balancer.URL+at, "no token", "", ""); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a stranger's call waited: %d %v %s", status, err, text)
	}
	first.start()
	if status, text, err := l.send(http.MethodGet, w.balancer.URL+at, l.token, "", ""); err != nil || status != http.StatusNotFound {
		t.Errorf("once it has ended and its server was started again: %d %v %s", status, err, text)
	}
	if n := w.usage("acme"); n != 3 {
		t.Errorf("usage is %d, want 3", n)
	}
	w.books()
}

// TestLeaderDies: the leader is killed. Calls wait for the next one; requests go on from leases; no limit is passed.
func TestLeaderDies(t *testing.T) {
	t.Parallel()
	const limit = 2000
	w := newWorld(t, 2, limit)
	secret := w.customer("acme")
	w.customer("told")
	doors := []string{w.gateway("east"), w.gateway("west")}
	l, ctx := w.load()
	l.insist = true
	l.api(ctx, "told")
	for _, door := range doors {
		l.requests(ctx, door, secret)
	}
	pause(t, 300*time.Millisecond)
	first := w.leader()
	first.kill()
	killed, before := time.Now(), l.admitted.Load()
	second := w.leader()
	took, during := time.Since(killed), l.admitted.Load()-before
	if second == first {
		t.Fatal("the killed one leads")
	}
	if during == 0 {
		t.Error("no request was admitted from leases while nobody led")
	}
	pause(t, time.Second)
	first.start()
	first.ready()
	for l.admitted.Load() < limit && time.Since(killed) < patience/2 { // the rest of the limit
		pause(t, 20*time.Millisecond)
	}
	l.end()
	t.Logf("another one led after %v, %d requests were admitted meanwhile; %d events, %d requests, %d calls failed", took.Round(time.Millisecond), during, l.events.Load(), l.admitted.Load(), len(l.failures))
	for _, f := range l.failures { // what was under way at the leader may be lost; requests beyond the limit are denied
		under := strings.Contains(f, "leader_lost") || strings.Contains(f, "balancer:")
		denied := strings.HasPrefix(f, "request") && (strings.Contains(f, "quota_exceeded") || strings.Contains(f, "authority_unreachable"))
		if !under && !denied && !strings.HasPrefix(f, "create") {
			t.Errorf("failed: %s", f)
		}
	}
	if n := w.usage("told"); n != int(l.events.Load()) {
		t.Errorf("%d events were answered, %d are counted", l.events.Load(), n)
	}
	if n := w.usage("acme"); n > limit || n < int(l.admitted.Load()) || n != int(w.calls.Load()) {
		t.Errorf("limit %d: %d requests were answered, the upstream was called %d times, %d are counted", limit, l.admitted.Load(), w.calls.Load(), n)
	}
	w.books()
}

// TestDeposed: a leader that was stopped for longer than its lead ends when it goes on, and has written nothing.
func TestDeposed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 1000)
	first := w.leader()
	second := w.servers[0]
	if second == first {
		second = w.servers[1]
	}
	first.signal(syscall.SIGSTOP)
	eventually(t, "the other one takes the lead", second.leads)
	first.signal(syscall.SIGCONT)
	code, err := first.process.Wait(patient(t))
	if text := string(first.process.Stderr.Bytes()); err != nil || code != 1 || !strings.Contains(text, "another server has taken the lead") {
		t.Errorf("a deposed leader ended with %d, %v\n%s", code, err, text)
	}
	first.start()
	first.ready()
	if first.leads() || !second.leads() {
		t.Error("the lead went back by itself")
	}
}

// TestProbes: alive, started and ready are different things.
func TestProbes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 1000)
	for _, s := range w.servers {
		for _, path := range []string{"/healthz", "/startupz", "/readyz"} {
			if status, text := s.probe(path); status != http.StatusOK || !strings.HasPrefix(text, "ok") {
				t.Errorf("%s %s: %d %s", s.name, path, status, text)
			}
		}
	}
	leads := 0
	for _, s := range w.servers {
		status, text := s.probe("/metrics")
		if status != http.StatusOK {
			t.Fatalf("metrics: %d", status)
		}
		if strings.Contains(text, "\ntally_lead 1\n") {
			leads++
		}
	}
	if leads != 1 {
		t.Errorf("%d servers say that they lead", leads)
	}
}

// TestStandby: a second process with all roles stands by, says so, and takes over.
func TestStandby(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1000)
	secret := w.customer("acme")
	s := &server{w: w, name: "standby", dir: t.TempDir(), addr: freeAddress(t), args: []string{"--role", "all", "--gateway", freeAddress(t)}}
	s.start()
	eventually(t, "the second one stands by", func() bool {
		status, text := s.probe("/readyz")
		return status == http.StatusServiceUnavailable && text == "standing by\n"
	})
	l, _ := w.load()
	door := "http://" + s.args[3]
	if status, text, err := l.send(http.MethodGet, door+"/hello", secret, "", ""); err != nil || status != http.StatusServiceUnavailable || !strings.Contains(string(text), "stands by") {
		t.Errorf("the gateway of a standby: %d %v %s", status, err, text)
	}
	w.servers[0].stop()
	eventually(t, "the second one leads", s.leads)
	if status, text, err := l.send(http.MethodGet, door+"/hello", secret, "", ""); err != nil || status != http.StatusOK {
		t.Errorf("the gateway of the leader: %d %v %s", status, err, text)
	}
}

// TestWhatADeadLeaderLeft: what a leader decided itself and what it had leased is brought to its end when its folder is started
// again, although another one leads: the whole limit can be reached, and a reservation is charged with what it did cost.
func TestWhatADeadLeaderLeft(t *testing.T) {
	t.Parallel()
	const limit, own, later, cost = 1000, 7, 5, 3
	w := newWorld(t, 2, limit)
	secret := w.customer("acme")
	var made struct{ ID string }
	w.command(&made, "reservations", "create", "acme", "api_calls", fmt.Sprint(own))
	var open struct{ ID string }
	w.command(&open, "reservations", "create", "acme", "api_calls", "1", "--ttl", "3s")
	var last struct{ ID string }
	w.command(&last, "reservations", "create", "acme", "api_calls", fmt.Sprint(later), "--ttl", "10m")
	var ignored any
	w.command(&ignored, "reservations", "settle", made.ID, fmt.Sprint(own))
	first := w.leader()
	first.kill()
	if w.leader() == first {
		t.Fatal("the killed one leads")
	}
	l, _ := w.load()
	settle := func(cost int) (status int, text string) {
		status, body, err := l.send(http.MethodPost, w.balancer.URL+"/v1/reservations/"+last.ID+"/settle", l.token, fmt.Sprintf(`{"cost":"%d"}`, cost), "application/json")
		if err != nil {
			t.Fatal(err)
		}
		return status, string(body)
	}
	waits := make(chan bool)
	go func() {
		defer close(waits)
		if status, text := settle(cost); status != http.StatusOK || !strings.Contains(text, `"state":"settled"`) || !strings.Contains(text, `"charged":"3"`) {
			t.Errorf("a reservation that waits for its server: %d %s", status, text)
		}
	}()
	pause(t, time.Second)
	first.start()
	<-waits
	if status, text := settle(cost); status != http.StatusOK {
		t.Errorf("settled again: %d %s", status, text)
	}
	if status, text := settle(cost + 1); status != http.StatusConflict || !strings.Contains(text, "reservation_ended") {
		t.Errorf("settled otherwise: %d %s", status, text)
	}
	if _, err := first.process.Stderr.Until(patient(t), func(text []byte) bool {
		return strings.Contains(string(text), "its spool is shipped, its leases are closed")
	}); err != nil {
		t.Fatalf("%v\n%s", err, first.process.Stderr.Bytes())
	}
	door := w.gateway("east")
	admitted := 0
	for {
		status, text, err := l.send(http.MethodGet, door+"/hello", secret, "", "")
		if err != nil || status != http.StatusOK && status != http.StatusTooManyRequests {
			t.Fatalf("%d %v %s", status, err, text)
		}
		if status == http.StatusTooManyRequests {
			break
		}
		admitted++
	}
	if want := limit - own - 1 - later; admitted != want {
		t.Errorf("%d requests were admitted, want %d: all but what was reserved", admitted, want)
	}
	if want, n := limit-later+cost, w.usage("acme"); n != want {
		t.Errorf("usage is %d, want %d", n, want)
	}
	w.books()
}

// TestDatabaseRestarts: PostgreSQL goes away for a moment and comes back. A lead that nobody took goes on; where it moved, the one
// that lost it ends and is started again, as a supervisor does. Calls work again.
func TestDatabaseRestarts(t *testing.T) {
	t.Parallel()
	db := pgtest.Start(t, pgtest.Config{Fsync: true})
	w := newWorldOn(t, db.Database(t), 2, 1000)
	secret := w.customer("acme")
	door := w.gateway("east")
	l, _ := w.load()
	admit := func() int {
		status, _, err := l.send(http.MethodGet, door+"/hello", secret, "", "")
		if err != nil {
			return 0
		}
		return status
	}
	eventually(t, "a request is admitted", func() bool { return admit() == http.StatusOK })
	if err := db.Stop(patient(t), "immediate"); err != nil {
		t.Fatal(err)
	}
	if status := admit(); status != http.StatusOK {
		t.Errorf("while the database is away a request that a lease covers is %d", status)
	}
	pause(t, 2*time.Second)
	if err := db.Resume(patient(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "calls work again", func() bool {
		for _, s := range w.servers {
			select {
			case <-s.process.Ended():
				t.Logf("%s is started again: %s", s.name, lastLine(s.process.Stderr.Bytes()))
				s.start()
			default:
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.balancer.URL+"/v1/customers", strings.NewReader(`{"key":"later"}`))
		if err != nil {
			return false
		}
		req.Header.Set("Authorization", "Bearer "+l.token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := l.client.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode < 300 || resp.StatusCode == http.StatusConflict
	})
	w.books()
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
