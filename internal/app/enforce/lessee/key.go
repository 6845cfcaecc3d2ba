package lessee

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// counterID tells counters apart: of one key, a bucket and requests at once are other ones than units.
type counterID struct {
	store.CounterKey
	class class
}

type class uint8

const (
	units class = iota
	bucket
	atOnce
	classes
)

func classOf(k quota.Kind) class {
	switch k {
	case quota.TokenBucket:
		return bucket
	case quota.Concurrency:
		return atOnce
	case quota.Quota, quota.SpendCap, quota.Fixed, quota.Rolling, quota.Credits:
	}
	return units
}

// keyOf is a limit's counter at an instant, and the end of its window (0 without one).
func keyOf(lim *quota.Limit, s *Set, scope string, nth map[string]int64, now int64) (k store.CounterKey, end int64, ok bool) {
	k = store.CounterKey{CustomerID: s.customer.ID, Meter: lim.Meter, Scope: scope}
	switch lim.Kind {
	case quota.TokenBucket: // of several buckets on one meter the second has length 1, and so on
		k.Length = nth[scope]
		nth[scope]++
		return k, 0, true
	case quota.Concurrency, quota.Credits:
		return k, 0, true
	case quota.Fixed, quota.Rolling:
		if k.Start, end, ok = lim.WindowAt(now); ok {
			k.Length = end - k.Start
		}
		return k, end, ok
	case quota.Quota, quota.SpendCap:
	}
	in, ok := lim.Window.Containing(time.UnixMicro(now), s.customer.Zone, s.Anchor)
	k.Window, k.Start = lim.Window, in.Start.UnixMicro()
	if lim.Kind == quota.SpendCap { // what was used at other prices counts on another counter
		k.Start = max(k.Start, s.priced)
	}
	return k, in.End.UnixMicro(), ok
}

// override puts an override's number into a limit, as far as it can take it.
func override(b *basis, lim *catalog.Limit, o account.Override) bool {
	next, err := lim.Overridden(o.Value, o.Burst)
	if err == nil && lim.Meter != "" {
		_, err = compile(b, &next, lim.Meter)
	}
	if err == nil {
		*lim = next
	}
	return err == nil
}
