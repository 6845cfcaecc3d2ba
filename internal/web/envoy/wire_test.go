package envoy

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	corepb "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	descpb "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	authpb "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	ratepb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func encoded(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzCall holds the reader of RateLimitRequest to the official one, and to never failing where that does not.
func FuzzCall(f *testing.F) {
	d := hello("user", "jo", "settle", "stream_done")
	d.HitsAddend, d.IsNegativeHits = wrapperspb.UInt64(9), true
	f.Add(encoded(f, &ratepb.RateLimitRequest{Domain: Domain, Descriptors: []*descpb.RateLimitDescriptor{d, of("decision", "x", "status", "500")}, HitsAddend: 4}))
	f.Add(encoded(f, &ratepb.RateLimitRequest{Domain: Domain, Descriptors: []*descpb.RateLimitDescriptor{of("key", "a", "method", "GET", "path", "/x", "host", "h")}}))
	f.Add([]byte("\x0a\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c call
		err := c.read(b)
		var want ratepb.RateLimitRequest
		if proto.Unmarshal(b, &want) != nil {
			return
		}
		if err != nil {
			t.Fatalf("%v for a message that protobuf reads", err)
		}
		if c.domain != want.GetDomain() || uint32(c.hits) != want.GetHitsAddend() || len(c.descriptors) != min(descriptorsMax, len(want.GetDescriptors())) {
			t.Fatalf("read %+v, want %s", c, &want)
		}
		if c.fault != "" {
			return
		}
		for i := range c.descriptors {
			compare(t, &c.descriptors[i], want.GetDescriptors()[i])
		}
	})
}

func compare(t *testing.T, got *descriptor, want *descpb.RateLimitDescriptor) {
	t.Helper()
	x := descriptor{}
	for _, e := range want.GetEntries() {
		x.set([]byte(e.GetKey()), []byte(e.GetValue()))
	}
	x.counted, x.hits, x.negative = want.HitsAddend != nil, want.GetHitsAddend().GetValue(), want.GetIsNegativeHits()
	if *got != x {
		t.Fatalf("read %+v, want %+v", *got, x)
	}
}

// FuzzCheck does the same for CheckRequest.
func FuzzCheck(f *testing.F) {
	f.Add(encoded(f, checkOf("GET", "/hello", bearerOf("good"), "settle", "stream_done")))
	raw := checkOf("GET", "/hello", nil)
	raw.Attributes.Request.Http.HeaderMap = &corepb.HeaderMap{Headers: []*corepb.HeaderValue{{Key: "a", RawValue: []byte{0xff}}, {Key: "b", Value: "c"}}}
	raw.Attributes.Source = &authpb.AttributeContext_Peer{Principal: "spiffe://x", Labels: map[string]string{"a": "b"}}
	f.Add(encoded(f, raw))
	f.Add([]byte("\x0a\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c check
		err := c.read(bytes.Clone(b))
		var want authpb.CheckRequest
		if proto.Unmarshal(b, &want) != nil {
			return
		}
		h := want.GetAttributes().GetRequest().GetHttp()
		if len(h.GetHeaders())+len(h.GetHeaderMap().GetHeaders()) > headersMax {
			return
		}
		if err != nil {
			if strings.Contains(err.Error(), "too many") { // the same name many times
				return
			}
			t.Fatalf("%v for a message that protobuf reads", err)
		}
		if c.method != h.GetMethod() || c.path != h.GetPath() || c.host != h.GetHost() {
			t.Fatalf("read %q %q %q, want %s", c.method, c.path, c.host, h)
		}
		for name, value := range h.GetHeaders() {
			if !slices.ContainsFunc(c.headers, func(x header) bool { return string(x.name) == name && string(x.value) == value }) {
				t.Fatalf("no %q: %q", name, value)
			}
		}
		if got, want := c.held, want.GetAttributes().GetContextExtensions()[settleEntry] == settleLater; got != want {
			t.Fatalf("held %v, want %v", got, want)
		}
	})
}

func TestLongMessagesKeepTheirLengths(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 100, 121, 122, 123, 124, 125, 126, 127, 128, 129, 16000, 16370, 16380, 16384, 17000} {
		b := option(nil, 2, "name", strings.Repeat("v", n))
		var got authpb.OkHttpResponse
		if err := proto.Unmarshal(b, &got); err != nil || len(got.GetHeaders()[0].GetHeader().GetValue()) != n {
			t.Errorf("%d: %v", n, err)
		}
	}
}
