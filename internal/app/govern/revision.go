package govern

import (
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
)

// allowances are what one customer is allowed apart from the plan. The directory's mu guards it.
type allowances struct {
	overrides []account.Override // not ended, oldest first
	grants    []account.Grant    // oldest first
	// turns are the instants at which something begins or ends by itself, rising.
	turns    []int64
	changes  uint64 // how often anything was written
	abnormal bool
	unpaid   bool
}

// revision changes with each write and each turn that has passed.
func (a *allowances) revision(now time.Time) uint64 {
	if a == nil {
		return 0
	}
	passed, _ := slices.BinarySearch(a.turns, now.UnixMicro()+1)
	return a.changes<<24 | uint64(passed)
}

func (a *allowances) turn(at time.Time) {
	if !at.IsZero() {
		i, _ := slices.BinarySearch(a.turns, at.UnixMicro())
		a.turns = slices.Insert(a.turns, i, at.UnixMicro())
	}
}

// allowancesOf finds or makes a customer's; mu is held for writing.
func (d *directory) allowancesOf(customerID string) *allowances {
	a := d.allowances[customerID]
	if a == nil {
		a = &allowances{}
		d.allowances[customerID] = a
	}
	a.changes++
	return a
}

// putOverride adds one, or takes an ended one away.
func (d *directory) putOverride(o account.Override) {
	defer d.watch.touch(Touched{CustomerID: o.CustomerID})
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.allowancesOf(o.CustomerID)
	list := slices.DeleteFunc(slices.Clone(a.overrides), func(x account.Override) bool { return x.ID == o.ID })
	if o.EndedAt.IsZero() {
		list = append(list, o)
		a.turn(o.ExpiresAt)
	}
	a.overrides = list
}

// overridesOf lists those of a customer that were not ended, expired ones among them; nobody changes the list.
func (d *directory) overridesOf(customerID string) []account.Override {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if a := d.allowances[customerID]; a != nil {
		return a.overrides
	}
	return nil
}

func (d *directory) putGrant(g account.Grant) {
	defer d.watch.touch(Touched{CustomerID: g.CustomerID})
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.allowancesOf(g.CustomerID)
	a.grants = append(slices.Clone(a.grants), g)
	a.turn(g.EffectiveAt)
}

// grantsOf lists a customer's grants and their corrections; nobody changes the list.
func (d *directory) grantsOf(customerID string) []account.Grant {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if a := d.allowances[customerID]; a != nil {
		return a.grants
	}
	return nil
}

// expired finds a grant whose time is over and that was not corrected yet; of one customer's the one that burns first.
func (d *directory) expired(now time.Time) (found account.Grant, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, a := range d.allowances {
		for _, g := range a.grants {
			over := g.GrantID == "" && !g.ExpiresAt.IsZero() && !now.Before(g.ExpiresAt)
			if !over || slices.ContainsFunc(a.grants, func(x account.Grant) bool { return x.GrantID == g.ID }) {
				continue
			}
			if !ok || burnsBefore(g, found) {
				found, ok = g, true
			}
		}
		if ok {
			return found, true
		}
	}
	return found, false
}

func (d *directory) setAbnormal(customerID string, abnormal bool) {
	defer d.watch.touch(Touched{CustomerID: customerID})
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.allowances[customerID]; a == nil && !abnormal || a != nil && a.abnormal == abnormal {
		return
	}
	d.allowancesOf(customerID).abnormal = abnormal
}

func (d *directory) setUnpaid(customerID string, unpaid bool) {
	defer d.watch.touch(Touched{CustomerID: customerID})
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.allowances[customerID]; a == nil && !unpaid || a != nil && a.unpaid == unpaid {
		return
	}
	d.allowancesOf(customerID).unpaid = unpaid
}
