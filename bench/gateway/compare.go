package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

// way is one way to the upstream.
type way struct {
	name, url, key string
	process        *child
	rate, cpu      []float64 // requests/s; microseconds of CPU a request
	p50, p99       []time.Duration
	failed         int64
}

// round measures a way at full load.
func (w *way) round(self string, conns int, each time.Duration, keep bool) error {
	before, err := w.process.cpu()
	if err != nil {
		return err
	}
	r, err := run(self, plan{URL: w.url + "/hello", Key: w.key, Conns: conns, For: each})
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	after, err := w.process.cpu()
	if err != nil || !keep {
		return err
	}
	w.rate = append(w.rate, float64(r.Requests)/r.Took.Seconds())
	w.cpu = append(w.cpu, float64((after-before).Microseconds())/float64(r.Requests))
	w.p50, w.p99, w.failed = append(w.p50, r.P50), append(w.p99, r.P99), w.failed+r.Failed+r.Denied
	return nil
}

type settings struct {
	self      string
	rounds    int
	conns     int
	each      time.Duration
	keys      int
	interrupt chan os.Signal
}

func compare() error {
	tally := flag.String("tally", "bin/tally", "the binary to measure")
	s := settings{interrupt: make(chan os.Signal, 1)}
	flag.IntVar(&s.rounds, "rounds", 10, "alternating rounds")
	flag.DurationVar(&s.each, "each", 3*time.Second, "length of a round")
	flag.IntVar(&s.conns, "connections", 64, "kept connections")
	flag.IntVar(&s.keys, "keys", 1_000_000, "unknown keys; 0: leave that part out")
	flag.Parse()
	dir, err := os.MkdirTemp("", "tally-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	if s.self, err = os.Executable(); err != nil {
		return err
	}
	signal.Notify(s.interrupt, os.Interrupt)
	up, err := start(s.self, "upstream")
	if err != nil {
		return err
	}
	defer up.Stop()
	floor, err := start(s.self, "bare", up.Line)
	if err != nil {
		return err
	}
	defer floor.Stop()
	ours, gatewayURL, key, small, err := startTally(*tally, dir, up.Line)
	if ours != nil {
		defer ours.Stop()
	}
	if err != nil {
		return err
	}
	if gatewayURL == "" {
		return errors.New("the gateway's address is unknown")
	}
	ways := []*way{{name: "bare", url: floor.Line, key: "none", process: floor}, {name: "tally", url: gatewayURL, key: key, process: ours}}
	switch ng, err := startNginx(dir, up.Line); {
	case errors.Is(err, errNone):
		fmt.Println("nginx: NOT RUN, it is not installed")
	case err != nil:
		return err
	default:
		defer ng.Stop()
		ways = append(ways, &way{name: "nginx", url: ng.Line, key: "none", process: ng})
	}
	if err := s.full(ways); err != nil {
		return err
	}
	if err := s.half(ways); err != nil {
		return err
	}
	if err := s.isolation(ways[1], small); err != nil {
		return err
	}
	return s.unknown(ways[1])
}

// full measures throughput, round by round.
func (s *settings) full(ways []*way) error {
	fmt.Printf("full load: %d rounds of %s, %d connections\n", s.rounds, s.each, s.conns)
	for i := range s.rounds + 1 {
		for _, w := range ways {
			select {
			case <-s.interrupt:
				return errors.New("interrupted")
			default:
			}
			if err := w.round(s.self, s.conns, s.each, i > 0); err != nil { // the first warms up
				return err
			}
		}
		if i == 0 {
			continue
		}
		fmt.Printf("round %2d", i)
		for _, w := range ways {
			fmt.Printf("   %s %6.0f/s %5.1f us", w.name, w.rate[i-1], w.cpu[i-1])
		}
		fmt.Printf("   load %s\n", loadAverage())
	}
	fmt.Printf("\n%-8s %12s %14s %10s %10s %8s   %s\n", "median", "requests/s", "CPU us/request", "p50", "p99", "failed", "against bare, by pair: throughput, CPU")
	for _, w := range ways {
		var rates, cpus []float64
		for i := range w.rate {
			rates, cpus = append(rates, w.rate[i]/ways[0].rate[i]), append(cpus, w.cpu[i]/ways[0].cpu[i])
		}
		fmt.Printf("%-8s %12s %14.1f %10s %10s %8d   %.3f %.3f\n", w.name, whole(median(append([]float64(nil), w.rate...))), median(append([]float64(nil), w.cpu...)),
			dur(w.p50), dur(w.p99), w.failed, median(rates), median(cpus))
	}
	fmt.Println("aim: tally's throughput at least 0.85 of bare")
	return nil
}

