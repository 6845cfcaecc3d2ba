// Package nodes keeps which gateways in processes of their own may join, and their tokens.
package nodes

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

// Node is a registered gateway.
type Node = store.GatewayNode

// Token is what a gateway joins with, without its secret.
type Token = store.NodeToken

// Issued is a new token with its secret, which is shown this once.
type Issued struct {
	Token
	Secret string
}

// Records is what a Service keeps.
type Records interface{ store.GatewayNodes }

// Config of a Service; all fields are required.
type Config struct {
	Records Records
	Now     func() time.Time // business clock
	Random  io.Reader
	Pepper  []byte // secrets/pepper
}

// Service is safe for concurrent use; it is the only writer of its records.
type Service struct {
	cfg     Config
	writing sync.Mutex // held for the whole of each write, and guards cfg.Random

	mu     sync.RWMutex // guards all below
	nodes  map[uint16]Node
	tokens map[[sha256.Size]byte]Token
}

// New reads what there is.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.Now == nil || cfg.Random == nil || len(cfg.Pepper) == 0 {
		return nil, errors.New("nodes: incomplete configuration")
	}
	s := &Service{cfg: cfg, nodes: map[uint16]Node{}, tokens: map[[sha256.Size]byte]Token{}}
	list, tokens, err := cfg.Records.GatewayNodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("load gateways: %w", err)
	}
	for _, n := range list {
		s.nodes[n.Node] = n
	}
	for _, t := range tokens {
		s.tokens[t.Digest] = t
	}
	return s, nil
}

// digest is what is kept of a secret. The leading text keeps it from being that of a key.
func (s *Service) digest(secret string) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, s.cfg.Pepper)
	_, _ = mac.Write([]byte("gateway token\x00" + secret)) // a hash never fails
	return [sha256.Size]byte(mac.Sum(sum[:0]))
}

// Authenticate finds whose token a secret is. fault is "" on success. No I/O, and garbage costs a checksum alone.
func (s *Service) Authenticate(secret string) (n Node, fault account.KeyFault) {
	if secret == "" {
		return n, account.FaultMissing
	}
	if account.CheckNodeSecret(secret) != nil {
		return n, account.FaultUnknown
	}
	digest := s.digest(secret)
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, ok := s.tokens[digest]
	if !ok {
		return n, account.FaultUnknown
	}
	n = s.nodes[t.Node]
	if !t.RevokedAt.IsZero() || !n.RevokedAt.IsZero() {
		return n, account.FaultRevoked
	}
	return n, ""
}

// Issue draws a token for the gateway of a name, which is registered if it is new. account.ErrInvalid; account.ErrState when the
// gateway is revoked or has two live tokens.
func (s *Service) Issue(ctx context.Context, actor, name string) (Node, Issued, error) {
	if err := account.ValidKey(name); err != nil {
		return Node{}, Issued{}, fmt.Errorf("a gateway's name: %w", err)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.cfg.Now().UTC().Truncate(time.Microsecond)
	var t Issued
	var err error
	if t.ID, err = account.NewID("gwt", now, s.cfg.Random); err != nil {
		return Node{}, Issued{}, err
	}
	if t.Secret, err = account.NewNodeSecret(s.cfg.Random); err != nil {
		return Node{}, Issued{}, err
	}
	t.CreatedAt, t.Digest, t.Hint = now, s.digest(t.Secret), account.NodeHint(t.Secret)
	a, err := s.audit(now, actor, "gateway.token", name, map[string]string{"token": t.ID, "hint": t.Hint})
	if err != nil {
		return Node{}, Issued{}, err
	}
	n, kept, err := s.cfg.Records.PutNodeToken(ctx, name, t.Token, a)
	if errors.Is(err, store.ErrConflict) {
		return Node{}, Issued{}, fmt.Errorf("%w: %w", account.ErrState, err)
	}
	if err != nil {
		return Node{}, Issued{}, fmt.Errorf("issue a gateway's token: %w", err)
	}
	t.Token = kept
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[n.Node], s.tokens[t.Digest] = n, kept
	return n, t, nil
}

// Find is a gateway by name. account.ErrNotFound.
func (s *Service) Find(name string) (Node, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, n := range s.nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("there is no gateway %q, `tally gateway list` shows all: %w", name, account.ErrNotFound)
}

// Revoke ends a gateway at once and for ever, or only one of its tokens. Doing it again keeps the first time. account.ErrNotFound.
func (s *Service) Revoke(ctx context.Context, actor, name, tokenID string) (Node, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	n, err := s.Find(name)
	if err != nil {
		return n, err
	}
	now := s.cfg.Now().UTC().Truncate(time.Microsecond)
	a, err := s.audit(now, actor, "gateway.revoke", name, map[string]string{"token": tokenID})
	if err != nil {
		return n, err
	}
	if tokenID == "" {
		if n, err = s.cfg.Records.RevokeNode(ctx, n.Node, now, a); err != nil {
			return n, fmt.Errorf("revoke gateway %s: %w", name, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.nodes[n.Node] = n
		return n, nil
	}
	if !slices.ContainsFunc(s.Tokens(n.Node), func(t Token) bool { return t.ID == tokenID }) {
		return n, fmt.Errorf("gateway %q has no token %s: %w", name, tokenID, account.ErrNotFound)
	}
	t, err := s.cfg.Records.RevokeNodeToken(ctx, tokenID, now, a)
	if err != nil {
		return n, fmt.Errorf("revoke a token of gateway %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[t.Digest] = t
	return n, nil
}

// List is all gateways, by number.
func (s *Service) List() []Node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Node, 0, len(s.nodes))
	for _, n := range s.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Node) int { return int(a.Node) - int(b.Node) })
	return out
}

// Tokens are a gateway's, oldest first.
func (s *Service) Tokens(node uint16) (out []Token) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.tokens {
		if t.Node == node {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Token) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

func (s *Service) audit(now time.Time, actor, action, target string, detail any) (store.Audit, error) {
	id, err := account.NewID("aud", now, s.cfg.Random)
	if err != nil {
		return store.Audit{}, err
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return store.Audit{}, fmt.Errorf("audit detail: %w", err)
	}
	return store.Audit{ID: id, Time: now, Actor: actor, Action: action, Target: target, Detail: string(text)}, nil
}
