//go:build tally_uncharged

package authority

// taken is wrong here: of others' open leases only what their holders said that they spent counts. See charge.go.
func (c *counter) taken(node uint16) int64 {
	sum := add(c.reported, c.unleased)
	for i := range c.leases {
		if l := &c.leases[i]; l.closed || l.node == node {
			sum = add(sum, l.charged)
		} else {
			sum = add(sum, add(l.settled, l.told))
		}
	}
	return sum
}
