package envoy

import (
	"context"
	"slices"
	"strings"
	"testing"

	corepb "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authpb "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

func checkOf(method, path string, headers map[string]string, extensions ...string) *authpb.CheckRequest {
	a := &authpb.AttributeContext{Request: &authpb.AttributeContext_Request{Http: &authpb.AttributeContext_HttpRequest{
		Id: "1", Method: method, Path: path, Host: "api.example", Headers: headers, Scheme: "https", Protocol: "HTTP/2", Size: 5,
	}}}
	if len(extensions) > 0 {
		a.ContextExtensions = map[string]string{extensions[0]: extensions[1]}
	}
	return &authpb.CheckRequest{Attributes: a}
}

func bearerOf(key string) map[string]string {
	return map[string]string{"authorization": "Bearer " + key}
}

func (w *world) checked(r *authpb.CheckRequest) *authpb.CheckResponse {
	w.t.Helper()
	out, err := w.auth.Check(context.Background(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func options(all []*corepb.HeaderValueOption) map[string]string {
	m := map[string]string{}
	for _, o := range all {
		if o.GetAppendAction() != corepb.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			m["wrong action"] = o.GetHeader().GetKey()
		}
		m[o.GetHeader().GetKey()] = o.GetHeader().GetValue()
	}
	return m
}

func TestCheckAllows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "3"))
	headers := bearerOf("good")
	headers["tally-customer"], headers["tally_plan"], headers["Tally-Plan"], headers["tallyho"] = "else", "gold", "gold", "kept"
	r := w.checked(checkOf("GET", "/hello?a=b", headers))
	if c := r.GetStatus().GetCode(); c != int32(codes.OK) {
		t.Fatalf("status %d: %s", c, r)
	}
	ok := r.GetOkResponse()
	up := options(ok.GetHeaders())
	if len(up) != 2 || up["Tally-Customer"] != "acme" || up["Tally-Key-Id"] != keyID {
		t.Errorf("to the API: %v", up)
	}
	remove := ok.GetHeadersToRemove()
	slices.Sort(remove)
	if want := []string{"Tally-Plan", "authorization", "tally_plan"}; !slices.Equal(remove, want) {
		t.Errorf("removed %q, want %q", remove, want)
	}
	down := options(ok.GetResponseHeadersToAdd())
	if len(down) != 3 || down["RateLimit-Policy"] != `"daily";q=3;w=86400` || down["RateLimit"] != `"daily";r=2;t=43200` || !strings.HasPrefix(down["Decision-Id"], "dec_") {
		t.Errorf("to the caller: %v", down)
	}
	meta := r.GetDynamicMetadata().GetFields()
	if got := meta["decision"].GetStringValue(); got == "" || !strings.HasPrefix(down["Decision-Id"], got+".") {
		t.Errorf("decision %q of %s", got, down["Decision-Id"])
	}
	if meta["customer"].GetStringValue() != "acme" || meta["key_id"].GetStringValue() != keyID || len(meta) != 3 {
		t.Errorf("metadata %v", meta)
	}
	w.want(1, 0, 0)
}

func TestCheckDenies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "1"))
	w.checked(checkOf("GET", "/hello", bearerOf("good")))
	for _, c := range []struct {
		name, method, path, key string
		status                  int
		header, value           string
		body                    string
	}{
		{"quota", "GET", "/hello", "good", 429, "RateLimit", `"daily";r=0;t=43200`, `"code":"quota_exceeded"`},
		{"unknown key", "GET", "/hello", "bad", 401, "WWW-Authenticate", `Bearer realm="tallystick"`, `"code":"key_unknown"`},
		{"no route", "GET", "/nothing", "good", 404, "Content-Type", "application/problem+json", `"code":"route_unknown"`},
		{"another method", "POST", "/hello", "good", 404, "Cache-Control", "no-store", `"code":"route_unknown"`},
		{"dots in the path", "GET", "/free/../hello", "good", 404, "Cache-Control", "no-store", `"code":"route_unknown"`},
		{"no method", "", "/hello", "good", 404, "Cache-Control", "no-store", `"code":"route_unknown"`},
	} {
		r := w.checked(checkOf(c.method, c.path, bearerOf(c.key)))
		if r.GetStatus().GetCode() != int32(codes.PermissionDenied) {
			t.Errorf("%s: status %s", c.name, r.GetStatus())
		}
		d := r.GetDeniedResponse()
		h := options(d.GetHeaders())
		if int(d.GetStatus().GetCode()) != c.status || h[c.header] != c.value {
			t.Errorf("%s: %d %v", c.name, d.GetStatus().GetCode(), h)
		}
		contains(t, d.GetBody(), c.body, h["Decision-Id"], `"status":`)
		if c.status == 429 && !soon(h["Retry-After"]) {
			t.Errorf("%s: Retry-After %s", c.name, h["Retry-After"])
		}
		if h["Decision-Id"] == "" || h["wrong action"] != "" {
			t.Errorf("%s: headers %v", c.name, h)
		}
	}
	w.want(1, 0, 0)
}

func TestCheckReadsRawHeadersAndUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "5", func(c *catalog.Catalog) {
		c.KeyHeader, c.EndUser.Header = "X-Api-Key", "X-User"
	}))
	r := checkOf("GET", "/hello", nil)
	r.Attributes.Request.Http.HeaderMap = &corepb.HeaderMap{Headers: []*corepb.HeaderValue{
		{Key: "x-api-key", RawValue: []byte("good")}, {Key: "x-user", Value: "jo"},
	}}
	out := w.checked(r)
	if out.GetOkResponse() == nil {
		t.Fatalf("denied: %s", out)
	}
	if remove := out.GetOkResponse().GetHeadersToRemove(); !slices.Equal(remove, []string{"x-api-key"}) {
		t.Errorf("removed %q", remove)
	}
	if w.last.User != "jo" || w.last.Method != "GET" {
		t.Errorf("asked for %+v", w.last)
	}
}

func TestCheckHoldsUntilTheStreamIsDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "5"))
	r := w.checked(checkOf("GET", "/hello", bearerOf("good"), "settle", "stream_done"))
	w.want(0, 0, 1)
	w.told(r.GetDynamicMetadata().GetFields()["decision"].GetStringValue(), "status", "200")
	w.want(1, 0, 0)
	w.checked(checkOf("GET", "/hello", bearerOf("good"), "settle", "another word"))
	w.want(2, 0, 0)
	w.checked(checkOf("GET", "/free", bearerOf("good"), "settle", "stream_done")) // not metered: nothing to wait for
	if n := w.d.Stats().Open; n != 0 {
		t.Errorf("%d open", n)
	}
}

func TestCheckOfNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "5"))
	for _, r := range []*authpb.CheckRequest{{}, {Attributes: &authpb.AttributeContext{}}} {
		if d := w.checked(r).GetDeniedResponse(); d.GetStatus().GetCode() != 404 {
			t.Errorf("%s: %s", r, d)
		}
	}
}
