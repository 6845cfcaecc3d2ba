package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/cli/problem"
)

// burst bounds: how many requests and connections one command may use.
const (
	burstMax            = 10_000_000
	burstConcurrencyMax = 1024
)

type burstCmd struct {
	Key         string `arg:"" help:"API key."`
	N           int    `arg:"" help:"How many requests."`
	Path        string `help:"Path to request." default:"/hello"`
	Concurrency int    `help:"Connections at once." default:"1"`
}

type denial struct {
	Status     int             `json:"status"`
	DecisionID string          `json:"decision_id"`
	Problem    json.RawMessage `json:"problem,omitempty"`
}

type burstResult struct {
	Sent       int            `json:"sent"`
	ByStatus   map[string]int `json:"by_status"`
	LastDenial *denial        `json:"last_denial"`
}

// Run sends the requests and prints its summary in any case, also when the gateway dies on the way.
func (c *burstCmd) Run(e *Env) error {
	if c.N < 0 || c.N > burstMax {
		return fmt.Errorf("the number of requests must be 0 to %d", burstMax)
	}
	if c.Concurrency < 1 || c.Concurrency > burstConcurrencyMax {
		return fmt.Errorf("--concurrency must be 1 to %d", burstConcurrencyMax)
	}
	if !strings.HasPrefix(c.Path, "/") {
		return fmt.Errorf("--path: %q does not begin with /", c.Path)
	}
	ep := Endpoint{Gateway: os.Getenv("TALLY_GATEWAY_URL")}
	if ep.Gateway == "" || e.Dir != "" {
		var err error
		if ep, err = findServer(e); err != nil {
			return err
		}
	}
	if ep.Gateway == "" {
		return errors.New("no gateway address: set TALLY_GATEWAY_URL or name the server's folder with --dir")
	}
	r, failure := c.send(e.Ctx, ep)
	if failure != nil {
		if _, err := fmt.Fprintln(e.Stderr, "last error:", failure); err != nil {
			return err
		}
	}
	if e.JSON {
		return PrintJSON(e.Stdout, r)
	}
	return burstText(e, r)
}

// burstText is the summary for people.
func burstText(e *Env, r burstResult) error {
	out := lines{w: e.Stdout}
	out.put("sent " + strconv.Itoa(r.Sent))
	for _, status := range slices.Sorted(maps.Keys(r.ByStatus)) {
		out.put(fmt.Sprintf("%7d × %s", r.ByStatus[status], status))
	}
	if d := r.LastDenial; d != nil {
		var p problem.Answer
		_ = json.Unmarshal(d.Problem, &p) // an upstream's own refusal is no problem document
		out.put("last denial: " + strings.TrimSpace(fmt.Sprintf("%d %s", d.Status, p.Code)))
		if p.Detail != "" {
			out.put("  " + p.Detail)
		}
		if d.DecisionID != "" {
			dir := ""
			if e.Dir != "" {
				dir = " --dir " + e.Dir
			}
			out.put("  why: tally explain " + d.DecisionID + dir)
		}
	}
	return out.err
}

// send returns the last failed connection's error too.
func (c *burstCmd) send(ctx context.Context, ep Endpoint) (out burstResult, failure error) {
	url := strings.TrimSuffix(ep.Gateway, "/") + c.Path
	transport := ep.transport()
	transport.MaxIdleConnsPerHost, transport.MaxConnsPerHost = c.Concurrency, c.Concurrency
	defer transport.CloseIdleConnections()
	hc := &http.Client{Transport: transport, Timeout: time.Minute}
	out.ByStatus = map[string]int{}
	var mu sync.Mutex // guards out, failure and left
	left := c.N
	var wg sync.WaitGroup
	for range c.Concurrency {
		wg.Go(func() {
			for {
				mu.Lock()
				if left == 0 || ctx.Err() != nil {
					mu.Unlock()
					return
				}
				left--
				mu.Unlock()
				status, d, err := one(ctx, hc, url, c.Key)
				mu.Lock()
				out.Sent++
				out.ByStatus[status]++
				if d != nil {
					out.LastDenial = d
				}
				if err != nil {
					failure = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return out, failure
}

// one sends a request; a failed connection counts as "error".
func one(ctx context.Context, hc *http.Client, url, key string) (status string, d *denial, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "error", nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := hc.Do(req)
	if err != nil {
		return "error", nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read as far as it goes
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil && resp.StatusCode < 400 {
		return "error", nil, err
	}
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is kept
	if resp.StatusCode < 400 {
		return strconv.Itoa(resp.StatusCode), nil, nil
	}
	d = &denial{Status: resp.StatusCode, DecisionID: resp.Header.Get("Decision-Id")}
	if json.Valid(b) {
		d.Problem = b
	}
	return strconv.Itoa(resp.StatusCode), d, nil
}
