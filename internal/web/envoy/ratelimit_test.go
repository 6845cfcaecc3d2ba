package envoy

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	descpb "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratepb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// of is a descriptor of key, value pairs.
func of(pairs ...string) *descpb.RateLimitDescriptor {
	d := &descpb.RateLimitDescriptor{}
	for i := 0; i < len(pairs); i += 2 {
		d.Entries = append(d.Entries, &descpb.RateLimitDescriptor_Entry{Key: pairs[i], Value: pairs[i+1]})
	}
	return d
}

func hello(pairs ...string) *descpb.RateLimitDescriptor {
	return of(append([]string{"key", "good", "route", "GET /hello"}, pairs...)...)
}

func (w *world) ask(all ...*descpb.RateLimitDescriptor) *ratepb.RateLimitResponse {
	w.t.Helper()
	r, err := w.rate.ShouldRateLimit(context.Background(), &ratepb.RateLimitRequest{Domain: Domain, Descriptors: all})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(r.GetStatuses()) != len(all) {
		w.t.Fatalf("%d statuses of %d descriptors", len(r.GetStatuses()), len(all))
	}
	return r
}

func (w *world) told(decision string, more ...string) {
	w.t.Helper()
	w.ask(of(append([]string{"decision", decision}, more...)...))
}

func headerOf(r *ratepb.RateLimitResponse, name string) string {
	for _, h := range r.GetResponseHeadersToAdd() {
		if h.GetKey() == name {
			return h.GetValue()
		}
	}
	return ""
}

const (
	fine = ratepb.RateLimitResponse_OK
	over = ratepb.RateLimitResponse_OVER_LIMIT
)

// soon says that Retry-After is the quota's reset, or a little after: not all callers come back in the same second.
func soon(v string) bool {
	n, err := strconv.Atoi(v)
	return err == nil && n >= 43200 && n <= 43200+300
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "2"))
	r := w.ask(hello())
	s := r.GetStatuses()[0]
	if r.GetOverallCode() != fine || s.GetCode() != fine || s.GetLimitRemaining() != 1 || s.GetDurationUntilReset().GetSeconds() != 43200 {
		t.Errorf("first: %s", r)
	}
	if l := s.GetCurrentLimit(); l.GetName() != "daily" || l.GetRequestsPerUnit() != 2 || l.GetUnit() != ratepb.RateLimitResponse_RateLimit_DAY {
		t.Errorf("limit %s", l)
	}
	if headerOf(r, "RateLimit") != `"daily";r=1;t=43200` || headerOf(r, "RateLimit-Policy") != `"daily";q=2;w=86400` || !strings.HasPrefix(headerOf(r, "Decision-Id"), "dec_") {
		t.Errorf("headers %s", r.GetResponseHeadersToAdd())
	}
	w.ask(of("key", "Bearer good", "method", "GET", "path", "/hello?x=1"))
	r = w.ask(hello())
	if r.GetOverallCode() != over || r.GetStatuses()[0].GetCode() != over || !soon(headerOf(r, "Retry-After")) {
		t.Errorf("third: %s", r)
	}
	contains(t, string(r.GetRawBody()), `"code":"quota_exceeded"`, headerOf(r, "Decision-Id"))
	w.want(2, 0, 0)
}

func TestRateLimitIsAllOrNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "3"))
	if r := w.ask(hello(), hello()); r.GetOverallCode() != fine {
		t.Errorf("two of three: %s", r)
	}
	r := w.ask(hello(), hello(), of("key", "bad", "route", "GET /hello"))
	var got []ratepb.RateLimitResponse_Code
	for _, s := range r.GetStatuses() {
		got = append(got, s.GetCode())
	}
	if r.GetOverallCode() != over || got[0] != fine || got[1] != over || got[2] != over {
		t.Errorf("statuses %v of %s", got, r)
	}
	contains(t, string(r.GetRawBody()), `"code":"quota_exceeded"`) // of the first that is denied
	w.want(2, 1, 0)
	if r := w.ask(hello()); r.GetOverallCode() != fine {
		t.Errorf("what was given back is not there: %s", r)
	}
}

func TestDeniedWithoutAReason429Knows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "3"))
	for code, d := range map[string]*descpb.RateLimitDescriptor{
		"key_unknown":   of("key", "bad", "route", "GET /hello"),
		"key_missing":   of("key", "", "route", "GET /hello"),
		"route_unknown": of("key", "good", "method", "GET", "path", "/nothing"),
	} {
		r := w.ask(d)
		if r.GetOverallCode() != over {
			t.Errorf("%s: %s", code, r)
		}
		contains(t, string(r.GetRawBody()), `"code":"`+code+`"`, headerOf(r, "Decision-Id"))
	}
}

func TestStreamDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "10", func(c *catalog.Catalog) { c.Routes[0].Refund.ClientGone = true }))
	open := func() string {
		t.Helper()
		return w.ask(hello("settle", "stream_done")).GetDynamicMetadata().GetFields()["decision"].GetStringValue()
	}
	w.told(open())
	w.want(1, 0, 0)
	w.told(open(), "status", "404")
	w.want(2, 0, 0)
	w.told(open(), "status", "500")
	w.want(2, 1, 0)
	w.told(open(), "status", "0") // the client left
	w.want(2, 2, 0)
	back := of("decision", open())
	back.IsNegativeHits = true
	w.ask(back)
	w.want(2, 3, 0)
	twice := of("decision", open())
	w.ask(twice, twice)
	w.want(3, 3, 0)
	w.told("dec_unknown")
	if st := w.d.Stats(); st.Unknown != 1 || st.Open != 0 {
		t.Errorf("%+v", st)
	}
}

