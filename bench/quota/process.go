package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/bench/load"
)

// startSelf runs this program in another role, which prints where it serves.
func startSelf(role string) (*load.Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return load.Start(self, role)
}

// sample is one round of one side.
type sample struct {
	rate, cpu float64 // calls a second; microseconds of the server's CPU a call
	p50, p99  time.Duration
	failed    int64
}

// measure runs a load against a server.
func measure(c *load.Child, role string, args ...string) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	before, err := load.CPU(c.Cmd.Process.Pid)
	if err != nil {
		return sample{}, err
	}
	cmd := exec.Command(self, append([]string{role}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", role, err)
	}
	after, err := load.CPU(c.Cmd.Process.Pid)
	if err != nil {
		return sample{}, err
	}
	var r load.Result
	if err := json.Unmarshal(out, &r); err != nil {
		return sample{}, err
	}
	if r.Calls == 0 {
		return sample{}, errNoCall
	}
	return sample{
		rate: float64(r.Calls) / r.Took.Seconds(), cpu: float64((after - before).Microseconds()) / float64(r.Calls), p50: r.P50, p99: r.P99, failed: r.Failed,
	}, nil
}

// catalogYAML has five limits that apply to each call, none of which is ever reached.
const catalogYAML = `tallystick: 1
meters:
  - {key: calls, event: request, aggregation: count}
plans:
  - key: bench
    currency: USD
    prices:
      - {key: calls, meter: calls, model: graduated, every: month, tiers: [{unit_amount: "0.000001"}]}
    limits:
      - {key: burst, meter: calls, token_bucket: {rate: "1000000/s", burst: 1000000}}
      - {key: daily, meter: calls, quota: "1000000000", window: day}
      - {key: weekly, meter: calls, quota: "10000000000", window: week}
      - {key: monthly, meter: calls, quota: "100000000000", window: month}
      - {key: period, meter: calls, quota: "100000000000", window: billing_period}
gateway:
  routes:
    - {match: "GET /hello", upstream: "http://127.0.0.1:9", meter: calls}
`

// tally is the program that is measured, with keys.
type tally struct {
	*load.Child
	api, token, grpc string
	keys             []string
}

func startTally(binary, dir string, keys int) (*tally, error) {
	file := filepath.Join(dir, "bench.yaml")
	if err := os.WriteFile(file, []byte(catalogYAML), 0o600); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	cmd := exec.Command(binary, "serve", "--catalog", file, "--dir", data, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := &tally{Child: &load.Child{Cmd: cmd, In: in}}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if _, addr, ok := strings.Cut(lines.Text(), " grpc="); ok {
			t.grpc, _, _ = strings.Cut(addr, " ")
		}
		if strings.Contains(lines.Text(), "msg=ready") {
			break
		}
	}
	go func() { _, _ = io.Copy(os.Stderr, log) }() // until it ends
	if t.grpc == "" {
		return t, errors.New("tally serves no gRPC")
	}
	b, err := os.ReadFile(filepath.Join(data, "client.json"))
	if err != nil {
		return t, err
	}
	var ep struct{ API, Token string }
	if err := json.Unmarshal(b, &ep); err != nil {
		return t, err
	}
	t.api, t.token = ep.API, ep.Token
	return t, t.makeKeys(keys)
}

// makeKeys creates customers with two keys each.
func (t *tally) makeKeys(n int) error {
	t.keys = make([]string, 0, n)
	for c := 0; len(t.keys) < n; c++ {
		customer := fmt.Sprintf("c%d", c)
		if _, err := t.post("customers", map[string]any{"key": customer}); err != nil {
			return err
		}
		if _, err := t.post("subscriptions", map[string]any{"customer": customer, "plan": "bench"}); err != nil {
			return err
		}
		for range min(2, n-len(t.keys)) {
			secret, err := t.post("keys", map[string]any{"customer": customer})
			if err != nil {
				return err
			}
			t.keys = append(t.keys, secret)
		}
	}
	return nil
}

func (t *tally) post(what string, body map[string]any) (secret string, err error) {
	return load.Create(context.Background(), t.api, t.token, what, body)
}

func median(ss []sample, of func(sample) float64) float64 {
	var v []float64
	for _, s := range ss {
		v = append(v, of(s))
	}
	return load.Median(v)
}

func lowest(v []float64) float64  { return slices.Min(v) }
func highest(v []float64) float64 { return slices.Max(v) }

func dur(ss []sample, of func(sample) time.Duration) time.Duration {
	return time.Duration(median(ss, func(s sample) float64 { return float64(of(s)) })).Round(time.Microsecond)
}
