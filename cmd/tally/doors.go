package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/web/doors"
)

// doorFlags are about the door that proxies ask at, on the API's port.
type doorFlags struct {
	DoorPeers []string `help:"Networks (CIDR) of the proxies that may ask at /doors/; default: this machine." env:"TALLY_DOOR_PEERS" placeholder:"CIDR"`
	DoorToken string   `help:"What these proxies must send as Tally-Door-Token; default: nothing." env:"TALLY_DOOR_TOKEN" placeholder:"TEXT"`
}

// doorsEvery is how often held admissions are looked at, in real time.
const doorsEvery = 250 * time.Millisecond

// doorTokenMin is the least length of a token that is worth one.
const doorTokenMin = 16

// openDoors readies the door. It answers once it is in the API's mux.
func (p *ports) openDoors(limiter *enforce.Enforcer, current func() *catalog.Compiled) error {
	peers, err := p.doorPeers()
	if err != nil {
		return err
	}
	d, err := doors.New(doors.Config{Limiter: limiter, Catalog: current, Log: p.log, Now: realNow, Peers: peers, Token: p.DoorToken})
	if err != nil {
		return err
	}
	p.doors.Store(d)
	return nil
}

// doorPeers checks the door's flags.
func (p *ports) doorPeers() ([]netip.Prefix, error) {
	peers, err := networks("--door-peers", p.DoorPeers)
	if err == nil && p.DoorToken != "" && len(p.DoorToken) < doorTokenMin {
		err = fmt.Errorf("--door-token: at least %d characters", doorTokenMin)
	}
	return peers, err
}

// withDoors puts the door in front of the API's mux: its questions are many, and take the short way.
func (p *ports) withDoors(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) > 7 && r.URL.Path[:7] == "/doors/" {
			if d := p.doors.Load(); d != nil {
				d.ServeHTTP(w, r)
			} else {
				notBegun(w)
			}
			return
		}
		rest.ServeHTTP(w, r)
	})
}

func (p *ports) doorLoops(ctx context.Context, g *errgroup.Group) {
	p.every(ctx, g, "doors", doorsEvery, p.doors.Load().Tick)
}

// closeDoors charges what nobody told the cost of.
func (p *ports) closeDoors() error {
	d := p.doors.Load()
	if d == nil {
		return nil
	}
	if err := d.Close(); err != nil {
		return fmt.Errorf("doors: %w", err)
	}
	return nil
}

// doorCollector reads the door's counters at each scrape.
type doorCollector struct{ p *ports }

func (c *doorCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *doorCollector) Collect(ch chan<- prometheus.Metric) {
	d := c.p.doors.Load()
	if d == nil {
		return
	}
	st := d.Stats()
	for _, x := range []struct {
		name, help string
		kind       prometheus.ValueType
		n          int64
	}{
		{"tally_door_checks_total", "Requests that proxies asked about.", prometheus.CounterValue, st.Asked},
		{"tally_door_refused_total", "Questions of proxies that are not trusted, or that did not say what was asked.", prometheus.CounterValue, st.Refused},
		{"tally_door_held", "Admissions that wait for what they did cost.", prometheus.GaugeValue, st.Held},
		{"tally_door_held_full_total", "Admissions charged at once because too many were held.", prometheus.CounterValue, st.Full},
		{"tally_door_expired_total", "Admissions charged in full because nobody told what they did cost.", prometheus.CounterValue, st.Expired},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), x.kind, float64(x.n))
	}
}
