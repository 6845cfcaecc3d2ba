//go:build tally_uncharged

package authority

// taken is wrong here: of open leases only what holders said that they spent counts. See charge.go.
func (c *counter) taken() int64 {
	sum := add(c.reported, c.unleased)
	for i := range c.leases {
		if l := &c.leases[i]; l.closed {
			sum = add(sum, l.charged)
		} else {
			sum = add(sum, add(l.settled, l.told))
		}
	}
	return sum
}