// half measures latencies at half of the gateway's full load.
func (s *settings) half(ways []*way) error {
	rate := int(min(median(append([]float64(nil), ways[0].rate...)), median(append([]float64(nil), ways[1].rate...))) / 2)
	fmt.Printf("\nhalf load: %d requests/s\n", rate)
	p50, p99 := map[string][]time.Duration{}, map[string][]time.Duration{}
	for range max(3, s.rounds/2) {
		for _, w := range ways {
			r, err := run(s.self, plan{URL: w.url + "/hello", Key: w.key, Conns: s.conns, For: s.each, Rate: rate})
			if err != nil {
				return err
			}
			p50[w.name], p99[w.name] = append(p50[w.name], r.P50), append(p99[w.name], r.P99)
		}
	}
	bare := dur(p99["bare"])
	for _, w := range ways {
		fmt.Printf("%-8s p50 %8s p99 %8s   added to bare's p99 %s\n", w.name, dur(p50[w.name]), dur(p99[w.name]), dur(p99[w.name])-bare)
	}
	fmt.Println("aim: tally adds at most 300 us")
	return nil
}

// isolation measures a customer alone, and beside one who sends ten times as much on as many connections and is mostly refused.
func (s *settings) isolation(w *way, small string) error {
	const rate = 500
	fmt.Printf("\na customer with %d requests/s, p50 and p99 alone, and beside one who floods with %d/s and may send 200/s\n", rate, 10*rate)
	var p50, p99 [2][]time.Duration
	var denied int64
	for range max(3, s.rounds/2) {
		for flooded := range 2 {
			var other *running
			if flooded == 1 {
				var err error
				if other, err = begin(s.self, plan{URL: w.url + "/hello", Key: small, Conns: s.conns, For: s.each + s.each/2, Rate: 10 * rate}); err != nil {
					return err
				}
			}
			r, err := run(s.self, plan{URL: w.url + "/hello", Key: w.key, Conns: 8, For: s.each, Rate: rate})
			if err != nil {
				return err
			}
			if r.Denied+r.Failed > 0 {
				return fmt.Errorf("%d requests of the other customer were refused or failed", r.Denied+r.Failed)
			}
			p50[flooded], p99[flooded] = append(p50[flooded], r.P50), append(p99[flooded], r.P99)
			if other != nil {
				f, err := other.end()
				if err != nil {
					return err
				}
				denied += f.Denied
			}
		}
	}
	fmt.Printf("alone    p50 %8s p99 %8s\nflooded  p50 %8s p99 %8s   (%d requests of the flood refused)\n", dur(p50[0]), dur(p99[0]), dur(p50[1]), dur(p99[1]), denied)
	return nil
}

// unknown sends many keys that nobody knows.
func (s *settings) unknown(w *way) error {
	if s.keys == 0 {
		return nil
	}
	fmt.Printf("\n%d unknown keys\n", s.keys)
	if _, err := run(s.self, plan{URL: w.url + "/hello", Key: "tally_live_w", Conns: s.conns, For: s.each, Distinct: true}); err != nil {
		return err
	}
	before, err := w.process.rss()
	if err != nil {
		return err
	}
	var sent int64
	for i := 0; sent < int64(s.keys); i++ {
		r, err := run(s.self, plan{URL: w.url + "/hello", Key: fmt.Sprintf("tally_live_%d_", i), Conns: s.conns, For: 3 * s.each, Distinct: true})
		if err != nil {
			return err
		}
		if r.Denied != r.Requests {
			return fmt.Errorf("%d of %d unknown keys were not refused", r.Requests-r.Denied, r.Requests)
		}
		sent += r.Requests
	}
	after, err := w.process.rss()
	if err != nil {
		return err
	}
	fmt.Printf("resident memory %d KiB before, %d KiB after %d distinct unknown keys\n", before>>10, after>>10, sent)
	return nil
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
