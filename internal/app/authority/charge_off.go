//go:build tally_uncharged

package authority

import "github.com/tallystick/tallystick/internal/app/authority/arith"

// taken is wrong here: of others' open leases only what their holders said that they spent counts. See charge.go.
func (c *counter) taken(node uint16) (sum int64) {
	sum = c.total()
	for _, l := range c.leases {
		if !l.closed && l.node != node {
			sum = arith.Sub(sum, l.charged-l.settled-l.told)
		}
	}
	return sum
}
