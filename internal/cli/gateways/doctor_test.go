package gateways

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/web/answer"
)

// sound is a gateway that does everything right, for a key with some calls left.
func sound(left int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Decision-Id", "dec_1.x")
		deny := func(p answer.Problem) { answer.Write(w, p) }
		switch key := r.Header.Get("Authorization"); {
		case strings.HasPrefix(r.URL.Path, "/tally-doctor-"):
			deny(answer.Problem{Code: "route_unknown", Status: 404})
		case key == "":
			deny(answer.Problem{Code: "key_missing", Status: 401})
		case key != "Bearer good":
			deny(answer.Problem{Code: "key_unknown", Status: 401})
		default:
			left--
			h.Set("RateLimit-Policy", `"daily";q=1000;w=86400`)
			h.Set("RateLimit", fmt.Sprintf(`"daily";r=%d;t=3600`, max(left, 0)))
			if left < 0 {
				deny(answer.Problem{Code: "quota_exceeded", Status: 429, RetryAfter: 3600})
				return
			}
			fmt.Fprint(w, `{"Tally-Customer":"beta"}`)
		}
	}
}

// spoiled is a proxy in front of the sound gateway that spoils its answers.
func spoiled(h http.HandlerFunc, spoil func(r *http.Request, rec *httptest.ResponseRecorder)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		h(rec, r)
		spoil(r, rec)
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}
}

// doctor examines a gateway, and returns the findings by their names.
func doctor(t *testing.T, h http.HandlerFunc, c Doctor) (map[string]check, error) {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	var out bytes.Buffer
	c.URL, c.Key, c.Path, c.Requests = s.URL, "good", "/hello", 5
	err := c.Run(&cli.Env{
		Ctx: t.Context(), Stdout: &out, Stderr: &out, JSON: true, Dir: t.TempDir(), Now: time.Now,
		Wait: func(context.Context, time.Duration) error { return nil },
	})
	var told struct{ Checks []check }
	if jerr := json.Unmarshal(out.Bytes(), &told); jerr != nil {
		t.Fatalf("%v: %s", jerr, out.String())
	}
	found := map[string]check{}
	for _, f := range told.Checks {
		found[f.Name] = f
	}
	return found, err
}

func TestDoctorOfASoundGateway(t *testing.T) {
	t.Parallel()
	found, err := doctor(t, sound(50), Doctor{Exhaust: true, Echo: "/echo"})
	if err != nil {
		t.Errorf("%v: %+v", err, found)
	}
	for _, name := range []string{"reachable", "401 without a key", "401 for a wrong key", "404 for no route", "200 with the key", "RateLimit headers", "key kept from the API", "refusal"} {
		if found[name].Result != "ok" {
			t.Errorf("%s: %+v", name, found[name])
		}
	}
}

