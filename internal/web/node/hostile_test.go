package node_test

import (
	"bufio"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/node"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// TestLyingDraws: what no gateway of ours says of counters and shares does not get to the authority.
func TestLyingDraws(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := w.gateway(w.token("east"))
	epoch := g.begin(holding{})
	now := w.now().UnixMicro()
	counter := store.CounterKey{CustomerID: "cus_1", Meter: "api_calls"}
	bucket := authority.Ask{Counter: counter, Kind: quota.TokenBucket, Limits: []string{"burst"}, Rate: 1, Per: 1, Burst: 1}
	with := func(change func(d *authority.Draw, a *authority.Ask)) wire.Draw {
		d := authority.Draw{Node: 77, Epoch: epoch, CustomerID: "cus_1", Now: now, Asks: []authority.Ask{bucket}}
		change(&d, &d.Asks[0])
		return wire.DrawOf(d)
	}
	for name, in := range map[string]wire.Draw{
		"share of negative time": with(func(_ *authority.Draw, a *authority.Ask) { a.Per = -1 }),
		"share of no time":       with(func(_ *authority.Draw, a *authority.Ask) { a.Per = 0 }),
		"negative rate":          with(func(_ *authority.Draw, a *authority.Ask) { a.Rate = -1 }),
		"negative burst":         with(func(_ *authority.Draw, a *authority.Ask) { a.Burst = math.MinInt64 }),
		"negative need":          with(func(_ *authority.Draw, a *authority.Ask) { a.Need = -1 }),
		"negative want":          with(func(_ *authority.Draw, a *authority.Ask) { a.Want = -1 }),
		"negative spent":         with(func(_ *authority.Draw, a *authority.Ask) { a.Spent = -5 }),
		"negative open":          with(func(_ *authority.Draw, a *authority.Ask) { a.Open = -5 }),
		"a window of next week":  with(func(_ *authority.Draw, a *authority.Ask) { a.Counter.Start = now + 7*24*3600e6 }),
		"a clock ahead":          with(func(d *authority.Draw, _ *authority.Ask) { d.Now = now + 3600e6 }),
		"before time":            with(func(d *authority.Draw, _ *authority.Ask) { d.Now = -1 }),
		"a long scope":           with(func(_ *authority.Draw, a *authority.Ask) { a.Counter.Scope = strings.Repeat("x", 1<<16) }),
		"many limits":            with(func(_ *authority.Draw, a *authority.Ask) { a.Limits = make([]string, 1000) }),
		"a long user":            with(func(_ *authority.Draw, a *authority.Ask) { a.Whose.User = strings.Repeat("x", 1<<16) }),
		"many asks":              with(func(d *authority.Draw, _ *authority.Ask) { d.Asks = make([]authority.Ask, 1000) }),
	} {
		if status, text := w.post(g, wire.PathDraw, in); status != 422 || !strings.Contains(text, wire.CodeInvalid) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if len(w.stub.draws) != 0 {
		t.Errorf("the authority was asked: %+v", w.stub.draws)
	}
	fine := with(func(d *authority.Draw, _ *authority.Ask) { d.Now -= 300e6 }) // 5 minutes behind
	if status, text := w.post(g, wire.PathDraw, fine); status != 200 || len(w.stub.draws) != 1 || w.stub.draws[0].Node != 2 {
		t.Errorf("a gateway that is behind, and lies about its number: %d %s, %+v", status, text, w.stub.draws)
	}
	for name, b := range map[string]authority.Back{
		"negative spent": {Spent: -1}, "negative keep": {Keep: -1}, "negative debt": {Debt: math.MinInt64, Rate: 1, Per: 1, Burst: 1},
		"negative time": {Per: -1}, "no time": {Rate: 1}, "negative loss": {WrittenOff: -1}, "negative share before": {Had: -1},
	} {
		b.Counter = counter
		if status, text := w.post(g, wire.PathReturn, wire.Return{Epoch: epoch, Backs: wire.BacksOf([]authority.Back{b})}); status != 422 {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if len(w.stub.backs) != 0 {
		t.Errorf("the authority was told: %+v", w.stub.backs)
	}
}

// TestOthersNames: a token is good for its own gateway alone: another's batch, session and answers are refused.
func TestOthersNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	east, west := w.gateway(w.token("east")), w.gateway(w.token("west"))
	east.begin(holding{})
	west.begin(holding{})
	if status, text := w.post(east, wire.PathBatches, store.Batch{Node: west.joined.Node, Epoch: 1, First: 1, Last: 1}); status != 422 || !strings.Contains(text, wire.CodeRefused) {
		t.Errorf("a batch as another: %d %s", status, text)
	}
	if status, _ := w.post(east, wire.PathBeat, wire.State{Session: "made up", Epoch: 1}); status != 404 {
		t.Errorf("a beat of no session: %d", status)
	}
	for name, st := range map[string]wire.State{"negative": {Lag: -1}, "long": {Version: strings.Repeat("v", 1<<16)}} {
		if status, _ := w.post(east, wire.PathBeat, st); status != 422 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _ := w.post(east, wire.PathJoin, wire.Join{Protocol: wire.Protocol, Public: make([]byte, 32), Version: strings.Repeat("v", 1<<16)}); status != 422 {
		t.Errorf("a long version: %d", status)
	}
}

// TestRevokedStream: the stream of a revoked gateway ends, also of one that goes on reading, and nothing is told on it any more.
func TestRevokedStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	token := w.token("east")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.http.URL+wire.PathStream+"?epoch=0&revision=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := w.nodes.Revoke(t.Context(), "operator", "east", ""); err != nil {
		t.Fatal(err)
	}
	began, lines := time.Now(), bufio.NewScanner(resp.Body)
	for lines.Scan() {
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it ended after %v", took)
	}
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("again: %v, %v", resp, err)
	}
}

// TestHugeBodies: the server reads no more than it has set aside, whatever a gateway sends.
func TestHugeBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := w.gateway(w.token("east"))
	g.begin(holding{})
	for name, path := range map[string]string{"draw": wire.PathDraw, "batch": wire.PathBatches} {
		body := `{"Asks":[` + strings.Repeat("{},", 1<<19) + `{}],"Entries":[]}`
		if status, text := w.post(g, path, rawJSON(body)); status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s of many elements: %d %s", name, status, text)
		}
	}
	// Bodies that are announced and do not come take their room, and no more.
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	begin := func() string {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.http.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n{", wire.PathBatches, g.token, wire.BatchMax)
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		line, _ := bufio.NewReader(c).ReadString('\n')
		return line
	}
	if a, b := begin(), begin(); a != "" || b != "" {
		t.Errorf("the first ones: %q, %q", a, b)
	}
	if line := begin(); !strings.Contains(line, "503") {
		t.Errorf("one too many: %q", line)
	}
	other := w.gateway(w.token("west"))
	if epoch := other.begin(holding{}); epoch == 0 {
		t.Error("the other gateway has no epoch")
	}
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "room again", func() bool {
		status, _ := w.post(g, wire.PathReturn, wire.Return{Epoch: g.Subkey().Epoch})
		return status == http.StatusOK
	})
}

