package govern

import (
	"cmp"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// Spell is a subscription in a time in which nothing of it changes that limits depend on.
type Spell struct {
	During period.Interval
	As     account.Subscription
}

// spellsOf a history: one for each segment, or for several that differ in quantities alone.
func spellsOf(s account.Subscription, segments []subscription.Segment) []Spell {
	var out []Spell
	for i := range segments {
		as, ok := subscription.AsOf(s, segments, segments[i].Start)
		if !ok {
			continue
		}
		if last := len(out) - 1; last >= 0 && out[last].As == as {
			out[last].During.End = segments[i].End
			continue
		}
		out = append(out, Spell{segments[i].Interval, as})
	}
	return out
}

// putHistory adds or replaces a subscription.
func (d *directory) putHistory(h subscription.History, spells []Spell) {
	defer d.watch.touch(Touched{CustomerID: h.CustomerID})
	d.mu.Lock()
	defer d.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(d.histories[h.CustomerID]), func(x subscription.History) bool { return x.ID == h.ID })
	list = append(list, h)
	slices.SortFunc(list, func(a, b subscription.History) int { return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID)) })
	d.histories[h.CustomerID], d.owners[h.ID] = list, h.CustomerID
	kept := slices.DeleteFunc(slices.Clone(d.spells[h.CustomerID]), func(x Spell) bool { return x.As.ID == h.ID })
	d.setSpells(h.CustomerID, append(kept, spells...))
	d.allowancesOf(h.CustomerID) // the revision
}

// putSpells replaces those of a customer.
func (d *directory) putSpells(customerID string, spells []Spell) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.setSpells(customerID, slices.Clone(spells))
}

// setSpells takes the list over; mu is held for writing.
func (d *directory) setSpells(customerID string, spells []Spell) {
	slices.SortFunc(spells, func(a, b Spell) int {
		return cmp.Or(a.During.Start.Compare(b.During.Start), cmp.Compare(a.As.ID, b.As.ID))
	})
	d.spells[customerID] = spells
}

// active is the customer's subscription in force, paused or not; mu is held.
func (d *directory) active(customerID string, now time.Time) (account.Subscription, bool) {
	list := d.spells[customerID]
	for i := range list {
		if list[i].During.Contains(now) {
			return list[i].As, true
		}
	}
	return account.Subscription{}, false
}

// turned counts the beginnings and ends of spells that have passed; mu is held.
func (d *directory) turned(customerID string, now time.Time) (n uint64) {
	list := d.spells[customerID]
	for i := range list {
		if !list[i].During.Start.After(now) {
			n++
		}
		if end := list[i].During.End; !end.IsZero() && !end.After(now) {
			n++
		}
	}
	return n
}

// spelled is turned for who does not hold mu.
func (d *directory) spelled(customerID string, now time.Time) uint64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.turned(customerID, now)
}

func (d *directory) activeSubscription(customerID string, now time.Time) (account.Subscription, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.active(customerID, now)
}

// spellsOf are a customer's; nobody changes the list.
func (d *directory) spellsOf(customerID string) []Spell {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.spells[customerID]
}

// historiesOf are a customer's; nobody changes the list.
func (d *directory) historiesOf(customerID string) []subscription.History {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.histories[customerID]
}

// history finds one by the subscription's id.
func (d *directory) history(id string) (subscription.History, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, h := range d.histories[d.owners[id]] {
		if h.ID == id {
			return h, true
		}
	}
	return subscription.History{}, false
}

// lasting are all subscriptions that have not ended at now, as they are then and as they will be: one for each plan and version.
func (d *directory) lasting(now time.Time) []account.Subscription {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var out []account.Subscription
	for _, key := range d.sorted {
		first := len(out)
		for _, s := range d.spells[d.ids[key]] {
			known := slices.ContainsFunc(out[first:], func(x account.Subscription) bool {
				return x.ID == s.As.ID && x.Plan == s.As.Plan && x.CatalogVersion == s.As.CatalogVersion
			})
			if !known && (s.During.End.IsZero() || s.During.End.After(now)) {
				out = append(out, s.As)
			}
		}
	}
	return out
}

// subscribers counts the subscriptions that are on a plan at now, or will be, by plan.
func (d *directory) subscribers(now time.Time) map[string]int {
	out, counted := map[string]int{}, map[[2]string]bool{}
	for _, sub := range d.lasting(now) {
		if on := [2]string{sub.ID, sub.Plan}; !counted[on] {
			counted[on] = true
			out[sub.Plan]++
		}
	}
	return out
}

// asOf is a subscription as it is at now; before its start as it begins, after its end as it was at last.
func (d *directory) asOf(s account.Subscription, now time.Time) account.Subscription {
	d.mu.RLock()
	defer d.mu.RUnlock()
	found := false
	for _, x := range d.spells[s.CustomerID] {
		if x.As.ID == s.ID && (!found || !x.During.Start.After(now)) {
			s, found = x.As, true
		}
	}
	if _, known := d.owners[s.ID]; known && !found {
		s.End = s.Start // it was canceled where it starts
	}
	return s
}
