package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/doors"
	"github.com/tallystick/tallystick/internal/web/gateway"
)

// ports is what all processes that take traffic have in common, whatever their role: listeners, the ways in, loops and metrics.
type ports struct {
	listen
	log         *slog.Logger
	endpoint    cli.Endpoint
	metrics     *metrics
	gatewayPort *gateway.Listener          // nil: no gateway port
	doors       atomic.Pointer[doors.Door] // nil until there is enforcement
	access      *os.File
}

// listeners opens both ports, or the API's alone, and notes the real addresses.
func (p *ports) listeners(ctx context.Context, both bool) (api, gw net.Listener, err error) {
	if (p.TLSCert == "") != (p.TLSKey == "") {
		return nil, nil, errors.New("--tls-cert and --tls-key belong together")
	}
	scheme := "http"
	if p.TLSCert != "" {
		scheme = "https"
		pair, err := tls.LoadX509KeyPair(p.TLSCert, p.TLSKey)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate files: %w", err)
		}
		p.endpoint.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	}
	var lc net.ListenConfig
	if api, err = lc.Listen(ctx, "tcp", p.API); err != nil {
		return nil, nil, fmt.Errorf("API address: %w (choose another with --api)", err)
	}
	p.endpoint.API = scheme + "://" + api.Addr().String()
	api = gateway.NewListener(api, p.MaxConnections)
	if !both {
		return api, nil, nil
	}
	if gw, err = lc.Listen(ctx, "tcp", p.Gateway); err != nil {
		_ = api.Close() // nothing was served on it
		return nil, nil, fmt.Errorf("gateway address: %w (choose another with --gateway)", err)
	}
	p.gatewayPort = gateway.NewListener(gw, p.MaxConnections)
	p.endpoint.Gateway = scheme + "://" + gw.Addr().String()
	return api, p.gatewayPort, nil
}

// networks reads a flag's list of them.
func networks(flag string, list []string) (out []netip.Prefix, err error) {
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not a network such as 10.0.0.0/8", flag, text)
		}
		out = append(out, prefix)
	}
	return out, nil
}

func (p *ports) trusted() ([]netip.Prefix, error) {
	return networks("--trusted-proxies", p.TrustedProxies)
}

// openProxy readies what answers at the gateway's port.
func (p *ports) openProxy(limiter *enforce.Enforcer, current func() *catalog.Compiled) (*gateway.Gateway, error) {
	trusted, err := p.trusted()
	if err != nil {
		return nil, err
	}
	proxy, err := gateway.New(gateway.Config{
		Limiter: limiter, Catalog: current, Log: p.log, Access: p.accessLog(), Now: realNow, Observe: p.metrics.observe, Trusted: trusted,
		MaxBody: p.MaxBody, Expressions: costExpressions(),
	})
	if err != nil {
		return nil, err
	}
	p.metrics.gateway(proxy, p.gatewayPort)
	return proxy, nil
}

func (p *ports) openAccess() (err error) {
	if p.AccessLog != "" && p.AccessLog != "-" {
		if p.access, err = os.OpenFile(p.AccessLog, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
			return fmt.Errorf("access log: %w", err)
		}
	}
	return nil
}

// accessLog writes one JSON line a request, or nothing.
func (p *ports) accessLog() *slog.Logger {
	switch {
	case p.access != nil:
		return slog.New(slog.NewJSONHandler(p.access, nil))
	case p.AccessLog == "-":
		return slog.New(slog.NewJSONHandler(os.Stdout, nil))
	}
	return nil
}

// every runs work at an interval. A failure is logged and tried again; a failed sync ends the process, since what was
// acknowledged after it could be lost.
func (p *ports) every(ctx context.Context, g *errgroup.Group, name string, interval time.Duration, work func(context.Context) error) {
	g.Go(func() error {
		return ticking(ctx, interval, func(ctx context.Context) error {
			err := work(ctx)
			if err == nil {
				return nil
			}
			if ctx.Err() != nil || errors.Is(err, store.ErrBroken) { // after the end of ctx no error counts
				return fmt.Errorf("%s: %w", name, err)
			}
			p.log.ErrorContext(ctx, "work failed, it will be tried again", slog.String("loop", name), slog.Any("error", err))
			p.metrics.failed(name)
			_ = wait(ctx, retryBackoff) // the end of ctx is the loop's
			return nil
		})
	})
}

// ticking runs work at an interval until it fails or ctx ends, which is no failure.
func ticking(ctx context.Context, interval time.Duration, work func(context.Context) error) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := work(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// shutdown takes no new connections and lets running requests end, for a bounded time.
func (p *ports) shutdown(api, gw *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.DrainTimeout)
	defer cancel()
	err := gw.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		p.log.Warn("requests were still running at shutdown and are cut off")
		err = gw.Close()
	}
	if aerr := api.Shutdown(ctx); aerr != nil {
		err = errors.Join(err, api.Close())
	}
	return err
}
