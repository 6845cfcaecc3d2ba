package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// result is what a load process measured.
type result struct {
	Requests int64         `json:"requests"`
	Denied   int64         `json:"denied"` // 401 and 429
	Failed   int64         `json:"failed"`
	Took     time.Duration `json:"took"`
	P50, P99 time.Duration
}

// plan is what a load process does.
type plan struct {
	URL, Key string
	Conns    int
	For      time.Duration
	Rate     int  // requests/s over all connections, whether answered or not; 0: as fast as it goes
	Distinct bool // each request has another key
}

// sendLoad sends requests on kept connections for a time: load PLAN, as JSON.
func sendLoad(args []string) error {
	var p plan
	if err := json.Unmarshal([]byte(args[0]), &p); err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: p.Conns, MaxConnsPerHost: p.Conns, DisableCompression: true}
	client := &http.Client{Transport: transport}
	var r result
	all := make([][]time.Duration, p.Conns)
	var denied, failed, serial atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for i := range p.Conns {
		wg.Go(func() {
			next := start
			if p.Rate > 0 { // the connections start one after the other
				next = start.Add(time.Duration(i) * time.Second / time.Duration(p.Rate))
			}
			for time.Since(start) < p.For {
				if p.Rate > 0 {
					time.Sleep(time.Until(next))
					next = next.Add(time.Duration(p.Conns) * time.Second / time.Duration(p.Rate))
				}
				key := p.Key
				if p.Distinct {
					key = fmt.Sprintf("%s%012d", p.Key, serial.Add(1))
				}
				t := time.Now()
				switch status := once(client, p.URL, key); status {
				case http.StatusOK:
				case http.StatusUnauthorized, http.StatusTooManyRequests:
					denied.Add(1)
				default:
					failed.Add(1)
				}
				all[i] = append(all[i], time.Since(t))
			}
		})
	}
	wg.Wait()
	lat := slices.Concat(all...)
	slices.Sort(lat)
	r.Requests, r.Denied, r.Failed, r.Took = int64(len(lat)), denied.Load(), failed.Load(), time.Since(start)
	if len(lat) > 0 {
		r.P50, r.P99 = lat[len(lat)/2], lat[len(lat)*99/100]
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// once sends one request and reads its answer; 0: that failed.
func once(c *http.Client, url, key string) int {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := c.Do(req)
	if err != nil {
		return 0
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.Body.Close() != nil || err != nil {
		return 0
	}
	return resp.StatusCode
}

// running is a load process that was started.
type running struct {
	cmd *exec.Cmd
	out io.ReadCloser
}

func begin(self string, p plan) (*running, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "load", string(b))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &running{cmd, out}, cmd.Start()
}

func (r *running) end() (result, error) {
	var out result
	if err := json.NewDecoder(r.out).Decode(&out); err != nil {
		return out, fmt.Errorf("load: %w", err)
	}
	if err := r.cmd.Wait(); err != nil {
		return out, fmt.Errorf("load: %w", err)
	}
	if out.Requests == 0 {
		return out, fmt.Errorf("no request was answered")
	}
	return out, nil
}

func run(self string, p plan) (result, error) {
	r, err := begin(self, p)
	if err != nil {
		return result{}, err
	}
	return r.end()
}

func dur(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2].Round(time.Microsecond)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func whole(f float64) string { return strconv.FormatFloat(f, 'f', 0, 64) }
