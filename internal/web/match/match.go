// Package match finds out what a request is to the catalog: its route, its key, its end user. All doors share it.
package match

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// Table is a catalog version's routes, ready to be matched. It is safe for concurrent use.
type Table struct {
	Version   int64
	KeyHeader string // empty: Authorization: Bearer
	EndUser   catalog.EndUser
	mux       *http.ServeMux
	routes    []*catalog.Route
}

// handler carries a route's index through http.ServeMux; it never serves.
type handler int

func (handler) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusInternalServerError)
}

// New builds the table. A route whose pattern http.ServeMux does not take is left out and logged.
func New(cat *catalog.Compiled, log *slog.Logger) *Table {
	t := &Table{Version: cat.Version, KeyHeader: cat.KeyHeader, EndUser: cat.EndUser, mux: http.NewServeMux()}
	for i := range cat.Routes {
		t.add(&cat.Routes[i], log)
	}
	return t
}

func (t *Table) add(r *catalog.Route, log *slog.Logger) {
	defer func() {
		if fault := recover(); fault != nil { // ServeMux panics on patterns it does not like
			log.Error("route left out", slog.String("match", r.Match), slog.Any("fault", fault))
		}
	}()
	t.mux.Handle(r.Match, handler(len(t.routes)))
	t.routes = append(t.routes, r)
}

// Routes are those in the table; Find answers with an index into them.
func (t *Table) Routes() []*catalog.Route { return t.routes }

// Find is the index of the route that a request takes, -1 for none. It looks at method, host and path.
func (t *Table) Find(r *http.Request) int {
	h, _ := t.mux.Handler(r)
	if i, ok := h.(handler); ok {
		return int(i)
	}
	return -1
}

// Lookup is Find for a request that is told of: target is its path, with or without a query. nil: no route.
func (t *Table) Lookup(method, host, target string) *catalog.Route {
	path, query, _ := strings.Cut(target, "?")
	u := &url.URL{Host: host, Path: path, RawQuery: query}
	if unescaped, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = unescaped, path
	}
	if i := t.Find(&http.Request{Method: method, Host: host, URL: u, RequestURI: target}); i >= 0 {
		return t.routes[i]
	}
	return nil
}

// Secret reads the key from the header that the catalog names, or Authorization: Bearer. get is like http.Header.Get.
func (t *Table) Secret(get func(name string) string) string {
	if t.KeyHeader != "" {
		return get(t.KeyHeader)
	}
	return bearer(get("Authorization"))
}

func bearer(v string) string {
	const scheme = "bearer "
	if len(v) > len(scheme) && strings.EqualFold(v[:len(scheme)], scheme) {
		return strings.TrimSpace(v[len(scheme):])
	}
	return ""
}

// userMax bounds what is taken as an end user's name, in bytes; tokenMax a token that it is read from.
const (
	userMax  = 256
	tokenMax = 16 << 10
)

// User is the end user that a request names; empty for none, and for what is too long or malformed.
func (t *Table) User(get func(name string) string) string {
	if t.EndUser.Header == "" {
		return ""
	}
	v := get(t.EndUser.Header)
	if t.EndUser.Claim != "" {
		if token := bearer(v); token != "" {
			v = token
		}
		v = claim(v, t.EndUser.Claim)
	}
	if len(v) > userMax {
		return ""
	}
	return v
}

// claim reads a text or number from the payload of a JWT (RFC 7519). The signature is not looked at.
func claim(token, name string) string {
	_, rest, ok := strings.Cut(token, ".")
	payload, _, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || len(token) > tokenMax {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var claims map[string]json.RawMessage
	if json.Unmarshal(raw, &claims) != nil {
		return ""
	}
	var text string
	if json.Unmarshal(claims[name], &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(claims[name], &number) == nil {
		return number.String()
	}
	return ""
}
