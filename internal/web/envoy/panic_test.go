package envoy

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	descpb "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratepb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
)

// A call that fails by a fault of the program gives back what it had been admitted.
func TestPanicGivesBack(t *testing.T) {
	t.Parallel()
	var faulty atomic.Bool
	var w *world
	w = newWorld(t, compile(t, "10"), func(c *Config) {
		c.Now = func() time.Time {
			if faulty.Load() {
				panic("a fault")
			}
			return w.Now()
		}
	})
	faulty.Store(true)
	defer faulty.Store(false)
	if _, err := w.auth.Check(context.Background(), checkOf("GET", "/hello", bearerOf("good"), "settle", "stream_done")); err == nil {
		t.Error("Check passed")
	}
	w.want(0, 1, 0)
	if _, err := w.rate.ShouldRateLimit(context.Background(), &ratepb.RateLimitRequest{
		Domain: Domain, Descriptors: []*descpb.RateLimitDescriptor{hello("settle", "stream_done"), hello("settle", "stream_done")},
	}); err == nil {
		t.Error("ShouldRateLimit passed")
	}
	if s := w.e.Stats(); s.Open != 0 {
		t.Errorf("%d stay open", s.Open)
	}
}
