package console

import (
	"net/http"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/web/node"
)

// gateways lists the gateways of other processes.
func (c *console) gateways(r *http.Request) (answer, error) {
	return answer{page: gatewaysPage(c.frame(r, "Gateways"), c.cfg.Gateways())}, nil
}

// gatewaysLive is the part of it that updates itself.
func (c *console) gatewaysLive(*http.Request) (answer, error) {
	return answer{page: gatewaysList(c.cfg.Gateways())}, nil
}

// gatewayState says how one stands.
func gatewayState(g node.Status) (tone, text string) {
	switch {
	case !g.RevokedAt.IsZero():
		return "", "revoked"
	case g.Connected:
		return "good", "connected"
	}
	return "bad", "away"
}

// seenText is when something was last heard of a gateway, on the machine's clock.
func seenText(at time.Time) string {
	if at.IsZero() {
		return "not since the server's start"
	}
	return at.UTC().Format("2 Jan 15:04:05")
}

// skewText is how far a gateway's clock leads; a negative number says that it lags.
func skewText(g node.Status) string {
	if g.LastSeen.IsZero() {
		return "–"
	}
	return strconv.FormatInt(g.Skew.Milliseconds(), 10) + " ms"
}
