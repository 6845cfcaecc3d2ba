package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

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
func (s *server) openDoors() error {
	var peers []netip.Prefix
	for _, p := range s.DoorPeers {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return fmt.Errorf("--door-peers: %q is not a network such as 10.0.0.0/8", p)
		}
		peers = append(peers, prefix)
	}
	if s.DoorToken != "" && len(s.DoorToken) < doorTokenMin {
		return fmt.Errorf("--door-token: at least %d characters", doorTokenMin)
	}
	var err error
	s.doors, err = doors.New(doors.Config{
		Limiter: s.enforce, Catalog: s.govern.Current, Log: s.log, Now: realNow, Peers: peers, Token: s.DoorToken,
	})
	return err
}

// withDoors puts the door in front of the API's mux: its questions are many, and take the short way.
func (s *server) withDoors(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) > 7 && r.URL.Path[:7] == "/doors/" {
			s.doors.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

func (s *server) doorLoops(ctx context.Context, g *errgroup.Group) {
	s.every(ctx, g, "doors", doorsEvery, s.doors.Tick)
}

// closeDoors charges what nobody told the cost of.
func (s *server) closeDoors() error {
	if s.doors == nil {
		return nil
	}
	if err := s.doors.Close(); err != nil {
		return errors.Join(errors.New("doors"), err)
	}
	return nil
}

// doorCollector reads the door's counters at each scrape.
type doorCollector struct{ s *server }

func (c *doorCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *doorCollector) Collect(ch chan<- prometheus.Metric) {
	if c.s.doors == nil {
		return
	}
	st := c.s.doors.Stats()
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
