package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// link is a network between two processes: a proxy of Toxiproxy.
type link struct {
	name  string
	proxy *toxiproxy.Proxy
}

func newLink(t *testing.T, name, to string) *link {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics log by the global logger
	s := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	l := &link{name: name, proxy: toxiproxy.NewProxy(s, name, "127.0.0.1:0", to)}
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.heal()
		l.proxy.Stop()
	})
	return l
}

// Addr is where one side finds the other.
func (l *link) Addr() string { return l.proxy.Listen }

// harm adds a toxic in one direction or, with "both", in two.
func (l *link) harm(kind, direction, attributes string) error {
	directions := []string{direction}
	if direction == "both" {
		directions = []string{"upstream", "downstream"}
	}
	for _, d := range directions {
		text := fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": %s}`, kind, d, attributes)
		if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
			return fmt.Errorf("%s %s: %w", kind, l.name, err)
		}
	}
	return nil
}

// heal removes every toxic.
func (l *link) heal() { l.proxy.Toxics.ResetToxics(context.Background()) }

// cut ends all connections and refuses new ones.
func (l *link) cut() { l.proxy.Stop() }

// join undoes cut, towards another address if it is not empty. It may be undone already.
func (l *link) join(to string) error {
	if to != "" {
		l.proxy.Upstream = to // it is stopped: nobody reads it
	}
	if err := l.proxy.Start(); !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
		return err
	}
	return nil
}
