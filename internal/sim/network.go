package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

var errLost = errors.New("simulated: no answer")

func unreachable(err error) bool { return errors.Is(err, authority.ErrUnreachable) }

// network carries a gateway's calls to the server's handler, in the same goroutine.
type network struct {
	w *World
	g *gateway
}

// message is a call on its way.
type message struct {
	g            *gateway
	method, path string
	header       http.Header
	body         []byte
	nth          int // of its gateway's calls
}

// lost says whether a message between the server and a gateway gets lost now.
func (w *World) lost(g *gateway) bool {
	if g.cut {
		w.fired[partition]++
		return true
	}
	if w.dice.IntN(100) < g.lossy/3 {
		w.fired[loss]++
		return true
	}
	return false
}

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	w, g := n.w, n.g
	w.cross(&g.process)
	defer w.cross(&g.process)
	g.calls++
	m := &message{g: g, method: r.Method, path: r.URL.RequestURI(), header: r.Header.Clone(), nth: g.calls}
	var err error
	if m.body, err = io.ReadAll(r.Body); err != nil {
		return nil, err
	}
	w.did["calls"]++
	if g.cut {
		w.fired[partition]++
		return nil, errLost
	}
	if !w.server.alive {
		return nil, errLost
	}
	fate := 100
	if w.dice.IntN(100) < g.lossy {
		fate = w.dice.IntN(4)
	}
	switch fate {
	case 0:
		w.fire(loss, "%s %s", g.name, m.path)
		return nil, errLost
	case 1: // it arrives when nobody waits for it any more, after others
		w.fire(delay, "%s %s", g.name, m.path)
		w.late = append(w.late, m)
		return nil, errLost
	}
	resp := w.serve(m)
	if fate == 2 {
		w.fire(duplicate, "%s %s", g.name, m.path)
		resp = w.serve(m)
	}
	if fate == 3 {
		w.fire(loss, "of the answer, %s %s", g.name, m.path)
		resp = nil
	}
	if g.slow > 0 {
		w.fired[slowNode]++
		if w.passes(g.slow); g.slow > drawMax && m.path == wire.PathDraw {
			resp = nil
		}
	}
	if resp == nil {
		return nil, errLost
	}
	return resp, nil
}

// serve has the server work on a message; nil when it died in it.
func (w *World) serve(m *message) *http.Response {
	w.touched = w.touched || m.path == wire.PathBatches // others draw and give back: nothing of that is in journal or books
	if m.nth < m.g.arrived {
		w.fired[reorder]++
	}
	m.g.arrived = max(m.g.arrived, m.nth)
	answer := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(context.Background(), m.method, m.path, bytes.NewReader(m.body))
	r.Header = m.header.Clone()
	if !w.as(&w.server.process, func() { w.server.hub.ServeHTTP(answer, r) }) {
		return nil
	}
	return answer.Result()
}

// deliverLate brings one of the late messages to the server, any of them.
func (w *World) deliverLate() {
	if len(w.late) == 0 || !w.server.alive {
		return
	}
	i := w.dice.IntN(len(w.late))
	m := w.late[i]
	w.late = append(w.late[:i], w.late[i+1:]...)
	if resp := w.serve(m); resp != nil {
		w.note("late %s %s: %d", m.g.name, m.path, resp.StatusCode)
		_ = resp.Body.Close() // in memory
	}
}
