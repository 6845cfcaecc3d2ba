package pgtest

import "context"

// Run runs one of PostgreSQL's programs to its end, as whom the server runs, in the cluster's folder.
func (c *Cluster) Run(ctx context.Context, program string, args ...string) error {
	return c.run(ctx, program, args...)
}
