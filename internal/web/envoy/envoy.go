// Package envoy holds the two doors for Envoy over gRPC: external authorization (envoy.service.auth.v3) and the rate limit
// service (envoy.service.ratelimit.v3). Both ask the limiter and settle with it; they keep no counter of their own.
package envoy

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/web/match"
)

// Domain is what rate limit requests must name.
const Domain = "tallystick"

// Limiter decides on requests; enforce.Enforcer fits.
type Limiter interface {
	Admit(ctx context.Context, r enforce.Request) *enforce.Admission
	NoRoute() (decisionID string)
}

// Config of Doors.
type Config struct {
	Limiter Limiter                  // required
	Catalog func() *catalog.Compiled // the newest version; required
	Log     *slog.Logger             // required
	Now     func() time.Time         // real time, for the expiry of open admissions; required
	// Trust takes a customer or a key on the gateway's word (entries customer and key_id). Default: only secrets open.
	Trust bool
	// HoldFor is how long an admission whose end is told later stays open; then it is charged as reserved. Default 5 min.
	HoldFor time.Duration
	// HoldMax bounds the open admissions; those beyond it are charged at once, as reserved. Default 65536.
	HoldMax int
	// Timeout bounds a call whose caller names no deadline. Default 2 s.
	Timeout time.Duration
	// Credentials for TLS; nil: clear text.
	Credentials credentials.TransportCredentials
}

const (
	holdForDefault = 5 * time.Minute
	holdMaxDefault = 65536
	timeoutDefault = 2 * time.Second
)

// Bounds of the gRPC server.
const (
	messageMax  = 256 << 10 // bytes of one call: Envoy's headers are 60 KiB at most by default
	headersList = 16 << 10  // bytes of a call's own metadata
	streamsMax  = 1000      // running calls of one connection
	workers     = 256       // goroutines that are kept: a decision needs more stack than a new one has
)

// Doors serves both protocols.
type Doors struct {
	cfg   Config
	table atomic.Pointer[table]
	build sync.Mutex // one table is built at a time
	held  held
	calls sync.Pool // *call
	check sync.Pool // *check
}

// table is one catalog version's routes, also by their patterns.
type table struct {
	*match.Table
	byMatch map[string]*catalog.Route
	remove  string // the header with the caller's key, as Envoy writes it
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Doors, error) {
	if cfg.Limiter == nil || cfg.Catalog == nil || cfg.Log == nil || cfg.Now == nil {
		return nil, errors.New("envoy: incomplete configuration")
	}
	if cfg.HoldFor == 0 {
		cfg.HoldFor = holdForDefault
	}
	if cfg.HoldMax == 0 {
		cfg.HoldMax = holdMaxDefault
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = timeoutDefault
	}
	d := &Doors{cfg: cfg}
	d.held.open(cfg.HoldMax)
	d.calls.New = func() any { return &call{} }
	d.check.New = func() any { return &check{} }
	return d, nil
}

// Server is a gRPC server with both services and the bounds of this package.
func (d *Doors) Server() *grpc.Server {
	options := ServerOptions(d.cfg.Credentials)
	s := grpc.NewServer(append(options, grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)}))...)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.ratelimit.v3.RateLimitService", HandlerType: (*any)(nil),
		Methods:  []grpc.MethodDesc{{MethodName: "ShouldRateLimit", Handler: d.rateLimitCall}},
		Metadata: "envoy/service/ratelimit/v3/rls.proto",
	}, d)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.auth.v3.Authorization", HandlerType: (*any)(nil),
		Methods:  []grpc.MethodDesc{{MethodName: "Check", Handler: d.checkCall}},
		Metadata: "envoy/service/auth/v3/external_auth.proto",
	}, d)
	return s
}