// TestDoctorOfBrokenGateways spoils one thing each; the doctor must fail and say what to do.
func TestDoctorOfBrokenGateways(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, check, result, fix string
		spoil                    func(*http.Request, *httptest.ResponseRecorder)
	}{
		{"strips our headers", "RateLimit headers", "fail", "tally gateway add", func(_ *http.Request, rec *httptest.ResponseRecorder) {
			for _, n := range []string{"Decision-Id", "RateLimit", "RateLimit-Policy"} {
				rec.Header().Del(n)
			}
		}},
		{"strips them on success", "RateLimit headers", "warn", "ForwardAuth", func(_ *http.Request, rec *httptest.ResponseRecorder) {
			if rec.Code == 200 {
				rec.Header().Del("Decision-Id")
			}
		}},
		{"403 for each refusal", "refusal", "fail", "Tally-Status", func(_ *http.Request, rec *httptest.ResponseRecorder) {
			if rec.Code >= 400 {
				rec.Code = 403
			}
		}},
		{"500 for each refusal", "401 without a key", "fail", "?status=403", func(_ *http.Request, rec *httptest.ResponseRecorder) {
			if rec.Code >= 400 {
				rec.Code = 500
			}
		}},
		{"no Retry-After", "refusal", "fail", "pass on", func(_ *http.Request, rec *httptest.ResponseRecorder) { rec.Header().Del("Retry-After") }},
		{"Retry-After: 0", "refusal", "fail", "pass on", func(_ *http.Request, rec *httptest.ResponseRecorder) { rec.Header().Set("Retry-After", "0") }},
		{"its own error pages", "401 for a wrong key", "fail", "pass on", func(_ *http.Request, rec *httptest.ResponseRecorder) {
			if rec.Code >= 400 {
				rec.Body = bytes.NewBufferString("<html>")
				rec.Header().Del("Content-Length")
				rec.Header().Set("Content-Type", "text/html")
			}
		}},
		{"fields twice", "RateLimit headers", "fail", "other source", func(_ *http.Request, rec *httptest.ResponseRecorder) {
			rec.Header().Add("RateLimit", rec.Header().Get("RateLimit"))
		}},
		{"a cached field", "RateLimit headers", "fail", "other source", func(r *http.Request, rec *httptest.ResponseRecorder) {
			var left int
			if _, err := fmt.Sscanf(rec.Header().Get("RateLimit"), `"daily";r=%d`, &left); err == nil {
				rec.Header().Set("RateLimit", fmt.Sprintf(`"daily";r=%d;t=3600`, 900-left))
			}
		}},
		{"passes without a key", "401 without a key", "fail", "does not ask", func(r *http.Request, rec *httptest.ResponseRecorder) {
			if rec.Code == 401 {
				rec.Code = 200
			}
		}},
		{"leaks the key", "key kept from the API", "fail", "remove the key", func(r *http.Request, rec *httptest.ResponseRecorder) {
			if r.URL.Path == "/echo" {
				rec.Body.WriteString(r.Header.Get("Authorization"))
			}
		}},
	} {
		found, err := doctor(t, spoiled(sound(50), c.spoil), Doctor{Exhaust: true, Echo: "/echo"})
		f := found[c.check]
		if (err != nil) != (c.result == "fail") || f.Result != c.result || !strings.Contains(f.Fix, c.fix) {
			t.Errorf("%s: %v, %+v", c.name, err, f)
		}
	}
}

func TestDoctorOfNoGateway(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	var out bytes.Buffer
	err := (&Doctor{URL: s.URL, Key: "good", Path: "/", Requests: 2}).Run(&cli.Env{Ctx: t.Context(), Stdout: &out, Stderr: &out, Dir: t.TempDir(), Now: time.Now})
	if err == nil || !strings.Contains(out.String(), "FAIL  reachable") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// TestDoctorOfTheServer: without a gateway's address the server's own checks are told, and one that failed is an exit code.
func TestDoctorOfTheServer(t *testing.T) {
	checks := `{"checks":[{"check":"journal topic","result":"ok","detail":"fine"}]}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/checks" || r.Header.Get("Authorization") != "Bearer op" {
			t.Errorf("%s %v", r.URL, r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, checks)
	}))
	defer s.Close()
	t.Setenv("TALLY_URL", s.URL)
	t.Setenv("TALLY_TOKEN", "op")
	run := func() (string, error) {
		var out bytes.Buffer
		err := (&Doctor{}).Run(&cli.Env{Ctx: t.Context(), Stdout: &out, Stderr: &out})
		return out.String(), err
	}
	if text, err := run(); err != nil || text != "OK  server         answers at "+s.URL+"\nOK  journal topic  fine\n" {
		t.Errorf("%v\n%s", err, text)
	}
	checks = `{"checks":[{"check":"export x","result":"fail","detail":"away","fix":"Bring it back."}]}`
	if text, err := run(); err == nil || !strings.Contains(text, "FAIL  export x  away\n") || !strings.Contains(text, "→ Bring it back.") {
		t.Errorf("%v\n%s", err, text)
	}
	if err := (&Doctor{URL: s.URL}).Run(&cli.Env{Ctx: t.Context()}); err == nil || !strings.Contains(err.Error(), "--key is missing") {
		t.Errorf("a gateway without a key: %v", err)
	}
}
