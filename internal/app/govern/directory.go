package govern

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// Fixed secrets exist in demos. One is told from garbage only by its digest, so that look-up is open while any exists, and
// both their number and their length are bounded.
const (
	fixedMax       = 16
	fixedLengthMax = 64
	fixedHint      = "fixed" // stands instead of a secret's end, which has 4 characters
)

// directory is the picture in memory of accounts and keys. mu guards all fields; what is handed out is a copy.
type directory struct {
	pepper    []byte
	digesters sync.Pool // *digester
	test      bool      // fixed secrets are good for something
	watch     watch

	mu         sync.RWMutex
	customers  map[string]account.Customer       // by id
	ids        map[string]string                 // customer id by key
	sorted     []string                          // customer keys
	spells     map[string][]Spell                // by customer id, oldest first
	histories  map[string][]subscription.History // by customer id, by start; none in a mirror
	owners     map[string]string                 // customer id by subscription id, of histories
	keys       map[[sha256.Size]byte]account.APIKey
	digests    map[string][sha256.Size]byte // by key id
	fixed      int                          // keys with a fixed secret
	aliases    map[aliasKey]string          // what a name in events is read as
	allowances map[string]*allowances       // by customer id
}

func newDirectory(pepper []byte, mode account.Mode) *directory {
	return &directory{
		pepper: slices.Clone(pepper), test: mode == account.Test,
		customers: map[string]account.Customer{}, ids: map[string]string{},
		spells: map[string][]Spell{}, histories: map[string][]subscription.History{}, owners: map[string]string{},
		keys: map[[sha256.Size]byte]account.APIKey{}, digests: map[string][sha256.Size]byte{},
		aliases: map[aliasKey]string{}, allowances: map[string]*allowances{},
	}
}

// digester computes digests. One is used again and again, since setting it up costs as much as a digest.
type digester struct {
	mac  hash.Hash
	room []byte
}

// digest is what is kept of a secret.
func (d *directory) digest(secret string) (sum [sha256.Size]byte) {
	m, ok := d.digesters.Get().(*digester)
	if !ok {
		m = &digester{mac: hmac.New(sha256.New, d.pepper)}
	}
	defer d.digesters.Put(m)
	m.mac.Reset()
	m.room = append(m.room[:0], secret...)
	m.mac.Write(m.room)
	m.room = m.mac.Sum(m.room[:0])
	copy(sum[:], m.room)
	clear(m.room[:cap(m.room)]) // of the secret
	return sum
}

func (d *directory) putCustomer(c account.Customer) {
	defer d.watch.touch(Touched{CustomerID: c.ID})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.customers[c.ID], d.ids[c.Key] = c, c.ID
	if i, ok := slices.BinarySearch(d.sorted, c.Key); !ok {
		d.sorted = slices.Insert(d.sorted, i, c.Key)
	}
}

// putKey adds or replaces a key.
func (d *directory) putKey(k account.APIKey) {
	defer d.watch.touch(Touched{KeyID: k.ID})
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.digests[k.ID]; !known && k.Hint == fixedHint {
		d.fixed++
	}
	d.keys[k.Digest], d.digests[k.ID] = k, k.Digest
}

// principal authenticates. Garbage costs a checksum alone, unless fixed secrets are in use and it is as short as they are.
func (d *directory) principal(secret string, now time.Time) (p account.Principal, fault KeyFault) {
	if secret == "" {
		return p, KeyMissing
	}
	if account.CheckSecret(secret) != nil && !d.mayBeFixed(secret) {
		return p, KeyUnknown
	}
	digest := d.digest(secret)
	d.mu.RLock()
	defer d.mu.RUnlock()
	k, ok := d.keys[digest]
	if !ok || k.Hint == fixedHint && !d.test {
		return p, KeyUnknown
	}
	p.Key = k
	d.fill(&p, k.CustomerID, now)
	switch k.Status(now) {
	case account.KeyActive:
		return p, ""
	case account.KeyExpired:
		return p, KeyExpired
	case account.KeyRevoked:
	}
	return p, KeyRevoked
}

// fill says all of a principal's customer; mu is held.
func (d *directory) fill(p *account.Principal, customerID string, now time.Time) {
	p.Customer = d.customers[customerID]
	sub, ok := d.active(customerID, now)
	p.Subscription, p.HasSubscription = sub, ok && !sub.Paused
	if a := d.allowances[customerID]; a != nil {
		p.Revision, p.Abnormal = a.revision(now), a.abnormal
	}
	p.Revision += d.turned(customerID, now)
}

// principalOf fills the key only when ref is the id of one that is active.
func (d *directory) principalOf(ref string, now time.Time) (p account.Principal, ok bool) {
	if cust, found := d.customer(ref); found {
		d.mu.RLock()
		defer d.mu.RUnlock()
		d.fill(&p, cust.ID, now)
		return p, true
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if digest, known := d.digests[ref]; known && d.keys[digest].Status(now) == account.KeyActive {
		p.Key = d.keys[digest]
		d.fill(&p, p.Key.CustomerID, now)
		return p, true
	}
	return p, false
}

func (d *directory) mayBeFixed(secret string) bool {
	if !d.test || len(secret) > fixedLengthMax {
		return false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.fixed > 0
}

func (d *directory) customer(ref string) (account.Customer, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if c, ok := d.customers[ref]; ok {
		return c, true
	}
	c, ok := d.customers[d.ids[ref]]
	return c, ok
}

func (d *directory) allCustomers() []account.Customer {
	d.mu.RLock()
	defer d.mu.RUnlock()
	list := make([]account.Customer, 0, len(d.sorted))
	for _, key := range d.sorted {
		list = append(list, d.customers[d.ids[key]])
	}
	return list
}

func (d *directory) customerKeys() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Clone(d.sorted)
}

func (d *directory) key(id string) (account.APIKey, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	digest, ok := d.digests[id]
	return d.keys[digest], ok
}

func (d *directory) knows(digest [sha256.Size]byte) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	_, ok := d.keys[digest]
	return ok
}

func (d *directory) fixedKeys() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.fixed
}

// check finds what cannot be: keys or subscriptions of nobody.
func (d *directory) check() error {
	for _, k := range d.keys {
		if _, ok := d.customers[k.CustomerID]; !ok {
			return fmt.Errorf("key %s belongs to customer %s, who is not there", k.ID, k.CustomerID)
		}
	}
	for id := range d.spells {
		if _, ok := d.customers[id]; !ok {
			return fmt.Errorf("a subscription belongs to customer %s, who is not there", id)
		}
	}
	return nil
}
