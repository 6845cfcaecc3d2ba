package govern

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
)

// Facts are a part of the directory.
type Facts struct {
	Catalogs []CatalogVersion // the last one is the newest
	Pictures []Picture
	Keys     []account.APIKey
}

// MirrorConfig of a Mirror; all fields are required.
type MirrorConfig struct {
	Pepper []byte
	Mode   account.Mode
	// Fetch reads a catalog version that the mirror does not have.
	Fetch func(ctx context.Context, version int64) (CatalogVersion, error)
}

// Mirror is a Service's directory in another process, fed with Facts. Reading is safe for concurrent use; Reset, Put and Done
// are called by one goroutine.
type Mirror struct {
	cfg      MirrorConfig
	filling  *mirrored // between Reset and Done; owner: the goroutine that feeds
	now      atomic.Pointer[mirrored]
	current  atomic.Pointer[catalog.Compiled]
	versions versions
	puts     atomic.Uint64 // counts, for Principal.Revision
}

// mirrored is one whole picture.
type mirrored struct {
	*directory
	newest *catalog.Compiled // owner: the goroutine that feeds
	mu     sync.RWMutex      // guards extra
	extra  map[string]extra  // by customer id
}

// extra is what the directory does not hold of a customer.
type extra struct {
	overrides []account.Override
	abnormal  bool
	revision  uint64
}

// NewMirror is empty.
func NewMirror(cfg MirrorConfig) (*Mirror, error) {
	if len(cfg.Pepper) != pepperLen || cfg.Fetch == nil || cfg.Mode != account.Live && cfg.Mode != account.Test {
		return nil, errors.New("govern: a mirror needs the pepper, the mode and a way to fetch catalogs")
	}
	m := &Mirror{cfg: cfg}
	empty, err := catalog.Compile(0, &catalog.Catalog{})
	if err != nil {
		return nil, fmt.Errorf("compile the empty catalog: %w", err)
	}
	m.current.Store(empty)
	m.now.Store(m.fresh())
	return m, nil
}

func (m *Mirror) fresh() *mirrored {
	return &mirrored{directory: newDirectory(m.cfg.Pepper, m.cfg.Mode), extra: map[string]extra{}}
}

// Reset begins a new picture. The old one serves until Done.
func (m *Mirror) Reset() { m.filling = m.fresh() }

// Put takes facts in: into the new picture after Reset, else at once into the present one.
func (m *Mirror) Put(f Facts) error {
	to := m.filling
	if to == nil {
		to = m.now.Load()
	}
	for _, v := range f.Catalogs {
		c, err := compile(v)
		if err != nil {
			return err
		}
		m.versions.put(c)
		to.newest = c
	}
	for _, p := range f.Pictures {
		to.putCustomer(p.Customer)
		to.putSpells(p.Customer.ID, p.Spells)
		to.mu.Lock()
		to.extra[p.Customer.ID] = extra{p.Overrides, p.Abnormal, m.puts.Add(1)}
		to.mu.Unlock()
	}
	for _, k := range f.Keys {
		to.putKey(k)
	}
	if m.filling == nil && len(f.Catalogs) > 0 {
		m.current.Store(to.newest)
	}
	return nil
}

// Done puts the new picture in the place of the old one.
func (m *Mirror) Done() {
	if m.filling == nil {
		return
	}
	if m.filling.newest != nil {
		m.current.Store(m.filling.newest)
	}
	m.now.Store(m.filling)
	m.filling = nil
}

func (d *mirrored) complement(p *account.Principal, now time.Time) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	x := d.extra[p.Customer.ID]
	over := uint64(0) // an override ends by itself
	for i := range x.overrides {
		if !x.overrides[i].Active(now) {
			over++
		}
	}
	p.Abnormal, p.Revision = x.abnormal, x.revision<<24+over+d.spelled(p.Customer.ID, now)
}

// Principal is as a Service's.
func (m *Mirror) Principal(secret string, now time.Time) (account.Principal, KeyFault) {
	d := m.now.Load()
	p, fault := d.principal(secret, now)
	if fault == "" {
		d.complement(&p, now)
	}
	return p, fault
}

// PrincipalOf is as a Service's.
func (m *Mirror) PrincipalOf(ref string, now time.Time) (account.Principal, bool) {
	d := m.now.Load()
	p, ok := d.principalOf(ref, now)
	if ok {
		d.complement(&p, now)
	}
	return p, ok
}

// Customer is as a Service's.
func (m *Mirror) Customer(ref string) (account.Customer, bool) { return m.now.Load().customer(ref) }

// ActiveSubscription is as a Service's.
func (m *Mirror) ActiveSubscription(customerID string, at time.Time) (account.Subscription, bool) {
	return m.now.Load().activeSubscription(customerID, at)
}

// Overrides is as a Service's.
func (m *Mirror) Overrides(customerID string) []account.Override {
	d := m.now.Load()
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.extra[customerID].overrides
}

// Current is the newest catalog; never nil.
func (m *Mirror) Current() *catalog.Compiled { return m.current.Load() }

// Version is an older catalog, fetched and cached.
func (m *Mirror) Version(ctx context.Context, v int64) (*catalog.Compiled, error) {
	if c := m.versions.get(v); c != nil {
		return c, nil
	}
	if c := m.Current(); c.Version == v {
		return c, nil
	}
	stored, err := m.cfg.Fetch(ctx, v)
	if err != nil {
		return nil, err
	}
	c, err := compile(stored)
	if err != nil {
		return nil, err
	}
	m.versions.put(c)
	return c, nil
}