func TestHitsAreTheCost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "100"))
	ask := func(request uint32, d *descpb.RateLimitDescriptor) string {
		t.Helper()
		if _, err := w.rate.ShouldRateLimit(context.Background(), &ratepb.RateLimitRequest{Domain: Domain, Descriptors: []*descpb.RateLimitDescriptor{d}, HitsAddend: request}); err != nil {
			t.Fatal(err)
		}
		if w.last.Cost == nil {
			return "the route's"
		}
		return w.last.Cost.String()
	}
	own := hello()
	own.HitsAddend = wrapperspb.UInt64(7)
	after := hello("settle", "after")
	after.HitsAddend = wrapperspb.UInt64(7)
	for want, got := range map[string]string{"the route's": ask(0, hello()), "3": ask(3, hello()), "7": ask(3, own), "0": ask(0, after)} {
		if got != want {
			t.Errorf("cost %s, want %s", got, want)
		}
	}
}

// TestWhatWasUsedIsCharged: usage that is told after the fact counts beyond the limit, also for a customer who is beyond it already.
func TestWhatWasUsedIsCharged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "10"))
	for i := range 3 {
		after := hello("settle", "after")
		after.HitsAddend = wrapperspb.UInt64(7)
		if r := w.ask(after); r.GetOverallCode() != ratepb.RateLimitResponse_OK {
			t.Errorf("call %d: %v", i, r)
		}
	}
	if r := w.ask(hello()); r.GetOverallCode() != ratepb.RateLimitResponse_OVER_LIMIT {
		t.Errorf("beyond the limit: %v", r)
	}
	w.want(3, 0, 0)
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "100"))
	negative := hello()
	negative.IsNegativeHits = true
	huge := hello()
	huge.HitsAddend = wrapperspb.UInt64(1 << 62)
	many := make([]*descpb.RateLimitDescriptor, descriptorsMax+1)
	for i := range many {
		many[i] = hello()
	}
	for want, all := range map[string][]*descpb.RateLimitDescriptor{
		"descriptors: there must be one":                            nil,
		"descriptors: more than 16":                                 many,
		`descriptors[1].entries[2] "colour": is not an entry`:       {hello(), hello("colour", "red")},
		`descriptors[0] entry "key": is missing`:                    {of("route", "GET /hello")},
		`descriptors[0] entry "route": is missing`:                  {of("key", "good", "method", "GET")},
		`descriptors[0].entries[2] "settle": must be`:               {hello("settle", "never")},
		`descriptors[0].entries[1] "status": is no HTTP status`:     {of("decision", "x", "status", "ok")},
		`descriptors[0] is_negative_hits: needs the entry`:          {negative},
		`descriptors[0] hits_addend: is more than`:                  {huge},
		`descriptors[0] entries "customer" and "key_id": are not`:   {of("customer", "acme", "route", "GET /hello")},
		`descriptors[0] entry "status": needs the entry decision`:   {hello("status", "200")},
		`descriptors[0].entries[1] "key_id": customer and key_id e`: {of("customer", "acme", "key_id", "x")},
	} {
		_, err := w.rate.ShouldRateLimit(context.Background(), &ratepb.RateLimitRequest{Domain: Domain, Descriptors: all})
		if status.Code(err) != codes.InvalidArgument || !strings.HasPrefix(status.Convert(err).Message(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := w.rate.ShouldRateLimit(context.Background(), &ratepb.RateLimitRequest{Domain: "else", Descriptors: many[:1]}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("another domain: %v", err)
	}
	w.want(0, 0, 0)
}

func TestTrusted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "1"), func(c *Config) { c.Trust = true })
	if r := w.ask(of("customer", "acme", "route", "GET /hello", "user", "jo")); r.GetOverallCode() != fine || w.last.Trusted != "acme" || w.last.User != "jo" {
		t.Errorf("%s of %+v", r, w.last)
	}
	if r := w.ask(of("customer", "nobody", "route", "GET /hello")); r.GetOverallCode() != over {
		t.Errorf("an unknown customer: %s", r)
	}
}

func TestOpenAdmissionsExpire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "100"), func(c *Config) { c.HoldFor, c.HoldMax = time.Minute, 3 })
	for range 4 { // the fourth has no room and is charged at once
		w.ask(hello("settle", "stream_done"))
	}
	w.want(1, 0, 3)
	w.mu.Lock()
	w.now = w.now.Add(61 * time.Second)
	w.mu.Unlock()
	if more, err := w.d.Tick(context.Background()); more || err != nil {
		t.Fatal(more, err)
	}
	w.want(4, 0, 0)
	if st := w.d.Stats(); st.Expired != 3 || st.Full != 1 || st.Open != 0 {
		t.Errorf("%+v", st)
	}
}

func TestWhoDoesNotWaitIsNotCharged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, compile(t, "100"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := &call{domain: Domain, descriptors: []descriptor{{key: "good", keyed: true, route: "GET /hello"}}}
	if _, err := w.d.rateLimit(ctx, c); status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	if _, err := w.d.authorize(ctx, &check{method: "GET", path: "/hello", headers: []header{{[]byte("authorization"), []byte("Bearer good")}}}); status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	w.want(0, 2, 0)
}
