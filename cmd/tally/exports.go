package main

import (
	"context"
	"crypto/rand"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/export"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/sink"
	"github.com/tallystick/tallystick/internal/store/sink/kafka"
	"github.com/tallystick/tallystick/internal/store/sink/nats"
)

// How often and by how many loops exports are sent to: a sink that does not answer holds up one of them.
const (
	exportEvery   = 250 * time.Millisecond // real time
	exportWorkers = 4
)

// openExports readies the streaming to other systems. It connects to nothing yet.
func (s *server) openExports(ctx context.Context) error {
	name, err := s.folder.origin(ctx, s.records)
	if err != nil {
		return err
	}
	s.exports, err = export.New(export.Config{
		Journal: s.journal, Records: s.records, Sinks: sinks{sink.Credentials{Env: os.Getenv, Folder: s.folder.secretPath("exports")}},
		Source: name, Now: s.clock.Now, Real: realNow, Random: rand.Reader,
	})
	return err
}

func (s *server) exportLoops(ctx context.Context, g *errgroup.Group) {
	for range exportWorkers {
		s.every(ctx, g, "exports", exportEvery, s.exports.Tick)
	}
}

func (s *server) closeExports() error {
	if s.exports == nil {
		return nil
	}
	return s.exports.Close()
}

// sinks opens a driver by the scheme of the URL.
type sinks struct{ credentials sink.Credentials }

// Check implements export.Sinks.
func (sinks) Check(to string) error {
	_, err := sink.Parse(to)
	return err
}

// Open implements export.Sinks.
func (s sinks) Open(ctx context.Context, to string) (store.Sink, error) {
	t, err := sink.Parse(to)
	if err != nil {
		return nil, err
	}
	if t.Scheme == sink.NATS {
		return opened(nats.Open(ctx, t, s.credentials))
	}
	return opened(kafka.Open(ctx, t, s.credentials))
}

// opened keeps a nil driver from becoming a sink.
func opened[T store.Sink](driver T, err error) (store.Sink, error) {
	if err != nil {
		return nil, err
	}
	return driver, nil
}

// exportCollector reads how the exports stand at each scrape, as of the last look at them.
type exportCollector struct{ e *export.Service }

func (c *exportCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *exportCollector) Collect(ch chan<- prometheus.Metric) {
	for _, st := range c.e.Stats() {
		paused, moved := 0.0, 0.0
		if st.Paused {
			paused = 1
		}
		if !st.MovedAt.IsZero() {
			moved = float64(st.MovedAt.Unix())
		}
		for _, x := range []struct {
			name, help string
			kind       prometheus.ValueType
			n          float64
		}{
			{"tally_export_behind_records", "Records of the journal that an export has not come to yet.", prometheus.GaugeValue, float64(st.BehindRecords)},
			{"tally_export_behind_entries", "Ledger entries that an export has not come to yet.", prometheus.GaugeValue, float64(st.BehindEntries)},
			{"tally_export_failures", "Attempts of an export that failed since its last success.", prometheus.GaugeValue, float64(st.Failures)},
			{"tally_export_paused", "Whether an export is paused.", prometheus.GaugeValue, paused},
			{"tally_export_moved_seconds", "When the sink last acknowledged something, seconds since 1970; 0: never.", prometheus.GaugeValue, moved},
			{"tally_export_messages_total", "Messages that the sink has acknowledged, repeated ones too.", prometheus.CounterValue, float64(st.Sent)},
			{"tally_export_failures_total", "Attempts of an export that failed.", prometheus.CounterValue, float64(st.Failed)},
		} {
			ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, []string{"export"}, nil), x.kind, x.n, st.Name)
		}
	}
}
