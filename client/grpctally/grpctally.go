// Package grpctally meters and limits gRPC servers: interceptors over a client.Client, which decides from its blocks of quota.
package grpctally

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tallystick/tallystick/client"
)

// Method says how the calls of a method are metered. Meter or Route is required. The fields are those of client.Route.
type Method struct {
	Meter, Route string
	Cost         int64
	Scale        int
	Free         bool
	// Actual is what a call did cost, once it has ended well, in the units of Cost, which is then the estimate that is admitted.
	// reply is nil for a stream. Nil: Cost.
	Actual func(ctx context.Context, reply any) int64
	// User reads the end user, where limits are per user. Default: none.
	User func(context.Context) string
	Hold time.Duration
}

// Config of the interceptors. Client and Method are required.
type Config struct {
	Client *client.Client
	// Method gives a method by its full name, such as "/hello.Greeter/Say". false: its calls go through as they are, without a key.
	Method func(fullMethod string) (Method, bool)
	// Key reads the API key. Default: from the metadata "authorization", as "Bearer KEY".
	Key func(metadata.MD) string
}

// domain of the ErrorInfo detail, whose reason is the problem code.
const domain = "tallystick"

// Unary meters unary calls. A refused call ends with Unauthenticated, PermissionDenied, ResourceExhausted or Unavailable, with the
// details ErrorInfo, RetryInfo and QuotaFailure, and with decision-id, retry-after, ratelimit and ratelimit-policy as trailers. An
// admitted one has the header decision-id. Calls that end with a server's error, a time-out or a caller who left are given back.
func Unary(cfg Config) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
		m, metered := cfg.Method(info.FullMethod)
		if !metered {
			return handler(ctx, req)
		}
		inner, a, p := cfg.admit(ctx, &m)
		if p != nil {
			_ = grpc.SetTrailer(ctx, trailer(p)) // it fails for a stream that has ended alone
			return nil, Status(p).Err()
		}
		defer a.Release() // of a handler that panics; else it has ended
		if a.DecisionID != "" {
			_ = grpc.SetHeader(ctx, metadata.Pairs("decision-id", a.DecisionID)) // as above
		}
		reply, err = handler(inner, req)
		m.end(ctx, &a, reply, err)
		return reply, err
	}
}

// Stream meters streams, each as one call. It is otherwise like Unary.
func Stream(cfg Config) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		m, metered := cfg.Method(info.FullMethod)
		if !metered {
			return handler(srv, ss)
		}
		inner, a, p := cfg.admit(ss.Context(), &m)
		if p != nil {
			ss.SetTrailer(trailer(p))
			return Status(p).Err()
		}
		defer a.Release() // of a handler that panics; else it has ended
		if a.DecisionID != "" {
			_ = ss.SetHeader(metadata.Pairs("decision-id", a.DecisionID)) // it fails for a stream that has ended alone
		}
		err := handler(srv, &stream{ServerStream: ss, ctx: inner})
		m.end(ss.Context(), &a, nil, err)
		return err
	}
}

// stream is a stream whose context knows the caller.
type stream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc.ServerStream hands its context out so
}

// Context implements grpc.ServerStream.
func (s *stream) Context() context.Context { return s.ctx }

func (c *Config) admit(ctx context.Context, m *Method) (context.Context, client.Admission, *client.Problem) {
	md, _ := metadata.FromIncomingContext(ctx) // none: no key either
	key := c.Key
	if key == nil {
		key = bearer
	}
	k, err := c.Client.Authenticate(ctx, key(md))
	if err != nil {
		p, _ := client.AsProblem(err)
		return ctx, client.Admission{}, p
	}
	user := ""
	if m.User != nil {
		user = m.User(ctx)
	}
	r := client.Route{Meter: m.Meter, Match: m.Route, Cost: m.Cost, Scale: m.Scale, Free: m.Free, Hold: m.Hold}
	if m.Actual != nil {
		r.Actual = func(*http.Request, client.Answer) int64 { return 0 } // the route's way to say that its cost is known afterwards
	}
	a, err := c.Client.Admit(ctx, r.Request(k, user))
	if err != nil {
		p, _ := client.AsProblem(err)
		return ctx, a, p
	}
	return client.WithKey(ctx, k), a, nil
}

func bearer(md metadata.MD) string {
	for _, v := range md.Get("authorization") {
		if key := client.Bearer(v); key != "" {
			return key
		}
	}
	return ""
}

func (m *Method) end(ctx context.Context, a *client.Admission, reply any, err error) {
	givenBack := []codes.Code{
		codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss,
	}
	switch {
	case err == nil && m.Actual != nil:
		defer a.Settle() // should Actual panic
		a.SettleCost(m.Actual(ctx, reply))
	case err != nil && slices.Contains(givenBack, status.Code(err)):
		a.Release()
	default:
		a.Settle()
	}
}

// Status is a problem as gRPC tells it.
func Status(p *client.Problem) *status.Status {
	code := codes.Internal
	switch p.Status {
	case http.StatusUnauthorized:
		code = codes.Unauthenticated
	case http.StatusForbidden:
		code = codes.PermissionDenied
	case http.StatusTooManyRequests, http.StatusPaymentRequired:
		code = codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		code = codes.Unavailable
	}
	info := &errdetails.ErrorInfo{Reason: strings.ToUpper(p.Code), Domain: domain, Metadata: map[string]string{"code": p.Code}}
	if p.Fix != "" {
		info.Metadata["fix"] = p.Fix
	}
	if p.DecisionID != "" {
		info.Metadata["decision_id"] = p.DecisionID
	}
	details := []protoadapt.MessageV1{info}
	if p.RetryAfter > 0 && p.Retryable {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(p.RetryAfter) * time.Second)})
	}
	if len(p.Violated) > 0 {
		q := &errdetails.QuotaFailure{}
		for _, limit := range p.Violated {
			q.Violations = append(q.Violations, &errdetails.QuotaFailure_Violation{Subject: limit, Description: p.Detail})
		}
		details = append(details, q)
	}
	s := status.New(code, p.Detail)
	if with, err := s.WithDetails(details...); err == nil { // they always marshal
		return with
	}
	return s
}

func trailer(p *client.Problem) metadata.MD {
	md := metadata.MD{}
	for name, values := range p.Header() {
		md.Set(name, values...)
	}
	return md
}
