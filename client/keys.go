package client

import (
	"context"
	"errors"
	"hash/crc32"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	keyFresh   = 900 * time.Millisecond // a revocation works within a second
	keyStale   = 5 * time.Minute        // how long a good key is trusted in mode Open without the server
	verifyMost = 32                     // calls about keys at a time, of those known good and of all others
)

// Key is whose an API key is.
type Key struct {
	ID         string // key_…
	Customer   string // the customer's key
	CustomerID string // cus_…
	Project    string
	Plan       string // empty without an active subscription
}

// known is an answer about a key. It never changes.
type known struct {
	key   Key
	bad   *Problem // nil: the key is good
	asked time.Time
}

// keyCache remembers answers for less than a second. Secrets are its keys, in memory alone.
type keyCache struct {
	mu      sync.RWMutex // guards all below
	good    map[string]*known
	bad     map[string]*known
	waiting map[string]chan struct{}
	most    int
	calls   chan struct{} // a place for each call about a key that was never good
	again   chan struct{} // and about one that was: made-up keys do not hold it up
}

func (k *keyCache) init(most int) {
	k.good, k.bad, k.waiting = map[string]*known{}, map[string]*known{}, map[string]chan struct{}{}
	k.most, k.calls, k.again = most, make(chan struct{}, verifyMost), make(chan struct{}, verifyMost)
}

func (k *keyCache) find(secret string) *known {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if e := k.good[secret]; e != nil {
		return e
	}
	return k.bad[secret]
}

// put stores an answer. A full map first loses what is old, then anything.
func (k *keyCache) put(secret string, e *known) {
	k.mu.Lock()
	defer k.mu.Unlock()
	to, from, keep := k.good, k.bad, keyStale
	if e.bad != nil {
		to, from, keep = k.bad, k.good, keyFresh
	}
	delete(from, secret)
	if _, there := to[secret]; !there && len(to) >= k.most {
		looked := 0
		for s, old := range to { // in no order
			if looked++; e.asked.Sub(old.asked) > keep || looked == lruSample {
				delete(to, s)
				break
			}
		}
	}
	to[secret] = e
}

// begin says whether the caller is to ask; others wait until the channel is closed.
func (k *keyCache) begin(secret string) (chan struct{}, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.waiting[secret]; w != nil {
		return w, false
	}
	w := make(chan struct{})
	k.waiting[secret] = w
	return w, true
}

func (k *keyCache) end(secret string, w chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.waiting, secret)
	close(w)
}

// Authenticate finds whose a key is. An answer is good for 0.9 s, so a revoked key is refused within a second. The error is a
// *Problem: 401 for a key that does not authenticate, 503 when nobody can say.
func (c *Client) Authenticate(ctx context.Context, secret string) (Key, error) {
	if secret == "" {
		return Key{}, keyProblem("key_missing")
	}
	for {
		e := c.keys.find(secret)
		if e != nil && c.cfg.Now().Sub(e.asked) < keyFresh {
			if e.bad != nil {
				return Key{}, e.bad
			}
			return e.key, nil
		}
		if !sound(secret) {
			return Key{}, keyProblem("key_unknown") // a flood of made-up keys costs no call
		}
		w, mine := c.keys.begin(secret)
		if !mine {
			select {
			case <-w:
				if c.breaker.shut(c.cfg.Now()) {
					return c.stale(e)
				}
				continue
			case <-ctx.Done():
				return Key{}, unavailable("The caller gave up.")
			}
		}
		k, err := c.verify(ctx, secret, e)
		c.keys.end(secret, w)
		return k, err
	}
}

// stale is what holds without the server.
func (c *Client) stale(e *known) (Key, error) {
	if c.cfg.Failure == Open && e != nil && e.bad == nil && c.cfg.Now().Sub(e.asked) < keyStale {
		return e.key, nil
	}
	return Key{}, unreachable()
}

func (c *Client) verify(ctx context.Context, secret string, old *known) (Key, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
	defer cancel()
	places := c.keys.calls
	if old != nil && old.bad == nil {
		places = c.keys.again
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	case <-ctx.Done():
		return Key{}, unavailable("Too many keys are being checked.")
	}
	ask := struct {
		Secret string `json:"secret"`
	}{secret}
	var told struct {
		Code       string `json:"code"`
		ID         string `json:"id"`
		Customer   string `json:"customer"`
		CustomerID string `json:"customer_id"`
		Project    string `json:"project"`
		Plan       string `json:"plan"`
	}
	e := &known{asked: c.cfg.Now()}
	err := c.once(ctx, call{method: http.MethodPost, path: "/v1/keys/verify", body: ask}, &told)
	var p *Problem
	switch {
	case err == nil && told.Code != "":
		e.bad = keyProblem(told.Code)
	case err == nil:
		e.key = Key{ID: told.ID, Customer: told.Customer, CustomerID: told.CustomerID, Project: told.Project, Plan: told.Plan}
	case errors.As(err, &p) && p.Status < http.StatusInternalServerError:
		c.cfg.OnError(err) // our own token, or a server that is too old
		return Key{}, unavailable("The key cannot be checked.")
	default:
		return c.stale(old)
	}
	c.keys.put(secret, e)
	if e.bad != nil {
		return Key{}, e.bad
	}
	return e.key, nil
}

// The form of a key: prefix, 43 digits of base 62, and 6 of the checksum of all before.
const (
	base62     = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	prefixLen  = len("tally_live_")
	secretBody = prefixLen + 43
	secretLen  = secretBody + 6
)

// sound looks at a key's form and checksum alone.
func sound(s string) bool {
	if len(s) != secretLen || !strings.HasPrefix(s, "tally_live_") && !strings.HasPrefix(s, "tally_test_") {
		return false
	}
	for i := prefixLen; i < secretLen; i++ {
		if strings.IndexByte(base62, s[i]) < 0 {
			return false
		}
	}
	sum := crc32.ChecksumIEEE([]byte(s[:secretBody]))
	for i := secretLen - 1; i >= secretBody; i-- {
		if s[i] != base62[sum%62] {
			return false
		}
		sum /= 62
	}
	return true
}
