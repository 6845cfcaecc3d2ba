// Package load is what the benchmarks share: calls from many goroutines with their latencies, checks over gRPC, what is created over
// a server's API, processes with their CPU time, and medians.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Result is what one load measured.
type Result struct {
	Calls    int64         `json:"calls"`
	Failed   int64         `json:"failed"`
	Took     time.Duration `json:"took"`
	P50, P99 time.Duration
}

// Plan says how to call.
type Plan struct {
	Workers int           // goroutines
	Rate    int           // calls a second, due at fixed instants from which a call's latency runs; 0: a closed loop
	For     time.Duration // no call begins later
	Calls   int           // at most so many in all; 0: no bound
}

// Drive calls from many goroutines. Worker i's n-th call is call(i, n).
func Drive(p Plan, call func(worker, n int) error) Result {
	var told atomic.Bool // the first error stands for all
	all := make([][]time.Duration, p.Workers)
	failed := make([]int64, p.Workers)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range p.Workers {
		wg.Go(func() {
			for n := 0; p.Calls == 0 || n*p.Workers+i < p.Calls; n++ {
				due := time.Now()
				if p.Rate > 0 {
					due = began.Add(time.Duration(n*p.Workers+i) * time.Second / time.Duration(p.Rate))
					time.Sleep(time.Until(due))
				}
				if due.Sub(began) >= p.For {
					return
				}
				if err := call(i, n); err != nil {
					if failed[i]++; !told.Swap(true) {
						fmt.Fprintln(os.Stderr, "load:", err)
					}
				}
				all[i] = append(all[i], time.Since(due))
			}
		})
	}
	wg.Wait()
	r := Result{Took: time.Since(began)}
	lat := slices.Concat(all...)
	slices.Sort(lat)
	r.Calls = int64(len(lat))
	for _, f := range failed {
		r.Failed += f
	}
	if len(lat) > 0 {
		r.P50, r.P99 = lat[len(lat)/2], lat[len(lat)*99/100]
	}
	return r
}

// Create makes a customer, a subscription or a key over a server's API. secret is the new key's.
func Create(ctx context.Context, api, token, what string, body map[string]any) (secret string, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/v1/"+what, bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return "", fmt.Errorf("create %s: %s: %s", what, resp.Status, text)
	}
	var out struct{ Secret string }
	return out.Secret, json.Unmarshal(text, &out)
}

// Print writes the result where the process that wants it reads.
func (r Result) Print(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// CPU is the user and system time that a process has used so far, as the system accounts for it.
func CPU(pid int) (time.Duration, error) {
	own, _, err := times(pid)
	return own, err
}

// GroupCPU is that of a process group: its leader, the leader's children that have ended, and the others that live.
func GroupCPU(leader int) (time.Duration, error) {
	own, ended, err := times(leader)
	if err != nil {
		return 0, err
	}
	total := own + ended
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range procs {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == leader {
			continue
		}
		f, err := stat(pid)
		if err != nil || f[2] != strconv.Itoa(leader) { // it has ended, or is another's
			continue
		}
		if own, _, err := times(pid); err == nil {
			total += own
		}
	}
	return total, nil
}

// times are a process's own, and those of its children that have ended.
func times(pid int) (own, ended time.Duration, err error) {
	f, err := stat(pid)
	if err != nil {
		return 0, 0, err
	}
	var ticks [4]int64
	for i := range ticks {
		n, e := strconv.ParseInt(f[11+i], 10, 64)
		ticks[i], err = n, errors.Join(err, e)
	}
	const tick = time.Second / 100 // USER_HZ is 100 on Linux
	return time.Duration(ticks[0]+ticks[1]) * tick, time.Duration(ticks[2]+ticks[3]) * tick, err
}

// stat are the fields of /proc/PID/stat after the name: state, parent, group, …
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 15 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	return f, nil
}

// Machine is the machine's load average.
func Machine() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

// Median is the middle of some numbers.
func Median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
