package govern

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
)

// Sender is who reports usage: a producer, or the operator.
type Sender struct {
	// Producer names it in the journal: "producer/prd_…".
	Producer string

	allowed account.Producer // of a producer's
	senders *senders         // of the operator's
}

// ProducerSender authenticates a producer's token: no I/O, and garbage costs a checksum alone. fault is "" on success.
func (s *Service) ProducerSender(secret string, now time.Time) (from Sender, fault KeyFault) {
	if account.CheckProducerSecret(secret) != nil {
		return from, KeyUnknown
	}
	p, t, ok := s.senders.find(s.directory.digest(secret))
	switch {
	case !ok:
		return from, KeyUnknown
	case !t.RevokedAt.IsZero():
		return from, KeyRevoked
	}
	switch p.Status(now) {
	case account.KeyExpired:
		return from, KeyExpired
	case account.KeyRevoked:
		return from, KeyRevoked
	case account.KeyActive:
	}
	return Sender{Producer: "producer/" + p.ID, allowed: p}, ""
}

// OperatorSender is an operator, who may report for every source that no producer owns. producer names them in the journal.
func (s *Service) OperatorSender(producer string) Sender {
	return Sender{Producer: producer, senders: &s.senders}
}

// Check says whether the sender may report an event of this source and type: nil, or an *Invalid that points at the field.
func (f Sender) Check(source, eventType string) error {
	if f.senders != nil {
		if owner, owned := f.senders.owner(source); owned {
			return &Invalid{"/source", fmt.Sprintf("belongs to producer %q", owner), "send it with that producer's token, or choose another source"}
		}
		return nil
	}
	if !account.MatchesAny(f.allowed.Sources, source) {
		return &Invalid{"/source", fmt.Sprintf("is not a source of producer %q", f.allowed.Key), "this token is for " + strings.Join(f.allowed.Sources, ", ")}
	}
	if !account.MatchesAny(f.allowed.Types, eventType) {
		return &Invalid{"/type", fmt.Sprintf("is not a type that producer %q may send", f.allowed.Key), "this token is for " + strings.Join(f.allowed.Types, ", ")}
	}
	return nil
}

// senders is the picture in memory of producers and their tokens. mu guards all fields.
type senders struct {
	mu        sync.RWMutex
	producers map[string]account.Producer // by id
	ids       map[string]string           // by key
	tokens    map[[sha256.Size]byte]account.ProducerToken
	digests   map[string][][sha256.Size]byte // by producer id, oldest token first
	owned     []ownedSource                  // of live producers, sorted by text
}

// ownedSource is one pattern of a live producer. No two overlap.
type ownedSource struct {
	text  string // without the *
	open  bool   // it had one
	owner string // the producer's key
}

// put adds or replaces a producer.
func (d *senders) put(p account.Producer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.producers == nil {
		d.producers, d.ids = map[string]account.Producer{}, map[string]string{}
	}
	d.producers[p.ID], d.ids[p.Key] = p, p.ID
	d.owned = slices.DeleteFunc(d.owned, func(o ownedSource) bool { return o.owner == p.Key })
	if !p.RevokedAt.IsZero() {
		return
	}
	for _, pattern := range p.Sources {
		text, open := strings.CutSuffix(pattern, "*")
		d.owned = append(d.owned, ownedSource{text, open, p.Key})
	}
	slices.SortFunc(d.owned, func(a, b ownedSource) int { return cmp.Compare(a.text, b.text) })
}

// putToken adds or replaces a token.
func (d *senders) putToken(t account.ProducerToken) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tokens == nil {
		d.tokens, d.digests = map[[sha256.Size]byte]account.ProducerToken{}, map[string][][sha256.Size]byte{}
	}
	if _, known := d.tokens[t.Digest]; !known {
		d.digests[t.ProducerID] = append(d.digests[t.ProducerID], t.Digest)
	}
	d.tokens[t.Digest] = t
}

func (d *senders) find(digest [sha256.Size]byte) (p account.Producer, t account.ProducerToken, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if t, ok = d.tokens[digest]; ok {
		p, ok = d.producers[t.ProducerID]
	}
	return p, t, ok
}

func (d *senders) producer(ref string) (account.Producer, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if p, ok := d.producers[ref]; ok {
		return p, true
	}
	p, ok := d.producers[d.ids[ref]]
	return p, ok
}

func (d *senders) tokensOf(producerID string) []account.ProducerToken {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]account.ProducerToken, 0, len(d.digests[producerID]))
	for _, digest := range d.digests[producerID] {
		out = append(out, d.tokens[digest])
	}
	slices.SortFunc(out, func(a, b account.ProducerToken) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (d *senders) live() (n int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, p := range d.producers {
		if p.RevokedAt.IsZero() {
			n++
		}
	}
	return n
}

// overlap finds a live producer with a source that some of these overlap.
func (d *senders) overlap(sources []string) (other account.Producer, mine, theirs string, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, p := range d.producers {
		if p.RevokedAt.IsZero() {
			if mine, theirs, ok = account.Overlap(sources, p.Sources); ok {
				return p, mine, theirs, true
			}
		}
	}
	return other, "", "", false
}

// owner is the key of the live producer that a source belongs to. Owned patterns do not overlap, so only the last one at or
// before the source can fit.
func (d *senders) owner(source string) (key string, owned bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	i, exact := slices.BinarySearchFunc(d.owned, source, func(o ownedSource, s string) int { return cmp.Compare(o.text, s) })
	if !exact {
		i--
	}
	if i < 0 {
		return "", false
	}
	o := d.owned[i]
	return o.owner, o.text == source || o.open && strings.HasPrefix(source, o.text)
}
