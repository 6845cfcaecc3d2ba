package catalog

import "github.com/tallystick/tallystick/internal/core/quota"

// Compiled is one applied, validated catalog version with its limits ready for the hot path. It is immutable.
type Compiled struct {
	Version int64
	*Catalog
	limits map[planMeter][]quota.Limit
}

type planMeter struct{ plan, meter string }

// Compile prepares a valid catalog.
func Compile(version int64, c *Catalog) (*Compiled, error) {
	out := &Compiled{Version: version, Catalog: c, limits: map[planMeter][]quota.Limit{}}
	for _, p := range c.Plans {
		for _, m := range c.Meters {
			ls, err := c.CompileLimits(p, m.Key)
			if err != nil {
				return nil, err
			}
			out.limits[planMeter{p.Key, m.Key}] = ls
		}
	}
	return out, nil
}

// Limits are the plan's limits that a request on meterKey must pass; the slice is shared and must not be changed.
func (c *Compiled) Limits(plan, meterKey string) []quota.Limit {
	return c.limits[planMeter{plan, meterKey}]
}
