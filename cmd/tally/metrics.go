package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/store/kafka"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/web/node"
)

// metrics are what /metrics shows. Counters of the services are read when scraped, so that the hot path only counts once.
type metrics struct {
	registry *prometheus.Registry
	latency  *prometheus.HistogramVec
	failures *prometheus.CounterVec
	book     *prometheus.GaugeVec
	position prometheus.Gauge
	byClass  [6]prometheus.Observer
}

// show adds what the services of a server count.
func (m *metrics) show(s *server) {
	m.book = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tally_books", Help: "The books at the last comparison, in units of all meters together; difference must be 0.",
	}, []string{"side"})
	m.position = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tally_books_position", Help: "Journal position of the last comparison of the books.",
	})
	m.registry.MustRegister(m.book, m.position, &enforceCollector{s.enforce}, &spoolCollector{s.spool}, &receiveCollector{s.receive}, &sealCollector{s.seal}, &noticeCollector{s.notify}, &exportCollector{s.exports}, &doorCollector{&s.ports}, &overshootCollector{s.enforce, s.refunds}, &nodesCollector{s.hub})
	if j, ok := s.journal.(figures); ok {
		m.registry.MustRegister(&journalCollector{j})
	}
	if j, ok := s.journal.(*kafka.Journal); ok && s.member == nil { // else it is shown all the time
		m.registry.MustRegister(&replicaCollector{func() *kafka.Journal { return j }})
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tally_clock_ahead_seconds", Help: "How far the business clock leads because the machine's clock stepped back.",
	}, func() float64 { return s.clock.Ahead().Seconds() }))
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tally_events_unmatched", Help: "Events that are kept but count for nothing; see tally unmatched list.",
	}, func() float64 { return float64(s.inbox.Count()) }))
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tally_gateways", Help: "Gateways that may hold leases: registered ones that are not revoked, and this process's own.",
	}, func() float64 { return float64(s.leasing()) }))
	m.registry.MustRegister(&ledgerCollector{s.collect})
	m.registry.MustRegister(&billingRunCollector{s.billrun})
}

// newCommonMetrics are those of every process with a gateway.
func newCommonMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tally_gateway_request_seconds", Help: "Time from a request's arrival at the gateway to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"class"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tally_loop_failures_total", Help: "Failed runs of a background loop; each is tried again.",
		}, []string{"loop"}),
	}
	m.registry.MustRegister(m.latency, m.failures)
	for i := range m.byClass {
		m.byClass[i] = m.latency.WithLabelValues(strconv.Itoa(i) + "xx")
	}
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) observe(status int, took time.Duration) {
	class := status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	m.byClass[class].Observe(took.Seconds())
}

func (m *metrics) failed(loop string) { m.failures.WithLabelValues(loop).Inc() }

// books publishes a comparison. A gauge is a float: exact numbers are at /v1/books.
func (m *metrics) books(b bill.Books) {
	for side, d := range map[string]interface{ String() string }{
		"admitted": b.Admitted, "reported": b.Reported, "voided": b.Voided, "metered": b.Metered, "rated": b.Rated,
		"unpriced": b.Unpriced, "late": b.Late, "difference": b.Difference,
	} {
		if f, err := strconv.ParseFloat(d.String(), 64); err == nil {
			m.book.WithLabelValues(side).Set(f)
		}
	}
	m.position.Set(float64(b.Position))
}

// enforceCollector reads the enforcer's totals at each scrape.
type enforceCollector struct{ e *enforce.Enforcer }

