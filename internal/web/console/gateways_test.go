package console_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/nodes"
	"github.com/tallystick/tallystick/internal/web/node"
)

// TestGateways: the page shows how each gateway stands, and says so when there is none.
func TestGateways(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if resp := w.call(http.MethodGet, "/gateways", nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("without a session: %d", resp.StatusCode)
	}
	w.signIn()
	if body := text(t, w.call(http.MethodGet, "/gateways", nil)); !strings.Contains(body, "There are none") || !strings.Contains(body, `href="/gateways"`) {
		t.Errorf("none: %s", body)
	}
	at := time.Date(2026, 11, 26, 18, 10, 38, 0, time.UTC)
	w.gateways = []node.Status{
		{Node: nodes.Node{Node: 2, Name: "east<b>"}, Connected: true, LastSeen: at, Epoch: 1795716472, Lag: 1234, Open: 3, Behind: 7, Skew: -12 * time.Millisecond},
		{Node: nodes.Node{Node: 3, Name: "west"}},
		{Node: nodes.Node{Node: 4, Name: "old", RevokedAt: at}},
	}
	for _, path := range []string{"/gateways", "/gateways/live"} {
		body := text(t, w.call(http.MethodGet, path, nil))
		for _, want := range []string{"east&lt;b&gt;", "connected", "26 Nov 18:10:38", "1795716472", "234<", ">7<", "-12 ms", "away", "not since", "revoked"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s has no %q: %s", path, want, body)
			}
		}
	}
}
