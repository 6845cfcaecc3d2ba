//go:build !tally_uncharged

package authority

// taken is what a node cannot be granted any more: open leases of all count in full. The build tag tally_uncharged takes that out, for one
// purpose: the run of faults in test/nodes must then fail.
func (c *counter) taken(uint16) int64 { return c.total() }
