package gateways

import (
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	s := &site{}
	err := s.place([]catalog.Route{
		{Match: "GET /hello", Upstream: "http://a:1"},
		{Match: "POST /hello", Upstream: "http://a:1"},
		{Match: "/v1/{id}/x", Upstream: "https://b/base/"},
		{Match: "GET example.com/v1/users/", Upstream: "http://a:1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range s.Places {
		got = append(got, p.Path+map[bool]string{true: "=", false: "*"}[p.Exact]+" "+p.Upstream.Host+p.Upstream.Base)
	}
	const want = "/v1/users/* a:1|/hello= a:1|/v1/* b:443/base|/* a:1"
	if g := strings.Join(got, "|"); g != want {
		t.Errorf("%s, want %s", g, want)
	}
	err = (&site{}).place([]catalog.Route{{Match: "GET /x", Upstream: "http://a:1"}, {Match: "POST /x", Upstream: "http://b:1"}})
	if err == nil || !strings.Contains(err.Error(), `"POST /x"`) {
		t.Errorf("two upstreams of one path: %v", err)
	}
	if err := (&site{}).place(nil); err == nil {
		t.Error("a catalog without routes is no fault")
	}
}

// TestSnippets looks for what every gateway must do: ask, tell the API who calls, and keep the key from it. The real programs
// run in test/doors.
func TestSnippets(t *testing.T) {
	t.Parallel()
	door, _ := addressOf("http://127.0.0.1:8080")
	for _, k := range gatewayKinds() {
		s := &site{Listen: "127.0.0.1:8090", IP: "127.0.0.1", Port: "8090", KeyHeader: "X-Api-Key", Token: "0123456789abcdef", Hold: "30s", Door: door, Asked: []string{"x-api-key"}, GRPC: "127.0.0.1:8082", GRPCHost: "127.0.0.1", GRPCPort: "8082"}
		if err := s.place([]catalog.Route{{Match: "GET /hello", Upstream: "http://a:1"}, {Match: "/v1/", Upstream: "https://b/base"}}); err != nil {
			t.Fatal(err)
		}
		files, err := s.render(k)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, f := range files {
			text += f.Text
		}
		wanted := []string{"/doors/auth", "hold=30s", "0123456789abcdef", "a:1", "b:443", "/base", "/v1/", "GET /hello"}
		if k.Name == "envoy" { // it asks over gRPC, and the door takes the key away
			wanted = []string{"ext_authz", "port_value: 8082", `address: "a", port_value: 1`, `address: "b", port_value: 443`, "/base/v1/", "GET /hello"}
		}
		for _, want := range wanted {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q", k.Name, want)
			}
		}
		if k.Name != "envoy" && !strings.Contains(strings.ToLower(text), "x-api-key") || strings.Contains(text, "<no value>") {
			t.Errorf("%s: the key's header is missing, or a value is", k.Name)
		}
	}
}
