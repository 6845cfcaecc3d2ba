package govern

import (
	"cmp"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
)

// allowances are what one customer is allowed apart from the plan. The directory's mu guards it.
type allowances struct {
	overrides   []account.Override // not ended, oldest first
	grants      []account.Grant    // oldest first
	redemptions []account.Redemption
	// turns are the instants at which something begins or ends by itself, rising.
	turns    []int64
	changes  uint64 // how often anything was written
	abnormal bool
	unpaid   bool
}

// revision changes with each write and each turn that has passed. Credits also come back at refills and are lost at the ends of
// usage periods: these lie on whole quarters of an hour, so with credits it changes with each of them.
func (a *allowances) revision(now time.Time) uint64 {
	if a == nil {
		return 0
	}
	passed, _ := slices.BinarySearch(a.turns, now.UnixMicro()+1)
	return revisionOf(a.changes, passed, len(a.grants) > 0, now)
}

// revisionOf puts a revision together; 24 bits of quarters of an hour last for 478 years.
func revisionOf(changes uint64, passed int, credits bool, now time.Time) uint64 {
	quarter := uint64(0)
	if credits {
		quarter = uint64(now.UnixMicro() / period.BucketLength.Microseconds())
	}
	return changes<<42 + uint64(passed)<<24 + quarter
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

// putGrant adds a grant, or replaces it.
func (d *directory) putGrant(g account.Grant) {
	defer d.watch.touch(Touched{CustomerID: g.CustomerID})
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.allowancesOf(g.CustomerID)
	list := slices.DeleteFunc(slices.Clone(a.grants), func(x account.Grant) bool { return x.ID == g.ID })
	at, _ := slices.BinarySearchFunc(list, g.ID, func(x account.Grant, id string) int { return cmp.Compare(x.ID, id) })
	a.grants = slices.Insert(list, at, g)
	a.turn(g.EffectiveAt)
	a.turn(g.ExpiresAt)
	a.turn(g.VoidedAt)
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

// turnsOf says whether a customer has grants, and when something of them begins or ends after now.
func (d *directory) turnsOf(customerID string, now time.Time) (credits bool, turns []int64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	a := d.allowances[customerID]
	if a == nil || len(a.grants) == 0 {
		return false, nil
	}
	passed, _ := slices.BinarySearch(a.turns, now.UnixMicro()+1)
	return true, slices.Clone(a.turns[passed:])
}

// putRedemption adds a redemption, or replaces it.
func (d *directory) putRedemption(r account.Redemption) {
	defer d.watch.touch(Touched{CustomerID: r.CustomerID})
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.allowancesOf(r.CustomerID)
	list := slices.DeleteFunc(slices.Clone(a.redemptions), func(x account.Redemption) bool { return x.ID == r.ID })
	at, _ := slices.BinarySearchFunc(list, r.ID, func(x account.Redemption, id string) int { return cmp.Compare(x.ID, id) })
	a.redemptions = slices.Insert(list, at, r)
}

// redemptionsOf lists a customer's coupons; nobody changes the list.
func (d *directory) redemptionsOf(customerID string) []account.Redemption {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if a := d.allowances[customerID]; a != nil {
		return a.redemptions
	}
	return nil
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
