package nodes_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestAllWays: a gateway in a process of its own has the ways in that a single process has, and one limit holds over all of them.
func TestAllWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gates[0]
	g.stop()
	addr := freeAddress(t)
	g.args = []string{"--grpc", addr}
	g.start()
	g.ready()
	secret := w.customer("ways", "hundred")
	client := &http.Client{Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	envoy := authv3.NewAuthorizationClient(conn)
	ways := map[string]func() (admitted bool){
		"gateway": func() bool {
			status, _, _, err := g.ask(client, secret)
			if err != nil {
				t.Fatal(err)
			}
			return status == http.StatusOK
		},
		"door": func() bool {
			req, err := http.NewRequestWithContext(patient(t), http.MethodGet, g.api+"/doors/auth", nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{
				"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/hello", "X-Forwarded-Host": "api.example.com", "Authorization": "Bearer " + secret,
			} {
				req.Header.Set(name, value)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		},
		"envoy": func() bool {
			resp, err := envoy.Check(patient(t), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
				Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/hello", Host: "api.example.com", Headers: map[string]string{"authorization": "Bearer " + secret}},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			return resp.GetStatus().GetCode() == 0
		},
	}
	for i := range 34 {
		for name, ask := range ways {
			if i < 33 && !ask() {
				t.Fatalf("%s, round %d: refused", name, i+1)
			}
		}
	}
	var more int
	for range 4 {
		for _, ask := range ways {
			if ask() {
				more++
			}
		}
	}
	if more != 1 {
		t.Errorf("after 99 another %d were admitted, want 1", more)
	}
	text := get(t, client, g.api+"/metrics")
	for _, want := range []string{"tally_door_checks_total 37", "tally_gateway_connections ", "tally_envoy_open ", "tally_shaped_waiting 0", "tally_reports_lost_total 0"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the gateway's metrics", want)
		}
	}
	if text := get(t, client, w.endpoint.API+"/metrics"); !strings.Contains(text, `tally_gateway_connected{name="gate-1"`) {
		t.Error("a server's metrics do not name the gateway")
	}
	g.stop()
	if usage := w.books("ways"); usage != 100 {
		t.Errorf("usage %d", usage)
	}
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v\n%s", url, resp.Status, err, b)
	}
	return string(b)
}

// freeAddress is one that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// TestAllowances: an override and a grant made on the server are in force at a gateway within a second, an override ends there by
// itself, and what the gateway notices reaches the server.
func TestAllowances(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "--mode", "test")
	g := w.gates[0]
	client := &http.Client{Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	burn := func(secret, code string) (n int) {
		t.Helper()
		for {
			status, _, c, err := g.ask(client, secret)
			switch {
			case err != nil:
				t.Fatal(err)
			case status == http.StatusOK:
				if n++; n > 1000 {
					t.Fatal("there is no limit")
				}
			case c != code:
				t.Fatalf("after %d: %d %s, want %s", n, status, c, code)
			default:
				return n
			}
		}
	}
	within := func(what, secret string, change func()) {
		t.Helper()
		change()
		began := time.Now()
		eventually(t, what, func() bool { status, _, _, err := g.ask(client, secret); return err == nil && status == http.StatusOK })
		took := time.Since(began)
		t.Logf("%s: %v", what, took.Round(100*time.Microsecond))
		if took > time.Second {
			t.Errorf("%s took %v, more than a second", what, took)
		}
	}
	var ignored any
	secret := w.customer("raised", "hundred")
	if n := burn(secret, "quota_exceeded"); n != 100 {
		t.Errorf("%d before the override", n)
	}
	within("an override", secret, func() {
		w.command(&ignored, "overrides", "create", "raised", "daily", "150", "--reason", "test", "--expires-in", "1h")
	})
	if n := burn(secret, "quota_exceeded"); n != 49 {
		t.Errorf("%d more with the override, want 49", n)
	}
	within("a longer one", secret, func() {
		w.command(&ignored, "overrides", "create", "raised", "daily", "1000", "--reason", "test", "--expires-in", "2h")
	})
	w.command(&ignored, "clock", "advance", "--by", "3h")
	if n := burn(secret, "quota_exceeded"); n != 0 {
		t.Errorf("%d after the overrides' ends", n)
	}
	prepaid := w.customer("prepaid", "prepaid")
	if n := burn(prepaid, "credits_exhausted"); n != 0 {
		t.Errorf("%d without credits", n)
	}
	within("a grant", prepaid, func() {
		w.command(&ignored, "credits", "grant", "prepaid", "30", "--meter", "api_calls", "--reason", "test")
	})
	if n := burn(prepaid, "credits_exhausted"); n != 29 {
		t.Errorf("%d more of the grant, want 29", n)
	}
	eventually(t, "the server to have the gateway's notices", func() bool {
		var list struct {
			Items []struct {
				Kind string
				Data struct{ Limit string }
			}
		}
		w.command(&list, "notices", "list")
		kinds := map[string]int{}
		for _, x := range list.Items {
			kinds[x.Kind]++
		}
		return kinds["limit.threshold"] >= 2
	})
	if usage := w.books("prepaid"); usage != 30 {
		t.Errorf("usage %d", usage)
	}
}
