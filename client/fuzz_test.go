package client_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/client"
	"github.com/tallystick/tallystick/internal/core/account"
)

// FuzzSound: what the client takes for the form of a key is what the server takes for it.
func FuzzSound(f *testing.F) {
	secret, err := account.NewSecret(account.Live, strings.NewReader(strings.Repeat("0123456789abcdef", 2)))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{secret, "", "tally_live_", secret[:59] + "0", secret[1:], strings.Replace(secret, "live", "test", 1), strings.Repeat("\xff", 60)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := client.Sound(s), account.CheckSecret(s) == nil; got != want {
			t.Errorf("%q: %v, the server says %v", s, got, want)
		}
	})
}

// FuzzBearer: nothing but what follows the scheme is a key.
func FuzzBearer(f *testing.F) {
	for _, s := range []string{"Bearer x", "bearer  x ", "Basic x", "bearer", "", "Bearer\tx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if key := client.Bearer(s); key != "" && (key != strings.TrimSpace(key) || !strings.HasSuffix(strings.TrimSpace(s), key) || client.Bearer("Bearer "+key) != key) {
			t.Errorf("%q is read as %q", s, key)
		}
	})
}

// FuzzProblem: whatever answers, the error is a problem with the answer's status, and can be passed on.
func FuzzProblem(f *testing.F) {
	f.Add(429, `{"status":200,"code":"quota_exceeded","retry_after_s":3,"violated-policies":["x"]}`)
	f.Add(502, `<html>`)
	f.Add(503, `{"code":"x","retry_after_s":-1,"errors":[{}]}`)
	f.Add(401, `{"code":7}`)
	f.Add(500, `null`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		status = 300 + (status%300+300)%300
		var p *client.Problem
		if err := client.ProblemOf(&http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}); !errors.As(err, &p) {
			t.Fatalf("%v is no problem", err)
		}
		w := httptest.NewRecorder()
		p.Write(w)
		if p.Status != status || p.Code == "" || w.Code != status || !json.Valid(w.Body.Bytes()) || w.Header().Get("Retry-After") == "0" || p.Error() == "" {
			t.Errorf("%+v: %d %s", p, w.Code, w.Body)
		}
	})
}