func (c *enforceCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *enforceCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.e.Stats()
	decisions := prometheus.NewDesc("tally_decisions_total", "Decisions since start by outcome.", []string{"outcome"}, nil)
	for outcome, n := range map[string]int64{
		"allowed": st.Admitted, "rate_exceeded": st.DeniedRate, "quota_exceeded": st.DeniedQuota, "spend_cap_reached": st.DeniedSpend,
		"key": st.DeniedKey, "no_subscription": st.DeniedSubscription, "unavailable": st.Unavailable,
		"concurrency_exceeded": st.DeniedConcurrency, "credits_exhausted": st.DeniedCredits, "entitlement_missing": st.DeniedEntitlement,
		"abnormal_usage": st.DeniedAbnormal,
		"unpaid":         st.DeniedUnpaid,
	} {
		ch <- prometheus.MustNewConstMetric(decisions, prometheus.CounterValue, float64(n), outcome)
	}
	for _, x := range []struct {
		name, help string
		kind       prometheus.ValueType
		n          int64
	}{
		{"tally_settled_total", "Admitted requests that were charged.", prometheus.CounterValue, st.Settled},
		{"tally_released_total", "Admitted requests that failed and were given back.", prometheus.CounterValue, st.Released},
		{"tally_over_limit_total", "Admitted requests that passed a soft, grace or shadow limit.", prometheus.CounterValue, st.Over},
		{"tally_incomplete_total", "Charged requests whose answer was cut off.", prometheus.CounterValue, st.Incomplete},
		{"tally_recovered_total", "Requests that a crash left open and this start settled.", prometheus.CounterValue, st.Recovered},
		{"tally_lease_written_off_total", "Units of leases whose use a power cut made unknown.", prometheus.CounterValue, st.WrittenOff},
		{"tally_lease_draws_total", "Leases drawn from the authority.", prometheus.CounterValue, st.Draws},
		{"tally_counters", "Counters that the gateway holds.", prometheus.GaugeValue, st.Lessee.Counters},
		{"tally_counters_evicted_total", "Idle counters whose leases were given back.", prometheus.CounterValue, st.Lessee.Evicted},
		{"tally_counters_refused_total", "Requests refused because too many counters were held, or too many requests waited for a lease.", prometheus.CounterValue, st.Lessee.Crowded},
		{"tally_authority_unreachable_total", "Calls that did not reach the quota authority.", prometheus.CounterValue, st.Lessee.Unreachable},
		{"tally_admitted_without_lease_total", "Requests admitted by a limit's failure mode while the authority was unreachable.", prometheus.CounterValue, st.Lessee.Alone},
		{"tally_gateway_conflicts_total", "Gateway events refused by the journal as conflicts; must be 0.", prometheus.CounterValue, st.Conflicts},
		{"tally_marks_lost_total", "Notes of cut-off answers dropped because the spool was full.", prometheus.CounterValue, st.MarksLost},
		{"tally_open_requests", "Requests reserved and not yet settled or released.", prometheus.GaugeValue, st.Open},
		{"tally_spool_bytes", "Bytes kept in the gateway's spool.", prometheus.GaugeValue, st.SpoolBytes},
		{"tally_spool_lag_bytes", "Bytes in the spool that are not in the journal yet.", prometheus.GaugeValue, st.SpoolLag},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), x.kind, float64(x.n))
	}
}

// spoolCollector tells what was cut off the spool when it was opened.
type spoolCollector struct{ s *spool.Spool }

func (c *spoolCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *spoolCollector) Collect(ch chan<- prometheus.Metric) {
	desc := prometheus.NewDesc("tally_spool_torn_bytes", "Bytes cut off the spool's end when it was opened.", nil, nil)
	ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(c.s.Recovery().Bytes))
}

// sealCollector reads the tree's size and the newest checkpoint at each scrape.
type sealCollector struct{ s *seal.Service }

func (c *sealCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *sealCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.s.Stats()
	for _, x := range []struct {
		name, help string
		n          int64
	}{
		{"tally_seal_leaves", "Records in the Merkle tree.", st.Leaves},
		{"tally_seal_covered", "Records under the newest signed checkpoint.", st.Covered},
		{"tally_seal_checkpoint_seconds", "Business time of the newest checkpoint, seconds since 1970; 0: none.", max(0, st.At.Unix())},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), prometheus.GaugeValue, float64(x.n))
	}
}

// journalCollector reads the journal's size at each scrape.
type journalCollector struct{ j figures }

