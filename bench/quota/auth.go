package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/bench/load"
)

// floorHTTP answers every request with the headers of an admission and nothing behind them.
func floorHTTP() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		os.Exit(0)
	}()
	policy, limit, id := strings.Repeat(`"monthly";q=100000000000;w=2592000, `, 5), strings.Repeat(`"monthly";r=99999999999;t=1296000, `, 5), "dec_"+strings.Repeat("x", 300)
	return (&http.Server{ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Ratelimit-Policy"], h["Ratelimit"], h["Decision-Id"] = []string{policy}, []string{limit}, []string{id}
		h["Tally-Customer"], h["Tally-Key-Id"] = []string{"c0"}, []string{"key_01m856f9shrd12733kmzwg6vgx"}
		w.WriteHeader(http.StatusOK)
	})}).Serve(l)
}

// ask is what a proxy asks for a caller.
func ask(url, key string) (*http.Request, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("X-Forwarded-Method", http.MethodGet)
	req.Header.Set("X-Forwarded-Uri", "/hello?q=1")
	return req, nil
}

// loadHTTP asks for the keys of a file in turn: load-http URL FILE CONNECTIONS DURATION RATE.
func loadHTTP(args []string) error {
	b, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	keys := strings.Fields(string(b))
	conns, err1 := strconv.Atoi(args[2])
	d, err2 := time.ParseDuration(args[3])
	rate, err3 := strconv.Atoi(args[4])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns, DisableCompression: true}}
	r := load.Drive(load.Plan{Workers: conns, Rate: rate, For: d}, func(worker, n int) error {
		req, err := ask(args[0], keys[(n*conns+worker)%len(keys)])
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode/100 != 2 {
			err = errors.Join(err, errors.New(resp.Status))
		}
		return errors.Join(err, resp.Body.Close())
	})
	return r.Print(os.Stdout)
}

// compareAuth prints the table of the door for proxies that ask over HTTP, where the binary has one.
func compareAuth(o options) error {
	dir, err := os.MkdirTemp("", "tally-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	ours, err := startTally(o.tally, dir, 1)
	if ours != nil {
		defer ours.Stop()
	}
	if err != nil {
		return err
	}
	req, err := ask(ours.api+o.authPath, ours.keys[0])
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		fmt.Printf("\nforward auth: NOT RUN: %s%s answers %s\n", ours.api, o.authPath, resp.Status)
		return nil
	}
	floor, err := startSelf("floor-http")
	if err != nil {
		return err
	}
	defer floor.Stop()
	file := filepath.Join(dir, "keys")
	if err := os.WriteFile(file, []byte(ours.keys[0]), 0o600); err != nil {
		return err
	}
	conns := o.conns * o.depth
	side := func(c *load.Child, url string, rate int) func() (sample, error) {
		return func() (sample, error) {
			return measure(c, "load-http", url, file, strconv.Itoa(conns), o.each.String(), strconv.Itoa(rate))
		}
	}
	for _, c := range []comparison{
		{
			title: fmt.Sprintf("forward auth over HTTP/1.1, one key, saturated: %d connections", conns), rounds: o.rounds, aim: "0.8",
			floor: side(floor, floor.Line+"/", 0), ours: side(ours.Child, ours.api+o.authPath, 0),
		},
		{
			title: fmt.Sprintf("the same at %d checks/s", o.rate), rounds: o.rounds,
			floor: side(floor, floor.Line+"/", o.rate), ours: side(ours.Child, ours.api+o.authPath, o.rate),
		},
	} {
		if err := c.run(); err != nil {
			return err
		}
	}
	return nil
}
