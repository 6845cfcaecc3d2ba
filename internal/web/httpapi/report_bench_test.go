package httpapi_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
)

// reportBatch is how many events a call of the benchmark has.
const reportBatch = 1000

// BenchmarkReport compares events reported over loopback with the same number reported in process, in turns: so that both
// see the same machine. It prints both rates and their ratio.
func BenchmarkReport(b *testing.B) {
	for _, senders := range []int{1, 4} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			w := newWorld(b)
			w.real = time.Now() // connections have deadlines
			w.apply()
			for i := range 10 {
				w.subscribe(fmt.Sprintf("c%d", i), "free")
			}
			server := httptest.NewServer(w.h)
			b.Cleanup(server.Close)
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
			var inside, outside time.Duration
			round := 0
			for b.Loop() {
				round++
				w.real = time.Now()
				if b.Failed() {
					b.FailNow()
				}
				var bodies [][]byte
				var lists [][]meter.Event
				for s := range senders {
					body, _ := reportInput(w.now(), fmt.Sprintf("http-%d-%d", round, s))
					_, list := reportInput(w.now(), fmt.Sprintf("own-%d-%d", round, s))
					bodies, lists = append(bodies, body), append(lists, list)
				}
				inside += together(senders, func(s int) {
					out, err := w.ingest.Report(b.Context(), "api/bench", lists[s])
					if err != nil || out[reportBatch-1].Status != "accepted" {
						b.Error(out, err)
					}
				})
				outside += together(senders, func(s int) {
					if err := postEvents(b, client, server.URL, bodies[s]); err != nil {
						b.Error(err)
					}
				})
			}
			events := time.Duration(b.N * senders * reportBatch)
			b.ReportMetric(float64(events)/inside.Seconds(), "own-events/s")
			b.ReportMetric(float64(events)/outside.Seconds(), "http-events/s")
			b.ReportMetric(inside.Seconds()/outside.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// together runs a job for each sender and says how long all took.
func together(senders int, job func(sender int)) time.Duration {
	began := time.Now()
	var all sync.WaitGroup
	for s := range senders {
		all.Go(func() { job(s) })
	}
	all.Wait()
	return time.Since(began)
}

func postEvents(b *testing.B, client *http.Client, url string, body []byte) error {
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", batchType)
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf(`{"accepted":%d,`, reportBatch); err == nil && !bytes.HasPrefix(text, []byte(want)) {
		return fmt.Errorf("%.200s", text)
	}
	return err
}

// reportInput is one batch, as a body and as events.
func reportInput(now time.Time, prefix string) ([]byte, []meter.Event) {
	body, list := []byte{'['}, make([]meter.Event, reportBatch)
	for i := range list {
		e := &list[i]
		*e = meter.Event{
			ID: fmt.Sprintf("%s-%08d", prefix, i), Source: "/bench/report", Type: "completion", Subject: fmt.Sprintf("c%d", i%10), Time: now,
			Data: fmt.Appendf(nil, `{"model":"large","tokens":%d}`, 100+i),
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"specversion":"1.0","id":%q,"source":%q,"type":%q,"subject":%q,"time":%q,"data":%s}`,
			e.ID, e.Source, e.Type, e.Subject, e.Time.Format(time.RFC3339Nano), e.Data)
	}
	return append(body, ']'), list
}
