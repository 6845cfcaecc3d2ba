package main

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/web/gateway"
	"github.com/tallystick/tallystick/internal/web/gateway/cost"
)

// costExpressions compiles the expressions of routes' costs. The language is made for the first one.
func costExpressions() func(string) (cost.Expression, error) {
	language := sync.OnceValues(reading.NewLanguage)
	return func(text string) (cost.Expression, error) {
		l, err := language()
		if err != nil {
			return nil, err
		}
		x, err := l.Compile(text, reading.Cost)
		if err != nil {
			return nil, err
		}
		return func(e *cost.Exchange) (money.Decimal, error) {
			seen := reading.Exchange(*e)
			return x.Cost(&seen)
		}, nil
	}
}

// gatewayCollector reads the gateway's totals at each scrape.
type gatewayCollector struct {
	g    *gateway.Gateway
	port *gateway.Listener
}

// gateway shows the totals of the gateway and its port.
func (m *metrics) gateway(g *gateway.Gateway, port *gateway.Listener) {
	m.registry.MustRegister(&gatewayCollector{g, port})
}

func (c *gatewayCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *gatewayCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.g.Stats()
	for _, x := range []struct {
		name, help string
		kind       prometheus.ValueType
		n          int64
	}{
		{"tally_costs_unread_total", "Requests whose actual cost could not be read from the answer; the estimate was charged.", prometheus.CounterValue, st.CostsUnread},
		{"tally_shaped_waiting", "Requests that wait for their turn.", prometheus.GaugeValue, st.Waiting},
		{"tally_shaped_wait_microseconds_total", "Time that requests waited for their turn.", prometheus.CounterValue, st.Waited.Microseconds()},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), x.kind, float64(x.n))
	}
	if c.port != nil { // a server without a gateway has none
		open := prometheus.NewDesc("tally_gateway_connections", "Connections of callers.", nil, nil)
		refused := prometheus.NewDesc("tally_gateway_connections_refused_total", "Connections closed at once because there were too many.", nil, nil)
		ch <- prometheus.MustNewConstMetric(open, prometheus.GaugeValue, float64(c.port.Open()))
		ch <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(c.port.Refused()))
	}
	shaped := prometheus.NewDesc("tally_shaped_total", "Requests that a limit with a shape denied at first, by what became of them.", []string{"result"}, nil)
	for result, n := range map[string]int64{"decided": st.Shaped, "full": st.ShapeFull, "expired": st.ShapeExpired, "gone": st.ShapeGone} {
		ch <- prometheus.MustNewConstMetric(shaped, prometheus.CounterValue, float64(n), result)
	}
}
