package gateways

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/cli/problem"
	"github.com/tallystick/tallystick/internal/cli/ratelimit"
)

// doctorMax bounds how many requests one examination may send until the limit is reached.
const doctorMax = 100_000

// Doctor is tally doctor.
type Doctor struct {
	URL       string `arg:"" optional:"" name:"gateway-url" help:"Where callers reach the gateway, such as http://127.0.0.1:8081. Without it the server's journal and exports are examined."`
	Key       string `help:"API key to send; its quota is used." env:"TALLY_DOCTOR_KEY"`
	Path      string `help:"A metered path of the API." default:"/hello"`
	KeyHeader string `help:"Header of the key, where it is not Authorization: Bearer." placeholder:"NAME"`
	Requests  int    `help:"How many requests to measure with." default:"20"`
	Exhaust   bool   `help:"Send until a limit refuses, at most 100000 requests, and look at the refusal."`
	Echo      string `help:"A path at which the API answers with the headers that it got; to see that the key is not among them." placeholder:"PATH"`
	Direct    string `help:"Address of the API itself, to measure what the gateway adds." placeholder:"URL"`
	FailMode  bool   `help:"Tallystick was stopped by hand: see that nothing passes. No other check is made."`
}

// check is one finding.
type check struct {
	Name   string `json:"check"`
	Result string `json:"result" enum:"ok,warn,fail,skip"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

// exam is one examination.
type exam struct {
	*Doctor
	e       *cli.Env
	http    *http.Client
	api     cli.Server // known says whether there is one
	known   bool
	checks  []check
	sent    int // admitted, as far as the answers tell
	ours    int // refusals that bear a Decision-Id
	took    []time.Duration
	last    *reply // newest answer of the path with the key
	samples []*reply
}

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
	tls    bool
}

// Run examines the gateway, or without one the server; it fails when a check does.
func (c *Doctor) Run(e *cli.Env) error {
	if c.URL == "" {
		return c.server(e)
	}
	if c.Key == "" {
		return errors.New("--key is missing: an API key to send to the gateway; without a gateway's address the server is examined")
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%q is not an http or https address", c.URL)
	}
	if c.Requests < 2 || c.Requests > 1000 {
		return errors.New("--requests must be 2 to 1000")
	}
	for _, p := range []string{c.Path, cmp.Or(c.Echo, "/")} {
		if !strings.HasPrefix(p, "/") {
			return fmt.Errorf("%q does not begin with /", p)
		}
	}
	x := &exam{Doctor: c, e: e}
	transport := &http.Transport{DisableCompression: true, Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 4}
	if s, err := e.Server(); err == nil {
		x.api, x.known = s, true
		if s.Certificate != "" && sameOrigin(s.Gateway, c.URL) {
			transport = s.Transport()
		}
	}
	defer transport.CloseIdleConnections()
	x.http = &http.Client{
		Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	x.examine(e.Ctx)
	return x.tell()
}

func sameOrigin(a, b string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/") }

func (x *exam) examine(ctx context.Context) {
	if !x.reach(ctx) {
		return
	}
	if x.FailMode {
		x.failMode(ctx)
		return
	}
	before := x.usage()
	x.refusals(ctx)
	x.pass(ctx)
	if x.last != nil {
		x.fields()
		x.explains()
	}
	x.leaks(ctx)
	x.latency(ctx)
	if x.Exhaust {
		x.exhaust(ctx)
	} else {
		x.skip("refusal", "not looked at", "Use --exhaust with a key of a small plan.")
	}
	x.attribution(ctx, before)
	x.skip("fail mode", "not looked at", "Stop Tallystick for a moment, then run tally doctor "+x.URL+" --key KEY --fail-mode.")
}

func (x *exam) add(name, result, detail, fix string) {
	if result == "ok" {
		fix = ""
	}
	x.checks = append(x.checks, check{name, result, detail, fix})
}

func (x *exam) skip(name, detail, fix string) { x.add(name, "skip", detail, fix) }

// verdict adds a check that is ok without a fault.
func (x *exam) verdict(name, good, fault, fix string) {
	if fault == "" {
		x.add(name, "ok", good, "")
	} else {
		x.add(name, "fail", fault, fix)
	}
}

// ask sends one request; key may be empty.
func (x *exam) ask(ctx context.Context, base, path, key string) (*reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	if key != "" && x.KeyHeader != "" {
		req.Header.Set(x.KeyHeader, key)
	} else if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	start := x.e.Now()
	resp, err := x.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read as far as it is wanted
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	return &reply{resp.StatusCode, resp.Header, b, x.e.Now().Sub(start), resp.TLS != nil}, nil
}

// own is ask with the key, for an admitted answer.
func (x *exam) own(ctx context.Context, path string) (*reply, error) {
	r, err := x.ask(ctx, x.URL, path, x.Key)
	if err == nil && r.status < 400 {
		x.sent++
	}
	return r, err
}

func (x *exam) reach(ctx context.Context) bool {
	r, err := x.ask(ctx, x.URL, x.Path, "")
	if err != nil {
		x.add("reachable", "fail", "no answer: "+err.Error(), "Check the address and that the gateway runs; with TLS, that its certificate is trusted here.")
		return false
	}
	x.add("reachable", "ok", fmt.Sprintf("answers in %s", r.took.Round(10*time.Microsecond)), "")
	if r.tls {
		x.add("TLS", "ok", "the certificate is trusted", "")
	} else if host, _ := url.Parse(x.URL); slices.Contains([]string{"127.0.0.1", "localhost", "::1"}, host.Hostname()) {
		x.skip("TLS", "in clear text, on this machine", "")
	} else {
		x.add("TLS", "warn", "keys travel in clear text", "Serve callers over https.")
	}
	return true
}

// refusals looks at what is refused without using quota: no key, a wrong one, no route.
func (x *exam) refusals(ctx context.Context) {
	for _, c := range []struct {
		name, path, key, code string
		status                int
	}{
		{"401 without a key", x.Path, "", "key_missing", http.StatusUnauthorized},
		{"401 for a wrong key", x.Path, "tally_live_" + rand.Text(), "key_unknown", http.StatusUnauthorized},
		{"404 for no route", "/tally-doctor-" + strings.ToLower(rand.Text()), x.Key, "route_unknown", http.StatusNotFound},
	} {
		r, err := x.ask(ctx, x.URL, c.path, c.key)
		if err != nil {
			x.add(c.name, "fail", err.Error(), "See the gateway's log.")
			continue
		}
		if r.header.Get("Decision-Id") != "" {
			x.ours++
		}
		if r.status < 400 && c.status == http.StatusUnauthorized {
			x.add(c.name, "fail", fmt.Sprintf("answered %d: it passed", r.status), "The gateway does not ask Tallystick about this path. Take its configuration from tally gateway add.")
			continue
		}
		fault := refusalFault(r, c.status, c.code)
		x.verdict(c.name, strconv.Itoa(r.status)+" "+c.code, fault, refusalFix(r, c.status))
	}
}

// refusalFault compares a refusal with what it should be; "" when it is.
func refusalFault(r *reply, status int, code string) string {
	if r.status != status {
		return fmt.Sprintf("status %d, want %d", r.status, status)
	}
	if ct, _, _ := strings.Cut(r.header.Get("Content-Type"), ";"); ct != "application/problem+json" {
		return fmt.Sprintf("Content-Type %q, want application/problem+json", ct)
	}
	var p problem.Answer
	if err := json.Unmarshal(r.body, &p); err != nil {
		return "the body is no problem document"
	}
	if code != "" && p.Code != code {
		return fmt.Sprintf("problem code %q, want %q", p.Code, code)
	}
	if p.Status != status {
		return fmt.Sprintf("the problem says status %d, the answer %d", p.Status, status)
	}
	return ""
}

func refusalFix(r *reply, want int) string {
	switch {
	case r.status == http.StatusForbidden && want != http.StatusForbidden:
		return "The gateway turns each refusal into 403. Under nginx, answer from Tally-Status and Tally-Problem as the snippet does (tally gateway add nginx)."
	case r.status >= http.StatusInternalServerError:
		return "The gateway cannot reach Tallystick, or does not take its answer. See the gateway's log; under nginx the door's address needs ?status=403."
	}
	return "Let the gateway pass on status, headers and body of Tallystick's answer; tally gateway add prints how."
}

// pass sends the requests that must be admitted.
func (x *exam) pass(ctx context.Context) {
	for range x.Requests {
		r, err := x.own(ctx, x.Path)
		if err != nil {
			x.add("200 with the key", "fail", err.Error(), "See the gateway's log.")
			return
		}
		if r.status >= 400 {
			var p problem.Answer
			_ = json.Unmarshal(r.body, &p) // the API's own refusal is no problem document
			x.add("200 with the key", "fail", strings.TrimSpace(fmt.Sprintf("status %d %s after %d requests", r.status, p.Code, len(x.samples))),
				cmp.Or(p.Fix, "Use a key with quota left, and a --path that the API answers."))
			return
		}
		x.last = r
		x.samples = append(x.samples, r)
		x.took = append(x.took, r.took)
	}
	x.add("200 with the key", "ok", fmt.Sprintf("%d of %d", len(x.samples), x.Requests), "")
}

// fields looks at the RateLimit fields of admitted answers.
func (x *exam) fields() {
	const name = "RateLimit headers"
	if x.last.header.Get("Decision-Id") == "" || x.last.header.Get("RateLimit") == "" {
		missing := "RateLimit"
		if x.last.header.Get("Decision-Id") == "" {
			missing = "Decision-Id"
		}
		if x.ours > 0 && missing == "Decision-Id" {
			x.add(name, "warn", "on refusals only: this gateway keeps the answer of its question to itself", "Traefik's ForwardAuth cannot do more. Elsewhere take the configuration from tally gateway add.")
			return
		}
		if missing == "RateLimit" {
			x.add(name, "warn", "Decision-Id is there, RateLimit is not: the route is not metered, or has no limit but a spend cap", "Examine a metered --path; if it is one, let the gateway pass on RateLimit and RateLimit-Policy.")
			return
		}
		x.add(name, "fail", missing+" is missing on every answer", "Let the gateway pass on Decision-Id, RateLimit and RateLimit-Policy; tally gateway add prints how.")
		return
	}
	var before map[string]ratelimit.Standing
	for _, r := range x.samples {
		now, err := ratelimit.Read(r.header.Values("RateLimit-Policy"), r.header.Values("RateLimit"))
		if err == nil && before != nil {
			err = ratelimit.Follows(before, now)
		}
		if err != nil {
			x.add(name, "fail", err.Error(), "Something between Tallystick and the caller changes or repeats these fields; remove the other source.")
			return
		}
		before = now
	}
	x.add(name, "ok", x.last.header.Get("RateLimit"), "")
}

// explains opens the newest decision id.
func (x *exam) explains() {
	id := x.last.header.Get("Decision-Id")
	switch {
	case id == "":
		x.skip("Decision-Id explains", "there is none on admitted answers", "")
	case !x.known:
		x.skip("Decision-Id explains", "the server is not known here", "Name its folder with --dir, or set TALLY_URL and TALLY_TOKEN.")
	default:
		b, err := x.api.Ask(x.e, "", "/v1/decisions/explain", map[string]string{"decision_id": id})
		var d struct{ Outcome, Customer, Route string }
		if err == nil {
			err = json.Unmarshal(b, &d)
		}
		if err != nil {
			x.add("Decision-Id explains", "fail", err.Error(), "The id was made by another deployment, or cut: let the gateway pass it on whole.")
			return
		}
		x.add("Decision-Id explains", "ok", strings.TrimSpace(d.Outcome+" "+d.Customer+" "+d.Route), "")
	}
}

// leaks looks at what the API was sent.
func (x *exam) leaks(ctx context.Context) {
	const name = "key kept from the API"
	if x.Echo == "" {
		x.skip(name, "not looked at", "Name a path that answers with the headers it got: --echo /echo.")
		return
	}
	r, err := x.own(ctx, x.Echo)
	switch {
	case err != nil:
		x.add(name, "fail", err.Error(), "See the gateway's log.")
	case r.status >= 400:
		x.add(name, "fail", fmt.Sprintf("%s answered %d", x.Echo, r.status), "Declare a route for it.")
	case bytes.Contains(r.body, []byte(x.Key)):
		x.add(name, "fail", "the API was sent the caller's key", "Let the gateway remove the key's header before it forwards; tally gateway add prints how.")
	case !bytes.Contains(bytes.ToLower(r.body), []byte("tally-customer")):
		x.add(name, "fail", "the key is gone, but the API was not sent Tally-Customer", "Let the gateway set Tally-Customer and Tally-Key-Id from Tallystick's answer.")
	default:
		x.add(name, "ok", "the API sees Tally-Customer, not the key", "")
	}
}

// exhaust sends until a limit refuses.
func (x *exam) exhaust(ctx context.Context) {
	const name = "refusal"
	for range doctorMax {
		r, err := x.own(ctx, x.Path)
		if err != nil {
			x.add(name, "fail", err.Error(), "See the gateway's log.")
			return
		}
		if r.status < 400 {
			continue
		}
		fault := ""
		switch r.status {
		case http.StatusTooManyRequests:
			fault = refusalFault(r, r.status, "")
			after, err := strconv.Atoi(r.header.Get("Retry-After"))
			switch {
			case fault != "":
			case err != nil || after < 1:
				fault = fmt.Sprintf("Retry-After %q, want whole seconds of at least 1", r.header.Get("Retry-After"))
			case r.header.Get("RateLimit") == "":
				fault = "RateLimit is missing"
			}
		case http.StatusPaymentRequired:
			fault = refusalFault(r, r.status, "")
		default:
			fault = fmt.Sprintf("status %d, want 429 or 402", r.status)
		}
		x.verdict(name, fmt.Sprintf("%d after %d admitted, Retry-After %s", r.status, x.sent, cmp.Or(r.header.Get("Retry-After"), "-")), fault, refusalFix(r, http.StatusTooManyRequests))
		return
	}
	x.add(name, "warn", fmt.Sprintf("no limit refused within %d requests", doctorMax), "Examine with a key of a small plan.")
}

// failMode looks for anything that passes while Tallystick is away.
func (x *exam) failMode(ctx context.Context) {
	if x.known {
		if _, err := x.api.Ask(x.e, "", "/v1/status", nil); err == nil {
			x.add("fail mode", "fail", "Tallystick still answers", "Stop it first.")
			return
		}
	}
	r, err := x.ask(ctx, x.URL, x.Path, x.Key)
	switch {
	case err != nil:
		x.add("fail mode", "ok", "closed: no answer", "")
	case r.status >= http.StatusInternalServerError:
		x.add("fail mode", "ok", fmt.Sprintf("closed: %d", r.status), "")
	case r.status < 400:
		x.add("fail mode", "warn", fmt.Sprintf("open: %d passed, unmetered", r.status), "If that is not meant, let the gateway refuse when its question fails.")
	default:
		x.add("fail mode", "warn", fmt.Sprintf("status %d", r.status), "Callers should see 503 with Retry-After.")
	}
}

// latency compares with the API itself.
func (x *exam) latency(ctx context.Context) {
	if len(x.took) == 0 {
		return
	}
	p50, p99 := percentiles(x.took)
	through := fmt.Sprintf("p50 %s, p99 %s through the gateway", p50, p99)
	if x.Direct == "" {
		x.skip("latency", through, "Name the API's own address with --direct to see what the gateway adds.")
		return
	}
	var took []time.Duration
	for range x.Requests {
		r, err := x.ask(ctx, x.Direct, x.Path, "")
		if err != nil {
			x.add("latency", "warn", through+"; the API itself: "+err.Error(), "Check --direct.")
			return
		}
		took = append(took, r.took)
	}
	d50, d99 := percentiles(took)
	x.add("latency", "ok", fmt.Sprintf("%s; adds p50 %s, p99 %s", through, p50-d50, p99-d99), "")
}

func percentiles(took []time.Duration) (p50, p99 time.Duration) {
	sorted := slices.Sorted(slices.Values(took))
	const unit = 10 * time.Microsecond
	return sorted[len(sorted)/2].Round(unit), sorted[len(sorted)*99/100].Round(unit)
}

// tell prints the findings.
func (x *exam) tell() error {
	failed := 0
	for _, c := range x.checks {
		if c.Result == "fail" {
			failed++
		}
	}
	if x.e.JSON {
		out := map[string]any{"checks": x.checks, "failed": failed}
		if x.URL != "" {
			out["gateway"] = x.URL
		}
		if err := cli.PrintJSON(x.e.Stdout, out); err != nil {
			return err
		}
	} else {
		var out bytes.Buffer
		tw := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
		for _, c := range x.checks {
			fmt.Fprintf(tw, "%s\t%s\t%s\n", strings.ToUpper(c.Result), c.Name, c.Detail)
			if c.Fix != "" {
				fmt.Fprintf(tw, "\t\t→ %s\n", c.Fix)
			}
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		if _, err := x.e.Stdout.Write(out.Bytes()); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(x.checks))
	}
	return nil
}
