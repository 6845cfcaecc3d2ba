package node_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/node"
	"github.com/tallystick/tallystick/internal/web/node/remote"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// slowly is a stub whose draws of one customer wait until they are let go; those of another one fail.
type slowly struct {
	*stub
	slow chan struct{}
}

func (s *slowly) Draw(ctx context.Context, d authority.Draw) ([]authority.Answer, error) {
	switch d.CustomerID {
	case "slow":
		<-s.slow
	case "wrong":
		return nil, fmt.Errorf("no such counter: %w", store.ErrInvalid)
	}
	return s.stub.Draw(ctx, d)
}

// slowWorld is a world whose authority is slow as above, until slow is closed.
func slowWorld(t *testing.T) (w *world, slow chan struct{}) {
	t.Helper()
	slow = make(chan struct{})
	return newWorld(t, func(c *node.Config) {
		s, ok := c.Authority.(*stub)
		if !ok {
			t.Fatal("another authority")
		}
		c.Authority = &slowly{s, slow}
	}), slow
}

// TestManyDrawsInOneCall: draws that come at once share calls; each gets its own answer or error, and the slow ones hold up nobody.
func TestManyDrawsInOneCall(t *testing.T) {
	t.Parallel()
	w, slow := slowWorld(t)
	c, _ := w.client(w.token("east"), func(c *remote.Config) { c.DrawTimeout = patience })
	manyDraws(t, c, slow)
	if sent := c.Stats().Sent; sent["draws"] == 0 || sent["draw"]+sent["draws"] > 100 {
		t.Errorf("300 draws in %d calls alone and %d for many", sent["draw"], sent["draws"])
	}
}

// TestServerThatKnowsNoManyDraws: one of the release before gets them one by one.
func TestServerThatKnowsNoManyDraws(t *testing.T) {
	t.Parallel()
	w, slow := slowWorld(t)
	old := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathDraws {
			r.URL.Path = "/v1/nodes/unknown"
		}
		w.node.ServeHTTP(rw, r)
	}))
	t.Cleanup(old.Close)
	c, _ := w.client(w.token("east"), func(c *remote.Config) { c.Server, c.DrawTimeout = old.URL, patience })
	manyDraws(t, c, slow)
}

// manyDraws draws for many customers at once, behind two slow draws, and looks at each answer.
func manyDraws(t *testing.T, c *remote.Client, slow chan struct{}) {
	t.Helper()
	welcome, err := c.Begin(t.Context(), 0, "boot", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	draw := func(customer string, want int64) ([]authority.Answer, error) {
		return c.Draw(t.Context(), authority.Draw{
			Epoch: welcome.Epoch, CustomerID: customer,
			Asks: []authority.Ask{{Counter: store.CounterKey{CustomerID: customer, Meter: "calls"}, Limits: []string{"daily"}, Need: 1, Want: want}},
		})
	}
	var waiting, all sync.WaitGroup
	for range 3 { // more than go alone, so that one waits within a call for many
		waiting.Go(func() {
			if out, err := draw("slow", 7); err != nil || out[0].Granted != 7 {
				t.Errorf("slow: %+v, %v", out, err)
			}
		})
	}
	for i := range 300 {
		all.Go(func() {
			customer := fmt.Sprint("c", i)
			if i%10 == 0 {
				customer = "wrong"
			}
			out, err := draw(customer, int64(i+1))
			switch {
			case customer == "wrong" && (!errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "no such counter")):
				t.Errorf("%d: %v", i, err)
			case customer != "wrong" && (err != nil || len(out) != 1 || out[0].Granted != int64(i+1)):
				t.Errorf("%d: %+v, %v", i, out, err)
			}
		})
	}
	all.Wait() // the slow ones still wait
	close(slow)
	waiting.Wait()
}
