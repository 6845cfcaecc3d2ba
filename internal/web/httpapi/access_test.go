package httpapi_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/web/httpapi"
	"github.com/tallystick/tallystick/internal/web/session"
)

// TestUnauthenticatedRoutes holds the list of routes that anybody may call in a golden file. All others need the token.
func TestUnauthenticatedRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var open bytes.Buffer
	for _, pattern := range httpapi.Patterns(w.h) {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.NewReplacer("{", "", "}", "").Replace(path)
		a := w.call(method, path, `{}`, "Authorization", "")
		if a.status == http.StatusUnauthorized && a.text(t, "code") == "token_missing" {
			continue
		}
		open.WriteString(pattern + "\n")
	}
	compare(t, filepath.Join("testdata", "unauthenticated_routes.txt"), open.Bytes())
}

func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	key := w.subscribe("acme", "free")
	cookie, _ := session.New(make([]byte, 32), token, w.now).Sign(session.Operator, "operator", session.OperatorTTL)
	tests := []struct {
		name, path, authorization, code string
		status                          int
	}{
		{"good", "/v1/customers", "Bearer " + token, "", http.StatusOK},
		{"scheme in lower case", "/v1/customers", "bearer " + token, "", http.StatusOK},
		{"missing", "/v1/customers", "", "token_missing", http.StatusUnauthorized},
		{"no scheme", "/v1/customers", token, "token_missing", http.StatusUnauthorized},
		{"another scheme", "/v1/customers", "Basic " + token, "token_missing", http.StatusUnauthorized},
		{"wrong", "/v1/customers", "Bearer tally_op_wrong", "token_unknown", http.StatusUnauthorized},
		{"a gateway key", "/v1/customers", "Bearer " + key, "token_unknown", http.StatusUnauthorized},
		{"a session", "/v1/customers", "Bearer " + cookie, "token_unknown", http.StatusUnauthorized},
		{"unknown path", "/v1/nothing", "", "token_missing", http.StatusUnauthorized},
		{"own limits", "/v1/limits/me", "Bearer " + key, "", http.StatusOK},
		{"own limits without a key", "/v1/limits/me", "", "key_missing", http.StatusUnauthorized},
		{"own limits with garbage", "/v1/limits/me", "Bearer garbage", "key_unknown", http.StatusUnauthorized},
		{"own limits with the token", "/v1/limits/me", "Bearer " + token, "key_unknown", http.StatusUnauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := w.call(http.MethodGet, tt.path, "", "Authorization", tt.authorization, "Cookie", "tally_session="+cookie)
			if a.status != tt.status {
				t.Fatalf("status %d, want %d: %s", a.status, tt.status, a.body)
			}
			if tt.code == "" {
				return
			}
			if got := a.text(t, "code"); got != tt.code {
				t.Errorf("code %s, want %s", got, tt.code)
			}
			if a.header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
		})
	}
}

func TestNoSubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`)
	key := w.want(http.StatusCreated, http.MethodPost, "/v1/keys", `{"customer":"acme"}`)
	secret := key.text(t, "secret")
	a := w.want(http.StatusForbidden, http.MethodGet, "/v1/limits/me", "", "Authorization", "Bearer "+secret)
	if a.text(t, "code") != "no_subscription" {
		t.Errorf("%s", a.body)
	}
	if p := w.want(http.StatusOK, http.MethodGet, "/v1/customers/acme/limits", ""); p.text(t, "plan") != "" {
		t.Errorf("%s", p.body)
	}
	w.want(http.StatusOK, http.MethodPost, "/v1/keys/"+key.text(t, "id")+"/revoke", "")
	a = w.want(http.StatusUnauthorized, http.MethodGet, "/v1/limits/me", "", "Authorization", "Bearer "+secret)
	if a.text(t, "code") != "key_revoked" {
		t.Errorf("%s", a.body)
	}
}

// TestNoWayAround: no spelling of a path reaches a handler of /v1 without the token.
func TestNoWayAround(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{
		"//v1/customers", "/v1//customers", "/%76%31/customers", "/v1%2Fcustomers", "/errors/../v1/customers", "/errors/%2e%2e/v1/customers",
		"/V1/customers", "/./v1/customers", "/v1/limits/me/../../customers", "/v1/limits/../customers",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://x"+path, nil)
		rec := httptest.NewRecorder()
		w.h.ServeHTTP(rec, r)
		if rec.Code < http.StatusMultipleChoices {
			t.Errorf("%s: status %d: %s", path, rec.Code, rec.Body)
		}
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for path, body := range map[string]string{"/healthz": "ok\n", "/readyz": "ok\n", "/metrics": "tally_up 1\n"} {
		if a := w.want(http.StatusOK, http.MethodGet, path, "", "Authorization", ""); string(a.body) != body {
			t.Errorf("%s: %q", path, a.body)
		}
	}
	w.ready = false
	w.want(http.StatusServiceUnavailable, http.MethodGet, "/readyz", "")
	w.want(http.StatusOK, http.MethodGet, "/healthz", "")
	if a := w.want(http.StatusOK, http.MethodGet, "/openapi.yaml", ""); !strings.HasPrefix(string(a.body), "components:") {
		t.Errorf("%.100s", a.body)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/v1/customers", "/v1/customers/none", "/v1/nothing", "/errors", "/healthz"} {
		a := w.get(path)
		if !strings.HasPrefix(a.header.Get("Request-Id"), "req_") || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, a.header)
		}
		if strings.HasPrefix(path, "/v1") && a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached", path)
		}
		if a.header.Get("Content-Type") == "application/problem+json" && a.text(t, "request_id") != a.header.Get("Request-Id") {
			t.Errorf("%s: request ids differ: %s", path, a.body)
		}
	}
}