type rawJSON string

func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }

// TestElements counts what the decoder would make.
func TestElements(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		``: 0, `{}`: 0, `[]`: 1, `[1,2,3]`: 3, `{"a":[{},{"b":[1,2]}],"c":"[,,,]","d\"[,":1}`: 4, `[[],[],[]]`: 6, `"\\",[1,1]`: 2, `]]],,,`: 0, `"\`: 0,
	} {
		if got := wire.Elements([]byte(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// TestClocksAreHeardOf: a connected gateway's clock is told of with its beats, unless it is so far ahead that it gets no leases.
func TestClocksAreHeardOf(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // guards told
	told := map[time.Time]bool{}
	w := newWorld(t, func(c *node.Config) {
		c.Clock = func(now time.Time) {
			mu.Lock()
			defer mu.Unlock()
			told[now] = true
		}
	})
	g := w.gateway(w.token("east"))
	heard := func(at time.Time) bool {
		mu.Lock()
		defer mu.Unlock()
		return told[at]
	}
	wrong, ahead := w.now().Add(wire.AheadMax+time.Hour), w.now().Add(3*time.Minute)
	g.with(func() { g.clock = wrong })
	eventually(t, "a beat", func() bool { return w.node.List()[0].Skew > wire.AheadMax })
	g.with(func() { g.clock = ahead })
	eventually(t, "the clock that is ahead", func() bool { return heard(ahead) })
	if heard(wrong) {
		t.Error("a clock that gets no leases was told of")
	}
}
