package nodes_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOneTokenTwice: a second process with the token of a running gateway takes its place. The first one ends, also when it was
// stopped meanwhile; together they admit no more than the limit, and what was admitted is all there.
func TestOneTokenTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	first := w.gates[0]
	secret := w.customer("twice", "hundred")
	client := &http.Client{Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	admitted := 0
	ask := func(g *gate) bool {
		status, _, _, err := g.ask(client, secret)
		if err == nil && status == http.StatusOK {
			admitted++
			return true
		}
		return false
	}
	for range 10 {
		if !ask(first) {
			t.Fatal("refused")
		}
	}
	eventually(t, "the usage", func() bool { return w.usage("twice") == 10 })
	first.signal(syscall.SIGSTOP)
	second := &gate{w: w, name: "copy", dir: filepath.Join(t.TempDir(), "copy"), token: first.token, proxy: first.proxy}
	second.start()
	second.ready()
	for ask(second) {
	}
	first.signal(syscall.SIGCONT)
	for range 150 { // as long as it is there, on what it holds
		ask(first)
	}
	if code, err := first.process.Wait(patient(t)); err != nil || code == 0 {
		t.Errorf("the first one ended with %d, %v", code, err)
	}
	if text := string(first.process.Stderr.Bytes()); !strings.Contains(text, "another run of this gateway has begun") {
		t.Errorf("it does not say why:\n%s", text)
	}
	for ask(second) {
	}
	second.stop()
	usage := w.usage("twice")
	t.Logf("admitted %d, usage %d, upstream %d", admitted, usage, w.upstream.count("twice"))
	if admitted > 100 || w.upstream.count("twice") > 100 {
		t.Errorf("%d were admitted", admitted)
	}
	// What the first one admitted at last is in its spool, and comes when its folder is served again. Its key is an earlier one now: it
	// needs a new one.
	if err := os.Remove(filepath.Join(first.dir, "secrets", "gateway.key")); err != nil {
		t.Fatal(err)
	}
	first.start()
	first.ready()
	first.stop()
	if usage := w.usage("twice"); usage != admitted {
		t.Errorf("usage %d, admitted %d", usage, admitted)
	}
}
