package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/web/answer"
)

// handler is the API port of one of several servers: its own probes and metrics; all else the leader's.
func (m *member) handler() http.Handler {
	mux := http.NewServeMux()
	probe := func(ok func() (string, bool)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			text, fine := ok()
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			if !fine {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprintln(w, text)
		}
	}
	mux.HandleFunc("GET /healthz", probe(func() (string, bool) { return "ok", true }))
	mux.HandleFunc("GET /readyz", probe(m.readiness))
	mux.HandleFunc("GET /startupz", probe(func() (string, bool) {
		if m.ready() || m.was.Load() {
			return "ok", true
		}
		return "starting", false
	}))
	mux.Handle("GET /metrics", m.s.metrics.handler())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if m.leaving.Load() {
			w.Header().Set("Connection", "close") // the next request goes to another server
		}
		m.front.ServeHTTP(w, r)
	})
	return mux
}

// ready says that requests can be sent here.
func (m *member) ready() bool {
	_, ok := m.readiness()
	return ok
}

func (m *member) readiness() (string, bool) {
	st, _ := m.lead.State()
	now := realNow().Sub(m.started)
	text, ok := "ok", true
	switch {
	case m.leaving.Load():
		return "stopping", false
	case st.Asked < 0 || now-st.Asked > graceMax:
		text, ok = "the records do not answer", false
	case st.Leading && m.s.serving.Load():
		text = "ok, leading"
	case m.s.Role != roleServer:
		text, ok = "standing by", false // its gateway port admits nothing
	case !st.Leading && (st.Seen < 0 || now-st.Seen > graceMax):
		text, ok = "no server leads", false
	case st.Leading && (!m.was.Load() || now-time.Duration(m.since.Load()) > graceMax):
		text, ok = "starting to lead", false // until then requests wait
	}
	if ok {
		m.was.Store(true)
	}
	return text, ok
}

// serveGateway is the gateway's port of a process with all roles. While another process leads, nothing is let through.
func (m *member) serveGateway(w http.ResponseWriter, r *http.Request) {
	if h := m.gateway.Load(); h != nil && m.lead.Valid() {
		(*h).ServeHTTP(w, r)
		return
	}
	answer.Write(w, answer.Problem{
		Code: "authority_unreachable", Status: http.StatusServiceUnavailable, Detail: "This process stands by: another one leads.",
		Fix: "Send requests to the one that leads, or run gateways apart: tally serve --role gateway.", Retryable: true, RetryAfter: 1,
	})
}

// newMemberMetrics are those that a server has whether it leads or not.
func newMemberMetrics(m *member) *metrics {
	all := newCommonMetrics()
	all.registry.MustRegister(&memberCollector{m})
	if m.s.onKafka() {
		all.registry.MustRegister(&replicaCollector{m.replica.Load})
	}
	return all
}

// memberCollector reads who leads, and what was passed on, at each scrape.
type memberCollector struct{ m *member }

func (c *memberCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *memberCollector) Collect(ch chan<- prometheus.Metric) {
	st, _ := c.m.lead.State()
	leading := 0.0
	if st.Leading {
		leading = 1
	}
	f := c.m.front.Stats()
	for _, x := range []struct {
		name, help string
		kind       prometheus.ValueType
		n          float64
	}{
		{"tally_lead", "Whether this server leads; over all servers it is 1.", prometheus.GaugeValue, leading},
		{"tally_lead_fence", "Number of the lead that stands; it rises with every leader.", prometheus.GaugeValue, float64(st.Lead.Fence)},
		{"tally_forwarded_total", "Requests that were passed on to the leader and answered.", prometheus.CounterValue, float64(f.Forwarded)},
		{"tally_forwarded_again_total", "Times that a request was sent once more, since it had not reached a leader.", prometheus.CounterValue, float64(f.Again)},
		{"tally_forwarded_lost_total", "Requests whose leader went away before it answered.", prometheus.CounterValue, float64(f.Lost)},
		{"tally_forwarded_refused_total", "Requests that found no leader in time.", prometheus.CounterValue, float64(f.Refused)},
		{"tally_forwarded_waiting", "Requests that wait for a leader now.", prometheus.GaugeValue, float64(f.Waiting)},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), x.kind, x.n)
	}
}

// announceMember prints where the server is, once it is ready.
func (s *server) announceMember(ctx context.Context, e *cli.Env) error {
	st, _ := s.member.lead.State()
	s.log.InfoContext(ctx, "ready", slog.String("api", s.endpoint.API), slog.String("gateway", s.endpoint.Gateway), slog.String("dir", s.dir),
		slog.Bool("leading", st.Leading), slog.String("leader", st.Lead.Address))
	if e.JSON {
		return cli.PrintJSON(e.Stdout, map[string]any{
			"api": s.endpoint.API, "gateway": s.endpoint.Gateway, "token": s.endpoint.Token, "dir": s.dir, "leading": st.Leading, "leader": st.Lead.Address,
		})
	}
	s.sayWhere(e)
	return nil
}
