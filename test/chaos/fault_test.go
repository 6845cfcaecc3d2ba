package chaos_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/test/fleet"
)

// fault is one that fired, and how it ends; mend is nil when it has ended.
type fault struct {
	kind, what string
	mend       func() error
}

// kind of faults. It may use the world's random numbers; long is how long it is to last.
type kind struct {
	name     string
	database bool // it needs PostgreSQL
	fire     func(w *world, long time.Duration) (what string, mend func() error, err error)
}

func kinds() []kind {
	return []kind{
		{"latency", false, func(w *world, _ time.Duration) (string, func() error, error) {
			return w.harm("latency", fmt.Sprintf(`{"latency": %d, "jitter": %d}`, 20+w.random.IntN(300), w.random.IntN(100)))
		}},
		{"reset", false, func(w *world, _ time.Duration) (string, func() error, error) {
			return w.harm("reset_peer", `{"timeout": 0}`)
		}},
		{"blackhole", false, func(w *world, _ time.Duration) (string, func() error, error) {
			return w.harm("timeout", `{"timeout": 0}`)
		}},
		{"slow", false, func(w *world, _ time.Duration) (string, func() error, error) {
			return w.harm("bandwidth", `{"rate": 8}`)
		}},
		{"cut", false, func(w *world, _ time.Duration) (string, func() error, error) {
			l := w.link()
			l.cut()
			return l.name, func() error { return l.join("") }, nil
		}},
		{"kill server", false, func(w *world, long time.Duration) (string, func() error, error) { return w.kill(w.fleet.Servers, long) }},
		{"kill gateway", false, func(w *world, long time.Duration) (string, func() error, error) {
			return w.kill(w.fleet.Gateways, long)
		}},
		{"stop server", false, func(w *world, _ time.Duration) (string, func() error, error) { return w.freeze(w.fleet.Servers) }},
		{"stop gateway", false, func(w *world, _ time.Duration) (string, func() error, error) { return w.freeze(w.fleet.Gateways) }},
		{"restart PostgreSQL", true, func(w *world, _ time.Duration) (string, func() error, error) {
			return "immediate", nil, w.database.restart(patient(w.t))
		}},
		{"fail over PostgreSQL", true, func(w *world, _ time.Duration) (string, func() error, error) {
			return "to the standby", nil, w.database.failover(patient(w.t))
		}},
		{"stop PostgreSQL", true, func(w *world, _ time.Duration) (string, func() error, error) {
			p, name := w.database.primary, "primary"
			if w.random.IntN(3) == 0 { // commits wait for it
				p, name = w.database.standby, "standby"
			}
			return name, func() error { return signal(p, syscall.SIGCONT) }, signal(p, syscall.SIGSTOP)
		}},
	}
}

// link chooses one.
func (w *world) link() *link {
	all := slices.Clone(w.gates)
	if w.database != nil {
		all = append(all, w.database.links...)
	}
	return all[w.random.IntN(len(all))]
}

func (w *world) harm(toxic, attributes string) (string, func() error, error) {
	l, direction := w.link(), []string{"upstream", "downstream", "both"}[w.random.IntN(3)]
	err := l.harm(toxic, direction, attributes)
	return l.name + " " + direction, func() error { l.heal(); return nil }, err
}

func (w *world) kill(nodes []*fleet.Node, long time.Duration) (string, func() error, error) {
	n, err := w.victim(nodes)
	if err != nil {
		return "", nil, err
	}
	return n.Name, nil, n.Kill(patient(w.t), long)
}

// victim chooses a node; of servers half the time the one that leads. One that rests after its end is waited for: what does not
// run cannot be hit.
func (w *world) victim(nodes []*fleet.Node) (*fleet.Node, error) {
	n, lead := nodes[w.random.IntN(len(nodes))], w.random.IntN(2) == 0
	for _, one := range nodes {
		if lead && leads(one) {
			n = one
		}
	}
	for ctx := patient(w.t); !n.Running(); {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s was not started again: %w", n.Name, ctx.Err())
		}
		w.wait(10 * time.Millisecond)
	}
	return n, nil
}

// leads asks a node whether it is the server that leads; one that does not answer is not.
func leads(n *fleet.Node) bool {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + n.API + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return err == nil && strings.Contains(string(text), "leading")
}

func (w *world) freeze(nodes []*fleet.Node) (string, func() error, error) {
	n, err := w.victim(nodes)
	if err != nil {
		return "", nil, err
	}
	proc := n.Process()
	return n.Name, func() error { return proc.Signal(syscall.SIGCONT) }, proc.Signal(syscall.SIGSTOP)
}

// fire does faults in turn, each for its time; now and then a second one falls into the first. It mends all, and returns them.
func (w *world) fire(round int) []fault {
	w.t.Helper()
	var all []kind
	for _, k := range kinds() {
		if (!k.database || w.database != nil) && (*only == "" || slices.Contains(strings.Split(*only, ","), k.name)) {
			all = append(all, k)
		}
	}
	if len(all) == 0 {
		w.t.Fatalf("-only %q names no kind of fault that can be had here", *only)
	}
	var fired []fault
	for n := range *faults {
		w.wait(time.Duration(100+w.random.IntN(500)) * time.Millisecond)
		long := time.Duration(200+w.random.IntN(1800)) * time.Millisecond
		if w.random.IntN(6) == 0 {
			long *= 4 // longer than a lead
		}
		now := []fault{w.one(all[(n+(round-1)**faults)%len(all)], long)} // each in its turn
		if w.random.IntN(3) == 0 && now[0].mend != nil {
			w.wait(long / 4)
			now = append(now, w.one(all[w.random.IntN(min(9, len(all)))], long/2))
		}
		if now[0].mend != nil {
			w.wait(long)
		}
		var errs []error
		for _, f := range now {
			if f.mend != nil {
				errs = append(errs, f.mend())
			}
		}
		if err := errors.Join(errs...); err != nil {
			w.t.Fatalf("a fault was not mended: %v", err)
		}
		fired = append(fired, now...)
	}
	return fired
}

func (w *world) one(k kind, long time.Duration) fault {
	w.t.Helper()
	began := time.Now()
	what, mend, err := k.fire(w, long)
	if err != nil && strings.Contains(err.Error(), "toxic already exists") {
		return fault{kind: "not fired", what: k.name + " " + what + " (has it already)"}
	}
	if err != nil {
		w.t.Fatalf("%s: %v", k.name, err)
	}
	if mend == nil && k.database {
		long = time.Since(began)
	}
	return fault{k.name, fmt.Sprintf("%s %s %.1fs", k.name, what, long.Seconds()), mend}
}
