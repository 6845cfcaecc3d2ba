// Command quota measures the quota engine in one run: the decision in process, the rate limit service over gRPC against an
// empty handler with the same messages, and the door for proxies that ask over HTTP against an empty net/http handler. Servers
// and load are processes of their own, rounds alternate, and the load is the same for both sides.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/tallystick/tallystick/bench/load"
)

type options struct {
	tally    string
	rounds   int
	each     time.Duration
	conns    int // connections
	depth    int // calls that run at once on each
	rate     int // calls a second of the paced rounds
	keys     int
	live     int
	authPath string
	only     string
}

func main() {
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	var err error
	switch role {
	case "floor-grpc":
		err = floorGRPC()
	case "floor-http":
		err = floorHTTP()
	case "load-grpc":
		err = loadGRPC(os.Args[2:])
	case "load-http":
		err = loadHTTP(os.Args[2:])
	default:
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.tally, "tally", "bin/tally", "the binary to measure")
	flag.IntVar(&o.rounds, "rounds", 5, "alternating rounds of each comparison")
	flag.DurationVar(&o.each, "each", 3*time.Second, "length of a round")
	flag.IntVar(&o.conns, "connections", 4, "gRPC connections")
	flag.IntVar(&o.depth, "depth", 16, "calls at once on each connection")
	flag.IntVar(&o.rate, "rate", 2000, "calls a second of the paced rounds")
	flag.IntVar(&o.keys, "keys", 10000, "keys of the run with many keys")
	flag.IntVar(&o.live, "live", 10000, "live keys to weigh in process; 1000000 takes long, since each draws its leases")
	flag.StringVar(&o.authPath, "auth-path", "/doors/auth", "the door for proxies that ask over HTTP, on the API's port")
	flag.StringVar(&o.only, "only", "", "process, rls or auth: this part alone")
	flag.Parse()
	fmt.Printf("machine: %d cores, load %s, %s; the load runs on the same cores\n", runtime.NumCPU(), load.Machine(), runtime.Version())
	for _, part := range []struct {
		name string
		run  func(options) error
	}{{"process", inProcess}, {"rls", compareRLS}, {"auth", compareAuth}} {
		if o.only != "" && o.only != part.name {
			continue
		}
		if err := part.run(o); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// comparison is one table: the floor and ours, in alternating rounds.
type comparison struct {
	title  string
	floor  func() (sample, error)
	ours   func() (sample, error)
	rounds int
	aim    string // empty: no ratio
}

func (c comparison) run() error {
	var a, b []sample
	for i := range c.rounds + 1 {
		x, err := c.floor()
		if err != nil {
			return err
		}
		y, err := c.ours()
		if err != nil {
			return err
		}
		if x.failed+y.failed > 0 {
			return fmt.Errorf("%s: %d calls of the floor and %d of ours failed", c.title, x.failed, y.failed)
		}
		if i > 0 { // the first one warms up
			a, b = append(a, x), append(b, y)
		}
	}
	fmt.Printf("\n%s\n  %-8s %10s %13s %9s %9s\n", c.title, "median", "checks/s", "CPU us/check", "p50", "p99")
	for _, side := range []struct {
		name string
		ss   []sample
	}{{"floor", a}, {"tally", b}} {
		fmt.Printf("  %-8s %10.0f %13.1f %9s %9s\n", side.name, median(side.ss, func(s sample) float64 { return s.rate }),
			median(side.ss, func(s sample) float64 { return s.cpu }), dur(side.ss, func(s sample) time.Duration { return s.p50 }),
			dur(side.ss, func(s sample) time.Duration { return s.p99 }))
	}
	var rates, cpus []float64
	for i := range a {
		rates, cpus = append(rates, b[i].rate/a[i].rate), append(cpus, b[i].cpu/a[i].cpu)
	}
	if c.aim == "" {
		fmt.Printf("  CPU a check %.2f of the floor's; load %s\n", load.Median(cpus), load.Machine())
		return nil
	}
	fmt.Printf("  ratio by pairs: throughput %.3f (aim >= %s), from %.3f to %.3f; CPU a check %.2f; load %s\n",
		load.Median(rates), c.aim, lowest(rates), highest(rates), load.Median(cpus), load.Machine())
	return nil
}

var errNoCall = errors.New("no call was answered")