func (c *journalCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *journalCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.j.Stats()
	for _, x := range []struct {
		name, help string
		kind       prometheus.ValueType
		n          int64
	}{
		{"tally_journal_events", "Events in the journal.", prometheus.GaugeValue, int64(st.Events)},
		{"tally_journal_position", "Position of the last record.", prometheus.GaugeValue, int64(st.Position)},
		{"tally_journal_bytes", "Bytes of the log.", prometheus.GaugeValue, st.Bytes},
		{"tally_journal_index_bytes", "Bytes of the index on disk.", prometheus.GaugeValue, st.IndexBytes},
		{"tally_journal_fresh", "Events, contributions and revisions that no flush has written into the index yet.", prometheus.GaugeValue, int64(st.Fresh)},
		{"tally_journal_flushes_total", "Flushes of what is in memory into the index.", prometheus.CounterValue, st.Checkpoints},
		{"tally_journal_segments", "Segment files of the log.", prometheus.GaugeValue, int64(st.Segments)},
		{"tally_journal_sealed_segments", "Segments that are compressed.", prometheus.GaugeValue, int64(st.Sealed)},
		{"tally_journal_erasures_waiting", "Erasures that are ordered and not carried out on the disk yet.", prometheus.GaugeValue, int64(st.Erasing)},
		{"tally_journal_groups_total", "Group commits, one sync each.", prometheus.CounterValue, st.Groups},
		{"tally_journal_full_total", "Appends refused because the disk or a bound was full.", prometheus.CounterValue, st.Full},
		{"tally_journal_torn_bytes", "Bytes cut off the log's end when it was opened.", prometheus.GaugeValue, st.TornBytes},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), x.kind, float64(x.n))
	}
}

// replicaCollector reads how this process stands to the topic of the journal at each scrape.
type replicaCollector struct{ journal func() *kafka.Journal }

func (c *replicaCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *replicaCollector) Collect(ch chan<- prometheus.Metric) {
	j := c.journal()
	if j == nil {
		return
	}
	st, failed := j.Replica(), int64(0)
	if st.Failed {
		failed = 1
	}
	for _, x := range []struct {
		name, help string
		kind       prometheus.ValueType
		n          int64
	}{
		{"tally_kafka_applied_offset", "Offset of the next command that this server applies.", prometheus.GaugeValue, st.Applied},
		{"tally_kafka_lag_commands", "Commands in the topic, as far as this server knows, that it has not applied.", prometheus.GaugeValue, st.End - st.Applied},
		{"tally_kafka_kept_offset", "Commands before this offset are not needed by this server again.", prometheus.GaugeValue, st.Kept},
		{"tally_kafka_commands_total", "Commands that this server has applied since its start.", prometheus.CounterValue, st.Commands},
		{"tally_kafka_produce_errors_total", "Commands that Kafka did not take, or did not say so.", prometheus.CounterValue, st.Errors},
		{"tally_kafka_unknown_total", "Calls that ended without knowing their outcome.", prometheus.CounterValue, st.Unknown},
		{"tally_kafka_read_waits_total", "Reads that waited for commands of other servers.", prometheus.CounterValue, st.Waits},
		{"tally_kafka_foreign_total", "Records in the topic that are no commands; must be 0.", prometheus.CounterValue, st.Foreign},
		{"tally_kafka_pending", "Calls that wait for their command to be applied.", prometheus.GaugeValue, int64(st.Pending)},
		{"tally_kafka_failed", "Whether the journal has failed and the server must be started again.", prometheus.GaugeValue, failed},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), x.kind, float64(x.n))
	}
}

// receiveCollector reads what became of the gateways' batches at each scrape.
type receiveCollector struct{ r *receive.Receiver }

func (c *receiveCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *receiveCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.r.Stats()
	taken := prometheus.NewDesc("tally_gateway_batches_total", "Signed batches of gateways that were taken.", nil, nil)
	again := prometheus.NewDesc("tally_gateway_batches_repeated_total", "Batches that had been taken before; they had no effect.", nil, nil)
	refused := prometheus.NewDesc("tally_gateway_batches_refused_total", "Batches refused, or found missing (lost), by reason; must be 0.", []string{"reason"}, nil)
	ch <- prometheus.MustNewConstMetric(taken, prometheus.CounterValue, float64(st.Taken))
	ch <- prometheus.MustNewConstMetric(again, prometheus.CounterValue, float64(st.Duplicates))
	for _, why := range receive.Reasons() {
		ch <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(st.Refused[why]), string(why))
	}
}

