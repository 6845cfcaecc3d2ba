package envoy

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/web/answer"
)

// Fields of the answers to Check.
const (
	checkStatus, checkDenied, checkOK, checkMetadata = 1, 2, 3, 4
	okHeaders, okRemove, okResponse                  = 2, 5, 6
	deniedStatus, deniedHeaders, deniedBody          = 1, 2, 3
)

// clear readies the check for the next call; the room for headers stays.
func (c *check) clear() {
	clear(c.headers)
	c.method, c.path, c.host, c.held, c.headers, c.text = "", "", "", false, nil, nil
}

// authorize answers one Check.
func (d *Doors) authorize(ctx context.Context, c *check) (*reply, error) {
	t := d.routes()
	route := t.Lookup(c.method, c.host, c.path)
	if route == nil || c.method == "" || c.method == http.MethodConnect {
		return denied(answer.Problem{
			Code: "route_unknown", Status: http.StatusNotFound, DecisionID: d.cfg.Limiter.NoRoute(),
			Detail: "No route of this gateway matches the request.", Fix: "Check the method and the path.",
		}, nil), nil
	}
	a := d.cfg.Limiter.Admit(ctx, enforce.Request{Secret: t.Secret(c.get), Route: route, Method: c.method, User: user(t.User(c.get))})
	if !a.Allowed() {
		return denied(answer.Denial(a), a), nil
	}
	through := false
	defer func() {
		if !through { // of a panic; what has ended does not mind
			d.release(ctx, a, enforce.Failed)
		}
	}()
	if err := d.secure(ctx, a); err != nil {
		return nil, err
	}
	when := now
	if c.held {
		when = later
	}
	if err := d.spooled(ctx, d.end(admission{Admission: a, route: route}, when, nil)); err != nil {
		return nil, err
	}
	out := allowed(c, t, a)
	through = true
	return out, nil
}

func allowed(c *check, t *table, a *enforce.Admission) *reply {
	b := make([]byte, 0, replyRoom)
	b, at := open(b, checkStatus) // google.rpc.Status with code OK, which is 0
	b = shut(b, at)
	b, at = open(b, checkOK)
	b = option(b, okHeaders, "Tally-Customer", a.Principal.Customer.Key)
	b = option(b, okHeaders, "Tally-Key-Id", a.Principal.Key.ID)
	b = text(b, okRemove, t.remove)
	for i := range c.headers {
		if n := c.headers[i].name; ours(n) && !sameName(n, "Tally-Customer") && !sameName(n, "Tally-Key-Id") { // those are replaced
			b = text(b, okRemove, string(n))
		}
	}
	policy, limit := answer.Fields(a)
	if policy != "" {
		b = option(b, okResponse, "RateLimit-Policy", policy)
		b = option(b, okResponse, "RateLimit", limit)
	}
	b = option(b, okResponse, "Decision-Id", a.DecisionID)
	b = shut(b, at)
	return &reply{metadata(b, checkMetadata, a)}
}

// denied is the problem as Envoy answers it. a is nil where nothing was decided.
func denied(p answer.Problem, a *enforce.Admission) *reply {
	b := make([]byte, 0, 2*replyRoom)
	b, at := open(b, checkStatus)
	b = number(b, 1, uint64(codes.PermissionDenied))
	b = shut(b, at)
	b, at = open(b, checkDenied)
	b, in := open(b, deniedStatus)
	b = number(b, 1, uint64(p.Status))
	b = shut(b, in)
	b = option(b, deniedHeaders, "Content-Type", "application/problem+json")
	b = option(b, deniedHeaders, "Cache-Control", "no-store")
	b = option(b, deniedHeaders, "Decision-Id", p.DecisionID)
	if p.Status == http.StatusUnauthorized {
		b = option(b, deniedHeaders, "WWW-Authenticate", answer.Challenge)
	}
	if p.RetryAfter > 0 {
		b = option(b, deniedHeaders, "Retry-After", strconv.FormatInt(p.RetryAfter, 10))
	}
	if a != nil {
		if policy, limit := answer.Fields(a); policy != "" {
			b = option(b, deniedHeaders, "RateLimit-Policy", policy)
			b = option(b, deniedHeaders, "RateLimit", limit)
		}
	}
	b = protowire.AppendBytes(protowire.AppendTag(b, deniedBody, protowire.BytesType), p.Body())
	b = shut(b, at)
	if a != nil {
		b = metadata(b, checkMetadata, a)
	}
	return &reply{b}
}

// metadata tells Envoy what was decided, for its access log and for a later call. code is "" when allowed.
func metadata(b []byte, field protowire.Number, a *enforce.Admission) []byte {
	b, at := open(b, field)
	b = member(b, decisionEntry, name(a.DecisionID))
	b = member(b, customerEntry, a.Principal.Customer.Key)
	b = member(b, keyIDEntry, a.Principal.Key.ID)
	b = member(b, "code", a.Code)
	return shut(b, at)
}

// ours says whether a header's name begins with Tally-. An upstream that turns names into variables cannot tell _ from -.
func ours(name []byte) bool {
	return len(name) > 5 && sameName(name[:5], "tally") && (name[5] == '-' || name[5] == '_')
}

func lowerCase(s string) string { return strings.ToLower(s) }
