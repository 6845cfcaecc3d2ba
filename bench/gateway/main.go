// Command gateway measures the gateway (key, three limits, metering) against a bare reverse proxy with the same transport
// and buffers, over the same upstream, in one run: rounds alternate, and upstream, proxies and load are processes of their own.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/internal/web/gateway"
)

func main() {
	var err error
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	switch role {
	case "upstream":
		err = serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"hello":"world"}`) // the client may be gone
		}))
	case "bare":
		err = bare(os.Args[2])
	case "load":
		err = load(os.Args[2:])
	default:
		err = compare()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// serve listens on a free port, prints it and serves until standard input ends.
func serve(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		os.Exit(0)
	}()
	return (&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}).Serve(l)
}

// bare is the floor: the standard reverse proxy with the gateway's own transport and buffers.
func bare(upstream string) error {
	target, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	return serve(&httputil.ReverseProxy{
		Rewrite:    func(pr *httputil.ProxyRequest) { pr.SetURL(target); pr.SetXForwarded() },
		Transport:  gateway.NewTransport(30 * time.Second),
		BufferPool: gateway.NewBufferPool(),
	})
}

// result is what a load process measured.
type result struct {
	Requests int64         `json:"requests"`
	Failed   int64         `json:"failed"`
	Took     time.Duration `json:"took"`
	P50, P99 time.Duration
}

// load sends requests on kept connections for a time: load URL KEY CONNECTIONS DURATION.
func load(args []string) error {
	target, key := args[0], args[1]
	conns, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[3])
	if err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns, DisableCompression: true}
	client := &http.Client{Transport: transport}
	var failed atomic.Int64
	all := make([][]time.Duration, conns)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range conns {
		wg.Go(func() {
			for time.Since(start) < d {
				req, err := http.NewRequest(http.MethodGet, target, nil)
				if err != nil {
					failed.Add(1)
					return
				}
				req.Header.Set("Authorization", "Bearer "+key)
				t := time.Now()
				resp, err := client.Do(req)
				if err != nil {
					failed.Add(1)
					continue
				}
				_, err = io.Copy(io.Discard, resp.Body)
				if resp.Body.Close() != nil || err != nil || resp.StatusCode != http.StatusOK {
					failed.Add(1)
				}
				all[i] = append(all[i], time.Since(t))
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	lat := slices.Concat(all...)
	slices.Sort(lat)
	r := result{Requests: int64(len(lat)), Failed: failed.Load(), Took: took}
	if len(lat) > 0 {
		r.P50, r.P99 = lat[len(lat)/2], lat[len(lat)*99/100]
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// child is a process that prints one line when it serves.
type child struct {
	cmd  *exec.Cmd
	in   io.Closer
	line string
}

func start(name string, args ...string) (*child, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s %v did not start: %w", name, args, err)
	}
	return &child{cmd: cmd, in: in, line: strings.TrimSpace(line)}, nil
}

func (c *child) stop() {
	_ = c.in.Close()                          // ends our own kinds
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // ends tally
	_ = c.cmd.Wait()                          // its exit code says nothing here
}

// cpu is the user and system time that a process has used.
func (c *child) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100), errors.Join(err1, err2) // USER_HZ is 100 on Linux
}

// sample is one round of one proxy.
type sample struct {
	rate, cpu float64 // requests/s; microseconds of CPU a request
	p50, p99  time.Duration
	failed    int64
}

func measure(self string, c *child, target, key string, conns int, d time.Duration) (sample, error) {
	before, err := c.cpu()
	if err != nil {
		return sample{}, err
	}
	out, err := exec.Command(self, "load", target, key, strconv.Itoa(conns), d.String()).Output()
	if err != nil {
		return sample{}, fmt.Errorf("load: %w", err)
	}
	after, err := c.cpu()
	if err != nil {
		return sample{}, err
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		return sample{}, err
	}
	if r.Requests == 0 {
		return sample{}, errors.New("no request was answered")
	}
	return sample{
		rate: float64(r.Requests) / r.Took.Seconds(), cpu: float64((after - before).Microseconds()) / float64(r.Requests),
		p50: r.P50, p99: r.P99, failed: r.Failed,
	}, nil
}

const catalog = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count, dimensions: [route, status]}
plans:
  - key: bench
    currency: USD
    limits:
      - {key: burst, meter: api_calls, token_bucket: {rate: "1000000/s", burst: 1000000}}
      - {key: daily, meter: api_calls, quota: "1000000000", window: day}
      - {key: period, meter: api_calls, quota: "10000000000", window: billing_period}
gateway:
  routes:
    - {match: "GET /hello", upstream: "%s", meter: api_calls}
`

// startTally serves the benchmark's catalog and makes a key. The first line of "serve" goes to stderr, so readiness is asked for.
func startTally(tally, dir, upstream string) (c *child, gatewayURL, key string, err error) {
	file := filepath.Join(dir, "bench.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, catalog, upstream), 0o600); err != nil {
		return nil, "", "", err
	}
	data := filepath.Join(dir, "data")
	cmd := exec.Command(tally, "serve", "--catalog", file, "--dir", data, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", "", err
	}
	c = &child{cmd: cmd, in: in}
	run := func(args ...string) (map[string]any, error) {
		out, err := exec.Command(tally, append(args, "--dir", data, "--output", "json")...).Output()
		if err != nil {
			return nil, fmt.Errorf("tally %v: %w", args, err)
		}
		var m map[string]any
		return m, json.Unmarshal(out, &m)
	}
	for range 100 {
		if _, err = run("clock"); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return c, "", "", err
	}
	for _, args := range [][]string{{"customers", "create", "bench"}, {"subscriptions", "create", "bench", "bench"}} {
		if _, err := run(args...); err != nil {
			return c, "", "", err
		}
	}
	m, err := run("keys", "create", "bench")
	if err != nil {
		return c, "", "", err
	}
	b, err := os.ReadFile(filepath.Join(data, "client.json"))
	if err != nil {
		return c, "", "", err
	}
	var ep struct{ Gateway string }
	return c, ep.Gateway, fmt.Sprint(m["secret"]), json.Unmarshal(b, &ep)
}

func compare() error {
	tally := flag.String("tally", "bin/tally", "the binary to measure")
	rounds := flag.Int("rounds", 10, "alternating rounds")
	each := flag.Duration("each", 3*time.Second, "length of a round")
	conns := flag.Int("connections", 64, "kept connections")
	flag.Parse()
	dir, err := os.MkdirTemp("", "tally-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	self, err := os.Executable()
	if err != nil {
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	up, err := start(self, "upstream")
	if err != nil {
		return err
	}
	defer up.stop()
	floor, err := start(self, "bare", up.line)
	if err != nil {
		return err
	}
	defer floor.stop()
	ours, gatewayURL, key, err := startTally(*tally, dir, up.line)
	if ours != nil {
		defer ours.stop()
	}
	if err != nil {
		return err
	}
	return report(self, floor, ours, gatewayURL, key, *rounds, *conns, *each, interrupted)
}

func report(self string, floor, ours *child, gatewayURL, key string, rounds, conns int, each time.Duration, interrupted <-chan os.Signal) error {
	if ep := gatewayURL; ep == "" {
		return errors.New("the gateway's address is unknown")
	}
	var a, b []sample
	fmt.Printf("gateway against bare httputil.ReverseProxy: %d rounds of %s, %d connections\n", rounds, each, conns)
	for i := range rounds + 1 {
		select {
		case <-interrupted:
			return errors.New("interrupted")
		default:
		}
		x, err := measure(self, floor, floor.line+"/hello", "none", conns, each)
		if err != nil {
			return err
		}
		y, err := measure(self, ours, gatewayURL+"/hello", key, conns, each)
		if err != nil {
			return err
		}
		if i == 0 {
			continue // warm-up
		}
		a, b = append(a, x), append(b, y)
		fmt.Printf("round %2d   bare %7.0f/s %6.1f us   tally %7.0f/s %6.1f us   throughput %.3f  cpu %.3f   load %s\n",
			i, x.rate, x.cpu, y.rate, y.cpu, y.rate/x.rate, y.cpu/x.cpu, loadAverage())
	}
	fmt.Printf("\n%-8s %12s %14s %10s %10s %8s\n", "median", "requests/s", "CPU us/request", "p50", "p99", "failed")
	for name, ss := range map[string][]sample{"bare": a, "tally": b} {
		var failed int64
		for _, s := range ss {
			failed += s.failed
		}
		fmt.Printf("%-8s %12.0f %14.1f %10s %10s %8d\n", name, median(ss, func(s sample) float64 { return s.rate }),
			median(ss, func(s sample) float64 { return s.cpu }), dur(ss, func(s sample) time.Duration { return s.p50 }),
			dur(ss, func(s sample) time.Duration { return s.p99 }), failed)
	}
	var rates, cpus []float64
	for i := range a {
		rates, cpus = append(rates, b[i].rate/a[i].rate), append(cpus, b[i].cpu/a[i].cpu)
	}
	slices.Sort(rates)
	slices.Sort(cpus)
	fmt.Printf("\nratio of medians by pair: throughput %.3f (aim >= 0.75), CPU a request %.3f (aim <= 1.30)\n", rates[len(rates)/2], cpus[len(cpus)/2])
	return nil
}

func median(ss []sample, of func(sample) float64) float64 {
	var v []float64
	for _, s := range ss {
		v = append(v, of(s))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func dur(ss []sample, of func(sample) time.Duration) time.Duration {
	return time.Duration(median(ss, func(s sample) float64 { return float64(of(s)) })).Round(time.Microsecond)
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
