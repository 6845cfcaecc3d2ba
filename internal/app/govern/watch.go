package govern

import (
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
)

// touchedKept is how many changes are remembered. Who falls behind them reads everything again.
const touchedKept = 4096

// Touched says what of the directory changed, not how: one field is set. What it is now, is asked for.
type Touched struct {
	CustomerID string // the customer, a subscription or override of it, or what limits make of it
	KeyID      string
	Version    int64 // the newest catalog version
}

// watch numbers the changes of the directory. mu guards all fields.
type watch struct {
	mu       sync.Mutex
	revision uint64
	last     []Touched     // ends at revision
	changed  chan struct{} // closed at the next change; nil: nobody waits
}

// touch must come after what changed can be read.
func (w *watch) touch(t Touched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.revision++
	if len(w.last) >= 2*touchedKept {
		w.last = append(w.last[:0], w.last[len(w.last)-touchedKept:]...)
	}
	w.last = append(w.last, t)
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// Touched lists what changed after a revision, in order, and the revision after it. more is closed at the next change. complete
// is false when the revision is too old or of another run: then everything has to be read again, after this call.
func (s *Service) Touched(after uint64) (list []Touched, revision uint64, complete bool, more <-chan struct{}) {
	w := &s.directory.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	if after > w.revision || w.revision-after > uint64(len(w.last)) {
		return nil, w.revision, false, w.changed
	}
	return append(list, w.last[uint64(len(w.last))-(w.revision-after):]...), w.revision, true, w.changed
}

// Picture is one customer as gateways need it: without billing details.
type Picture struct {
	Customer  account.Customer
	Spells    []Spell // oldest first
	Overrides []account.Override
	Abnormal  bool
}

// PictureOf is a customer's, by id.
func (s *Service) PictureOf(customerID string, now time.Time) (Picture, bool) {
	c, ok := s.directory.customer(customerID)
	if !ok {
		return Picture{}, false
	}
	p, _ := s.directory.principalOf(customerID, now)
	c.Billing = account.BillingDetails{} // of no use to a gateway
	return Picture{c, s.directory.spellsOf(c.ID), s.Overrides(c.ID), p.Abnormal}, true
}

// KeyNow is a key as the directory has it: no I/O.
func (s *Service) KeyNow(id string) (account.APIKey, bool) { return s.directory.key(id) }

// KeysNow are all keys in the directory, in no order.
func (s *Service) KeysNow() []account.APIKey {
	d := s.directory
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]account.APIKey, 0, len(d.keys))
	for _, k := range d.keys {
		out = append(out, k)
	}
	return out
}

// Touch says that something changed which is not kept in the directory itself, but asked for with it.
func (s *Service) Touch(t Touched) { s.directory.watch.touch(t) }