// newGatewayMetrics are those of a gateway in a process of its own.
func newGatewayMetrics(s *gatewayRole) *metrics {
	m := newCommonMetrics()
	m.registry.MustRegister(&apartCollector{s}, &spoolCollector{s.spool}, &doorCollector{&s.ports})
	return m
}

// apartCollector reads how a gateway stands to its server at each scrape, and what it decided.
type apartCollector struct{ s *gatewayRole }

func (c *apartCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *apartCollector) Collect(ch chan<- prometheus.Metric) {
	if e := c.s.enforce.Load(); e != nil {
		(&enforceCollector{e}).Collect(ch)
	}
	calls := prometheus.NewDesc("tally_authority_calls_total", "Calls for leases to the server by what became of them; spared: not made, since it did not answer lately.", []string{"result"}, nil)
	st := c.s.client.Stats()
	for result, n := range map[string]int64{"answered": st.Draws, "failed": st.Failed, "spared": st.Spared} {
		ch <- prometheus.MustNewConstMetric(calls, prometheus.CounterValue, float64(n), result)
	}
	sent := prometheus.NewDesc("tally_server_calls_total", "Round trips to the server that were begun, by what for.", []string{"call"}, nil)
	for call, n := range st.Sent {
		ch <- prometheus.MustNewConstMetric(sent, prometheus.CounterValue, float64(n), call)
	}
	connected, open := 0, 0
	var streams int64
	if f := c.s.following.Load(); f != nil {
		streams = f.Streams()
		if f.Current() {
			connected = 1
		}
	}
	if st.Open {
		open = 1
	}
	for _, x := range []struct {
		name, help string
		kind       prometheus.ValueType
		n          int64
	}{
		{"tally_node_connected", "Whether the stream from the server is open, so that changes arrive.", prometheus.GaugeValue, int64(connected)},
		{"tally_node_streams_total", "How often the stream from the server was opened.", prometheus.CounterValue, streams},
		{"tally_reports_lost_total", "Notices and refunds that the server was not told of, because too many waited or it refused them.", prometheus.CounterValue, c.s.report.Lost()},
		{"tally_authority_breaker_open", "Whether calls for leases fail at once, since the server does not answer.", prometheus.GaugeValue, int64(open)},
		{"tally_authority_breaker_opened_total", "How often that began.", prometheus.CounterValue, st.Opened},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), x.kind, float64(x.n))
	}
}

// nodesCollector reads how the gateways of other processes stand at each scrape.
type nodesCollector struct{ h *node.Server }

func (c *nodesCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *nodesCollector) Collect(ch chan<- prometheus.Metric) {
	connected := prometheus.NewDesc("tally_gateway_connected", "Whether a gateway of another process is connected.", []string{"node", "name"}, nil)
	behind := prometheus.NewDesc("tally_gateway_changes_behind", "Changes of catalog, customers and keys that a gateway does not have yet.", []string{"node", "name"}, nil)
	lag := prometheus.NewDesc("tally_gateway_spool_lag_bytes", "Bytes in a gateway's spool that are not in the journal yet, when it was last seen.", []string{"node", "name"}, nil)
	skew := prometheus.NewDesc("tally_gateway_clock_skew_seconds", "A gateway's business time less the server's, when it was last seen.", []string{"node", "name"}, nil)
	for _, st := range c.h.List() {
		if !st.RevokedAt.IsZero() {
			continue
		}
		number, up := strconv.Itoa(int(st.Node.Node)), 0.0
		if st.Connected {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(connected, prometheus.GaugeValue, up, number, st.Name)
		ch <- prometheus.MustNewConstMetric(behind, prometheus.GaugeValue, float64(st.Behind), number, st.Name)
		ch <- prometheus.MustNewConstMetric(lag, prometheus.GaugeValue, float64(st.Lag), number, st.Name)
		ch <- prometheus.MustNewConstMetric(skew, prometheus.GaugeValue, st.Skew.Seconds(), number, st.Name)
	}
}