// ServerOptions are the bounds under which a server for Envoy runs; creds may be nil.
func ServerOptions(creds credentials.TransportCredentials) []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(messageMax), grpc.MaxHeaderListSize(headersList), grpc.MaxConcurrentStreams(streamsMax),
		grpc.ConnectionTimeout(10 * time.Second), // the handshake
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Minute, Timeout: 20 * time.Second}),
		grpc.NumStreamWorkers(workers),
	}
	if creds != nil {
		options = append(options, grpc.Creds(creds))
	}
	return options
}

func (d *Doors) rateLimitCall(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (out any, err error) { //nolint:revive // the order is of grpc.MethodHandler
	c, ok := d.calls.Get().(*call)
	if !ok {
		c = &call{}
	}
	defer func() {
		*c = call{}
		d.calls.Put(c)
	}()
	if err := decode(c); err != nil {
		return nil, err
	}
	ctx, cancel := d.bound(ctx)
	defer cancel()
	defer d.recovered(ctx, &err)
	return d.rateLimit(ctx, c)
}

func (d *Doors) checkCall(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (out any, err error) { //nolint:revive // the order is of grpc.MethodHandler
	c, ok := d.check.Get().(*check)
	if !ok {
		c = &check{}
	}
	defer func() {
		c.clear()
		d.check.Put(c)
	}()
	if err := decode(c); err != nil {
		return nil, err
	}
	ctx, cancel := d.bound(ctx)
	defer cancel()
	defer d.recovered(ctx, &err)
	return d.authorize(ctx, c)
}

// bound gives a call a deadline that came without one.
func (d *Doors) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d.cfg.Timeout)
}

// recovered turns a panic into an error: one bad call must not end the gateway.
func (d *Doors) recovered(ctx context.Context, err *error) {
	if fault := recover(); fault != nil {
		d.cfg.Log.ErrorContext(ctx, "a call failed", slog.Any("fault", fault), slog.String("stack", string(debug.Stack())))
		*err = status.Error(codes.Internal, "the call failed")
	}
}

// routes is the table of the newest catalog version.
func (d *Doors) routes() *table {
	cat := d.cfg.Catalog()
	if t := d.table.Load(); t != nil && t.Version == cat.Version {
		return t
	}
	d.build.Lock()
	defer d.build.Unlock()
	if t := d.table.Load(); t != nil && t.Version == cat.Version {
		return t
	}
	t := &table{Table: match.New(cat, d.cfg.Log), byMatch: map[string]*catalog.Route{}, remove: "authorization"}
	for _, r := range t.Routes() {
		t.byMatch[r.Match] = r
	}
	if t.KeyHeader != "" {
		t.remove = lowerCase(t.KeyHeader)
	}
	d.table.Store(t)
	return t
}

// Tick charges the open admissions whose time is over, and says whether more are due.
func (d *Doors) Tick(ctx context.Context) (more bool, err error) {
	due := d.held.due(d.cfg.Now().Add(-d.cfg.HoldFor))
	return len(due) == tickMax, d.charge(ctx, due)
}

// Close charges all that is open as reserved. The server must have stopped.
func (d *Doors) Close(ctx context.Context) error {
	var all error
	for due := d.held.all(); len(due) > 0; due = d.held.all() {
		all = errors.Join(all, d.charge(ctx, due))
	}
	return all
}

func (d *Doors) charge(ctx context.Context, due []admission) error {
	var all error
	for _, a := range due {
		d.held.expired.Add(1)
		if err := a.Settle(enforce.Actual{}); err != nil {
			d.cfg.Log.ErrorContext(ctx, "an admission stays charged as reserved", slog.String("decision", a.DecisionID), slog.Any("error", err))
			all = errors.Join(all, err)
		}
	}
	return all
}

// Stats are totals since start, and what is open.
type Stats struct {
	Open    int64 // admissions whose end is told later
	Expired int64 // charged as reserved since nobody told
	Full    int64 // charged at once since too many were open
	Unknown int64 // ends told of admissions that are not open
}

// Stats is what /metrics shows.
func (d *Doors) Stats() Stats {
	return Stats{Open: d.held.count(), Expired: d.held.expired.Load(), Full: d.held.full.Load(), Unknown: d.held.unknown.Load()}
}
