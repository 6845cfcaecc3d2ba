package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/web/envoy"
)

// grpcListen is where and how the doors for Envoy are served.
type grpcListen struct {
	GRPC         string        `name:"grpc" help:"Address of the gRPC port for Envoy (ext_authz, rate limit service), such as 127.0.0.1:8082; off by default." env:"TALLY_GRPC" placeholder:"ADDR"`
	GRPCCert     string        `name:"grpc-cert" help:"Certificate file (PEM) of the gRPC port." type:"path" env:"TALLY_GRPC_CERT"`
	GRPCKey      string        `name:"grpc-key" help:"Key file (PEM) of the gRPC port." type:"path" env:"TALLY_GRPC_KEY"`
	GRPCClientCA string        `name:"grpc-client-ca" help:"Authorities (PEM) that must have signed the certificate of a caller of the gRPC port." type:"path" env:"TALLY_GRPC_CLIENT_CA"`
	GRPCTrust    bool          `name:"grpc-trust" help:"Let callers of the gRPC port name a customer or key without its secret; only on loopback or with --grpc-client-ca." env:"TALLY_GRPC_TRUST"`
	GRPCHold     time.Duration `name:"grpc-hold" help:"How long a request stays open whose cost Envoy tells at its end; then it is charged as reserved." default:"5m" env:"TALLY_GRPC_HOLD"`
}

// heldEvery is how often open admissions are looked at whose end nobody told.
const heldEvery = time.Second

// grpcPort is the gRPC port; nil when it is off.
type grpcPort struct {
	*envoy.Doors
	listener net.Listener
	server   *grpc.Server
	health   *health.Server
}

// openGRPC listens; it starts nothing.
func (s *ports) openGRPC(ctx context.Context, limiter *enforce.Enforcer, current func() *catalog.Compiled) (*grpcPort, error) {
	if s.GRPC == "" {
		return nil, nil //nolint:nilnil // off
	}
	creds, err := s.grpcCredentials()
	if err != nil {
		return nil, err
	}
	d := &grpcPort{health: health.NewServer()}
	if d.Doors, err = envoy.New(envoy.Config{
		Limiter: limiter, Catalog: current, Log: s.log, Now: realNow, Trust: s.GRPCTrust, HoldFor: s.GRPCHold, Credentials: creds,
	}); err != nil {
		return nil, err
	}
	if d.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", s.GRPC); err != nil {
		return nil, fmt.Errorf("gRPC address: %w (choose another with --grpc)", err)
	}
	if addr, ok := d.listener.Addr().(*net.TCPAddr); s.GRPCTrust && s.GRPCClientCA == "" && (!ok || !addr.IP.IsLoopback()) {
		return nil, errors.Join(errors.New("--grpc-trust: whoever reaches the port could charge any customer; use a loopback address, or --grpc-client-ca"), d.listener.Close())
	}
	d.server = d.Server()
	healthpb.RegisterHealthServer(d.server, d.health)
	s.metrics.registry.MustRegister(&envoyCollector{d.Doors})
	s.log.InfoContext(ctx, "gRPC for Envoy", slog.String("grpc", d.listener.Addr().String()), slog.Bool("tls", creds != nil))
	return d, nil
}

// grpcCredentials reads the certificate files; nil: clear text.
func (s *ports) grpcCredentials() (credentials.TransportCredentials, error) {
	if (s.GRPCCert == "") != (s.GRPCKey == "") {
		return nil, errors.New("--grpc-cert and --grpc-key belong together")
	}
	if s.GRPCCert == "" {
		if s.GRPCClientCA != "" {
			return nil, errors.New("--grpc-client-ca needs --grpc-cert and --grpc-key")
		}
		return nil, nil //nolint:nilnil // clear text
	}
	pair, err := tls.LoadX509KeyPair(s.GRPCCert, s.GRPCKey)
	if err != nil {
		return nil, fmt.Errorf("certificate files of the gRPC port: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if s.GRPCClientCA != "" {
		pem, err := os.ReadFile(s.GRPCClientCA)
		if err != nil {
			return nil, fmt.Errorf("--grpc-client-ca: %w", err)
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("--grpc-client-ca: the file holds no certificate")
		}
	}
	return credentials.NewTLS(c), nil
}

// serve starts the port and its loop.
func (d *grpcPort) serve(ctx context.Context, s *ports, g *errgroup.Group) {
	if d == nil {
		return
	}
	g.Go(func() error { return d.server.Serve(d.listener) })
	s.every(ctx, g, "envoy", heldEvery, func(ctx context.Context) error {
		for {
			more, err := d.Tick(ctx)
			if err != nil || !more {
				return err
			}
		}
	})
}

// drain lets running calls end, then charges what is open as reserved: nobody can tell its end any more.
func (d *grpcPort) drain(ctx context.Context, wait time.Duration) error {
	if d == nil {
		return nil
	}
	d.health.Shutdown()
	ended := make(chan struct{})
	go func() {
		d.server.GracefulStop()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(wait):
		d.server.Stop()
		<-ended
	}
	return d.Close(ctx)
}

// envoyCollector reads the doors' totals at each scrape.
type envoyCollector struct{ d *envoy.Doors }

func (c *envoyCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *envoyCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.d.Stats()
	for _, x := range []struct {
		name, help string
		kind       prometheus.ValueType
		n          int64
	}{
		{"tally_envoy_open", "Admissions whose end Envoy tells later.", prometheus.GaugeValue, st.Open},
		{"tally_envoy_expired_total", "Admissions charged as reserved since nobody told their end.", prometheus.CounterValue, st.Expired},
		{"tally_envoy_full_total", "Admissions charged at once since too many were open.", prometheus.CounterValue, st.Full},
		{"tally_envoy_unknown_total", "Ends told of admissions that were not open.", prometheus.CounterValue, st.Unknown},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), x.kind, float64(x.n))
	}
}
