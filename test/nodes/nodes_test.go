package nodes_test

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHundred: 100 calls in turn over three gateways are exactly 100, since what is idle elsewhere is recalled before anything
// is denied.
func TestHundred(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	secret := w.customer("hundred", "hundred")
	client := &http.Client{Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	var ok, denied int
	for i := range 130 {
		status, _, code, err := w.gates[i%3].ask(client, secret)
		switch {
		case err != nil:
			t.Fatal(err)
		case status == http.StatusOK:
			ok++
		case status == http.StatusTooManyRequests && code == "quota_exceeded":
			denied++
		default:
			t.Errorf("call %d: %d %s", i+1, status, code)
		}
		if i == 99 && ok != 100 {
			t.Errorf("%d of the first 100 calls were admitted", ok)
		}
	}
	if ok != 100 || denied != 30 {
		t.Errorf("%d admitted, %d denied", ok, denied)
	}
	if usage := w.books("hundred"); usage != 100 {
		t.Errorf("usage %d", usage)
	}
}

// TestOperatorsWord: a catalog, a revoked key and a new customer are in force at the gateway within a second.
func TestOperatorsWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gates[0]
	client := &http.Client{Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	within := func(what string, status int, code string, secret func() string, change func()) {
		t.Helper()
		change()
		began := time.Now()
		eventually(t, what, func() bool {
			s, _, c, err := g.ask(client, secret())
			return err == nil && s == status && c == code
		})
		took := time.Since(began)
		t.Logf("%s: %v", what, took.Round(100*time.Microsecond))
		if took > time.Second {
			t.Errorf("%s took %v, more than a second", what, took)
		}
	}
	var made struct{ ID, Secret string }
	var ignored any
	within("a new customer is admitted", http.StatusOK, "", func() string { return made.Secret }, func() {
		w.customer("first", "limited")
		w.command(&made, "keys", "create", "first")
	})
	within("a catalog is applied", http.StatusTooManyRequests, "quota_exceeded", func() string { return made.Secret }, func() {
		w.apply(1)
		w.command(&ignored, "apply", w.catalog)
	})
	within("a key is revoked", http.StatusUnauthorized, "key_revoked", func() string { return made.Secret }, func() {
		w.command(&ignored, "keys", "revoke", made.ID)
	})
}

// TestClock: an advance returns when every gateway goes by the new time, so that the next day's quota is there at once.
// A revoked gateway's process ends.
func TestClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, "--mode", "test")
	secret := w.customer("timely", "hundred")
	client := &http.Client{Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	var ignored any
	for day := range 3 {
		for i := range 120 {
			want := http.StatusOK
			if i >= 100 {
				want = http.StatusTooManyRequests
			}
			if status, _, code, err := w.gates[i%2].ask(client, secret); err != nil || status != want {
				t.Fatalf("day %d, call %d: %d %s, %v", day, i+1, status, code, err)
			}
		}
		w.command(&ignored, "clock", "advance", "--by", "24h")
	}
	if usage := w.books("timely"); usage != 300 {
		t.Errorf("usage %d", usage)
	}
	w.command(&ignored, "gateway", "revoke", "gate-1")
	if code, err := w.gates[0].process.Wait(patient(t)); err != nil || code == 0 {
		t.Errorf("the revoked gateway ended with %d, %v", code, err)
	}
	if status, _, code, err := w.gates[1].ask(client, secret); err != nil || status != http.StatusOK {
		t.Errorf("the other one: %d %s, %v", status, code, err)
	}
}

// TestServerAway: without a server a gateway goes on within its leases, then refuses, and recovers by itself.
func TestServerAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	g := w.gates[0]
	secret := w.customer("away", "limited")
	client := &http.Client{Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	if status, _, code, err := g.ask(client, secret); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s, %v", status, code, err)
	}
	w.stop(syscall.SIGKILL)
	alone := 1
	for {
		status, _, code, err := g.ask(client, secret)
		if err != nil {
			t.Fatal(err)
		}
		if status == http.StatusOK {
			if alone++; alone > *limit {
				t.Fatal("admitted beyond the limit")
			}
			continue
		}
		if status != http.StatusServiceUnavailable || code != "authority_unreachable" {
			t.Fatalf("after the lease: %d %s", status, code)
		}
		break
	}
	t.Logf("admitted %d without the server", alone)
	began := time.Now()
	for range 20 { // the breaker spares callers the wait
		if status, _, _, err := g.ask(client, secret); err != nil || status == http.StatusOK {
			t.Fatalf("%d, %v", status, err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("20 refusals took %v", took)
	}
	w.serve()
	eventually(t, "the gateway to admit again", func() bool {
		status, _, _, err := g.ask(client, secret)
		if status == http.StatusOK {
			alone++
		}
		return err == nil && status == http.StatusOK
	})
	eventually(t, "both gateways to be connected", w.connected)
	g.stop()
	if usage := w.books("away"); usage != alone {
		t.Errorf("usage %d, answered %d", usage, alone)
	}
}

// TestDoorBeforeServer: a gateway that has no server admits nothing, says so, and begins by itself when the server is there.
func TestDoorBeforeServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gates[0]
	secret := w.customer("early", "limited")
	g.stop()
	g.proxy.set(refuse)
	g.start()
	g.proxy.set(pass)
	g.ready()
	client := &http.Client{Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	eventually(t, "a request to pass", func() bool {
		status, _, _, err := g.ask(client, secret)
		return err == nil && status == http.StatusOK
	})
	for path, want := range map[string]string{"/readyz": "ok", "/metrics": "tally_node_connected 1"} {
		resp, err := client.Get(g.api + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %v\n%s", path, err, b)
		}
	}
}
