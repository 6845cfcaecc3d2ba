package grpctally_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tallystick/tallystick/client"
	"github.com/tallystick/tallystick/client/grpctally"
	"github.com/tallystick/tallystick/test/process"
)

const catalogText = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count}
plans:
  - key: five
    currency: USD
    limits:
      - {key: daily, meter: api_calls, quota: "5", window: week, enforcement: hard}
`

var endpoint struct{ API, Token string }

const patience = 60 * time.Second

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tally-grpc-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir) //nolint:errcheck // what is left lies in the temporary folder
		p, err := start(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		p.Close()
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

func start(dir string) (*process.Process, error) {
	tally, err := process.Build(dir)
	if err != nil {
		return nil, err
	}
	catalog, data := filepath.Join(dir, "tally.yaml"), filepath.Join(dir, "data")
	if err := os.WriteFile(catalog, []byte(catalogText), 0o600); err != nil {
		return nil, err
	}
	p, err := tally.Start("", "serve", "--catalog", catalog, "--dir", data, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := p.Stderr.Until(ctx, func(text []byte) bool { return strings.Contains(string(text), "Console  ") }); err != nil {
		return p, err
	}
	b, err := os.ReadFile(filepath.Join(data, "client.json"))
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(b, &endpoint)
}

func api(t *testing.T, path, body string, out any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint.API+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+endpoint.Token)
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
	}
}

// service fails as the name of the service that is asked for says.
type service struct {
	health.UnimplementedHealthServer
	t *testing.T
}

func (s *service) fail(ctx context.Context, name string) error {
	if k, ok := client.KeyOf(ctx); ok != (name != "open") || ok && k.Customer == "" {
		s.t.Errorf("%s: the handler knows %+v, %v", name, k, ok)
	}
	switch name {
	case "internal":
		return status.Error(codes.Internal, "no")
	case "not found":
		return status.Error(codes.NotFound, "no")
	}
	return nil
}

func (s *service) Check(ctx context.Context, r *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, s.fail(ctx, r.GetService())
}

func (s *service) Watch(r *health.HealthCheckRequest, ws grpc.ServerStreamingServer[health.HealthCheckResponse]) error {
	if err := s.fail(ws.Context(), r.GetService()); err != nil {
		return err
	}
	return ws.Send(&health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING})
}

// open runs a metered server and connects to it.
func open(t *testing.T, c *client.Client, m grpctally.Method, metered bool) health.HealthClient {
	t.Helper()
	cfg := grpctally.Config{Client: c, Method: func(string) (grpctally.Method, bool) { return m, metered }}
	s := grpc.NewServer(grpc.ChainUnaryInterceptor(grpctally.Unary(cfg)), grpc.ChainStreamInterceptor(grpctally.Stream(cfg)))
	health.RegisterHealthServer(s, &service{t: t})
	l := bufconn.Listen(1 << 20)
	go func() { _ = s.Serve(l) }() // it ends with Stop
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return health.NewHealthClient(conn)
}

func newClient(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{URL: endpoint.API, Token: endpoint.Token, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestInterceptors(t *testing.T) {
	t.Parallel()
	api(t, "/v1/customers", `{"key":"acme"}`, nil)
	api(t, "/v1/subscriptions", `{"customer":"acme","plan":"five"}`, nil)
	var key struct{ Secret string }
	api(t, "/v1/keys", `{"customer":"acme"}`, &key)
	c := newClient(t)
	caller := open(t, c, grpctally.Method{Meter: "api_calls"}, true)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	with := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key.Secret)
	ask := func(name string) *health.HealthCheckRequest { return &health.HealthCheckRequest{Service: name} }

	_, err := caller.Check(ctx, ask(""))
	if s := status.Convert(err); s.Code() != codes.Unauthenticated || reason(s) != "KEY_MISSING" {
		t.Error(err)
	}
	var header, trailer metadata.MD
	if _, err := caller.Check(with, ask(""), grpc.Header(&header)); err != nil { // 1
		t.Fatal(err)
	}
	if d := header.Get("decision-id"); len(d) != 1 || !strings.HasPrefix(d[0], "dec_") {
		t.Errorf("%v", header)
	}
	for range 10 { // given back
		if _, err := caller.Check(with, ask("internal")); status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
	}
	if _, err := caller.Check(with, ask("not found")); status.Code(err) != codes.NotFound { // 2
		t.Fatal(err)
	}
	for range 3 { // 5
		w, err := caller.Watch(with, ask(""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Recv(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Recv(); err == nil {
			t.Fatal("the stream goes on")
		}
	}
	_, err = caller.Check(with, ask(""), grpc.Trailer(&trailer))
	denied(t, err)
	if len(trailer.Get("retry-after")) != 1 || len(trailer.Get("ratelimit")) != 1 || len(trailer.Get("decision-id")) != 1 {
		t.Errorf("%v", trailer)
	}
	w, err := caller.Watch(with, ask(""))
	if err == nil {
		_, err = w.Recv()
	}
	denied(t, err)
}

func reason(s *status.Status) string {
	for _, d := range s.Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			return i.GetReason()
		}
	}
	return ""
}

func denied(t *testing.T, err error) {
	t.Helper()
	s := status.Convert(err)
	var retry, quota bool
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.RetryInfo:
			retry = d.GetRetryDelay().AsDuration() >= time.Second
		case *errdetails.QuotaFailure:
			quota = len(d.GetViolations()) == 1 && d.GetViolations()[0].GetSubject() == "daily"
		}
	}
	if s.Code() != codes.ResourceExhausted || reason(s) != "QUOTA_EXCEEDED" || !retry || !quota {
		t.Errorf("%v %v", err, s.Details())
	}
}

// TestActualPanics: work that was done is charged, also where its cost cannot be told.
func TestActualPanics(t *testing.T) {
	t.Parallel()
	api(t, "/v1/customers", `{"key":"panics"}`, nil)
	api(t, "/v1/subscriptions", `{"customer":"panics","plan":"five"}`, nil)
	var key struct{ Secret string }
	api(t, "/v1/keys", `{"customer":"panics"}`, &key)
	c, err := client.New(client.Config{URL: endpoint.API, Token: endpoint.Token, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	m := grpctally.Method{Meter: "api_calls", Cost: 2, Actual: func(context.Context, any) int64 { panic("a fault") }}
	call := grpctally.Unary(grpctally.Config{Client: c, Method: func(string) (grpctally.Method, bool) { return m, true }})
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+key.Secret))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is hidden")
			}
		}()
		_, _ = call(ctx, nil, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { return "done", nil })
	}()
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
	l, err := newClient(t).Limits(ctx, "panics")
	if err != nil || len(l.Items) != 1 || l.Items[0].Consumed != "2" {
		t.Errorf("%+v %v, want 2 consumed", l, err)
	}
}

// TestNotMetered: a method that is not metered needs no key.
func TestNotMetered(t *testing.T) {
	t.Parallel()
	caller := open(t, newClient(t), grpctally.Method{}, false)
	if _, err := caller.Check(t.Context(), &health.HealthCheckRequest{Service: "open"}); err != nil {
		t.Error(err)
	}
	w, err := caller.Watch(t.Context(), &health.HealthCheckRequest{Service: "open"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Recv(); err != nil {
		t.Error(err)
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	for want, p := range map[codes.Code]client.Problem{
		codes.PermissionDenied: {Status: 403, Code: "no_subscription"}, codes.Unavailable: {Status: 503, Code: "unavailable", Retryable: true, RetryAfter: 1},
		codes.ResourceExhausted: {Status: 402, Code: "spend_cap_reached"}, codes.Internal: {Status: 422, Code: "invalid"},
	} {
		if s := grpctally.Status(&p); s.Code() != want || reason(s) != strings.ToUpper(p.Code) {
			t.Errorf("%s: %v", p.Code, s)
		}
	}
}
