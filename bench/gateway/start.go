package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/bench/load"
)

// child is a process that prints one line when it serves, and is measured.
type child struct{ *load.Child }

func start(name string, args ...string) (*child, error) {
	c, err := load.Start(name, args...)
	if err != nil {
		return nil, err
	}
	return &child{c}, nil
}

// cpu is the user and system time that a process and its own processes have used.
func (c *child) cpu() (time.Duration, error) {
	pid := strconv.Itoa(c.Cmd.Process.Pid)
	total, err := cpuOf(pid)
	if err != nil {
		return 0, err
	}
	below, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	if err != nil {
		return total, nil // this kernel does not tell
	}
	for p := range strings.FieldsSeq(string(below)) {
		d, err := cpuOf(p)
		if err != nil {
			return 0, err
		}
		total += d
	}
	return total, nil
}

// rss is the memory that a process holds, in bytes.
func (c *child) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.Cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	n, err := strconv.ParseInt(f[1], 10, 64)
	return n * int64(os.Getpagesize()), err
}

func cpuOf(pid string) (time.Duration, error) {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100), errors.Join(err1, err2) // USER_HZ is 100 on Linux
}

const catalog = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count, dimensions: [route, status]}
plans:
  - key: bench
    currency: USD
    limits:
      - {key: burst, meter: api_calls, token_bucket: {rate: "1000000/s", burst: 1000000}}
      - {key: hourly, meter: api_calls, quota: "1000000000", window: hour}
      - {key: daily, meter: api_calls, quota: "1000000000", window: day}
      - {key: weekly, meter: api_calls, quota: "1000000000", window: week}
      - {key: period, meter: api_calls, quota: "10000000000", window: billing_period}
  - key: small
    currency: USD
    limits:
      - {key: burst, meter: api_calls, token_bucket: {rate: "200/s", burst: 200}}
gateway:
  routes:
    - {match: "GET /hello", upstream: "%s", meter: api_calls}
`

// startTally serves the benchmark's catalog and makes a key. The first line of "serve" goes to stderr, so readiness is asked for.
func startTally(tally, dir, upstream string) (c *child, gatewayURL, key, small string, err error) {
	file := filepath.Join(dir, "bench.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, catalog, upstream), 0o600); err != nil {
		return nil, "", "", "", err
	}
	data := filepath.Join(dir, "data")
	cmd := exec.Command(tally, "serve", "--catalog", file, "--dir", data, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", "", "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", "", "", err
	}
	c = &child{&load.Child{Cmd: cmd, In: in}}
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
		return c, "", "", "", err
	}
	var keys []string
	for _, name := range []string{"bench", "small"} {
		for _, args := range [][]string{{"customers", "create", name}, {"subscriptions", "create", name, name}} {
			if _, err := run(args...); err != nil {
				return c, "", "", "", err
			}
		}
		m, err := run("keys", "create", name)
		if err != nil {
			return c, "", "", "", err
		}
		keys = append(keys, fmt.Sprint(m["secret"]))
	}
	b, err := os.ReadFile(filepath.Join(data, "client.json"))
	if err != nil {
		return c, "", "", "", err
	}
	var ep struct{ Gateway string }
	return c, ep.Gateway, keys[0], keys[1], json.Unmarshal(b, &ep)
}

const nginxConf = `worker_processes auto;
daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  keepalive_requests 100000000;
  limit_req_zone $http_authorization zone=keys:10m rate=1000000r/s;
  upstream api { server %[3]s; keepalive 256; keepalive_requests 100000000; }
  server {
    listen %[2]s;
    location / {
      limit_req zone=keys burst=1000000 nodelay;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_pass http://api;
    }
  }
}
`

// errNone says that a program is not installed.
var errNone = errors.New("not installed")

// startNginx serves the upstream through nginx with limit_req; it does not meter.
func startNginx(dir, upstream string) (*child, error) {
	bin, err := exec.LookPath("nginx")
	if err != nil {
		return nil, errNone
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, addr, strings.TrimPrefix(upstream, "http://")), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, "-c", conf, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{&load.Child{Cmd: cmd, In: in, Line: "http://" + addr}}
	for range 100 {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c, conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.Stop()
	return nil, errors.New("nginx does not serve")
}
