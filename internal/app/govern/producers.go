package govern

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// producersMax bounds the producers that are not revoked; each has at most account.PatternsMax sources, which the check of
// every reported event looks through.
const producersMax = 1000

// gatewaySources begin the sources of our own gateways; nobody else may own them.
const gatewaySources = "gateway/"

// NewProducer is what an operator says of one.
type NewProducer struct {
	Key            string
	Sources, Types []string  // patterns: exact, or with a * at the end
	ExpiresAt      time.Time // zero: never
}

// IssuedToken is a new token with its secret, which is shown this once.
type IssuedToken struct {
	account.ProducerToken
	Secret string
}

// CreateProducer adds one with its first token. Invalid (a source of another producer among it); account.ErrExists.
func (s *Service) CreateProducer(ctx context.Context, actor string, n NewProducer) (account.Producer, IssuedToken, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	p, err := s.newProducer(n)
	if err == nil {
		err = checkActor(actor)
	}
	if err != nil {
		return account.Producer{}, IssuedToken{}, err
	}
	t, err := s.issue(p)
	if err != nil {
		return account.Producer{}, IssuedToken{}, err
	}
	a, err := s.audit(p.CreatedAt, actor, "producer.create", p.ID, map[string]any{"key": p.Key, "sources": p.Sources, "types": p.Types, "token": t.ID, "hint": t.Hint})
	if err != nil {
		return account.Producer{}, IssuedToken{}, err
	}
	if err := s.cfg.Records.PutProducer(ctx, p, t.ProducerToken, a); errors.Is(err, store.ErrExists) {
		return account.Producer{}, IssuedToken{}, fmt.Errorf("producer %q %w", p.Key, account.ErrExists)
	} else if err != nil {
		return account.Producer{}, IssuedToken{}, fmt.Errorf("create producer: %w", err)
	}
	s.senders.put(p)
	s.senders.putToken(t.ProducerToken)
	return p, t, nil
}

// newProducer checks what was asked for; writing is held.
func (s *Service) newProducer(n NewProducer) (p account.Producer, err error) {
	if err := account.ValidKey(n.Key); err != nil {
		return p, &Invalid{"/key", err.Error(), "choose a short name of your own for the producer, such as batch-jobs"}
	}
	if err := checkPatterns("/sources", n.Sources); err != nil {
		return p, err
	}
	if err := checkPatterns("/types", n.Types); err != nil {
		return p, err
	}
	for i, source := range n.Sources {
		if strings.HasPrefix(source, gatewaySources) {
			return p, &Invalid{fmt.Sprintf("/sources/%d", i), "begins with gateway/, as the sources of our own gateways do", "choose another source"}
		}
	}
	if other, mine, theirs, ok := s.senders.overlap(n.Sources); ok {
		if other.Key == n.Key {
			return p, fmt.Errorf("producer %q %w", n.Key, account.ErrExists)
		}
		return p, &Invalid{
			fmt.Sprintf("/sources/%d", slices.Index(n.Sources, mine)), fmt.Sprintf("overlaps %s, which belongs to producer %q", theirs, other.Key),
			"a source belongs to one producer: choose another source, or revoke that producer first",
		}
	}
	if s.senders.live() >= producersMax {
		return p, &Invalid{"/key", fmt.Sprintf("there are %d producers already, the most there may be", producersMax), "revoke one that is not used any more"}
	}
	now := s.now()
	p = account.Producer{Key: n.Key, Sources: slices.Clone(n.Sources), Types: slices.Clone(n.Types), CreatedAt: now}
	if !n.ExpiresAt.IsZero() {
		if p.ExpiresAt = period.Truncate(n.ExpiresAt); !p.ExpiresAt.After(now) {
			return p, &Invalid{"/expires_at", "must lie in the future", "it is " + period.Format(now)}
		}
	}
	p.ID, err = account.NewID("prd", now, s.cfg.Random)
	return p, err
}

func checkPatterns(pointer string, list []string) error {
	if len(list) == 0 || len(list) > account.PatternsMax {
		return &Invalid{pointer, fmt.Sprintf("must have 1 to %d patterns, has %d", account.PatternsMax, len(list)), `name what is allowed, such as "jobs/nightly" or "jobs/*"`}
	}
	for i, p := range list {
		if err := account.ValidPattern(p); err != nil {
			return &Invalid{fmt.Sprintf("%s/%d", pointer, i), err.Error(), `write it out, or end it with one *, such as "jobs/*"`}
		}
		if _, other, ok := account.Overlap([]string{p}, list[:i]); ok {
			return &Invalid{fmt.Sprintf("%s/%d", pointer, i), fmt.Sprintf("overlaps %q of the same list", other), "leave one of the two out"}
		}
	}
	return nil
}

// issue draws a token for a producer; writing is held.
func (s *Service) issue(p account.Producer) (t IssuedToken, err error) {
	t.ProducerID, t.CreatedAt = p.ID, s.now()
	if t.ID, err = account.NewID("ptk", t.CreatedAt, s.cfg.Random); err != nil {
		return t, err
	}
	if t.Secret, err = account.NewProducerSecret(s.cfg.Random); err != nil {
		return t, err
	}
	t.Hint, t.Digest = account.ProducerHint(t.Secret), s.directory.digest(t.Secret)
	return t, nil
}

// RotateProducer draws one more token, so that it can take over before the old one is revoked. account.ErrNotFound;
// account.ErrState when two are live already or the producer is revoked.
func (s *Service) RotateProducer(ctx context.Context, actor, ref string) (account.Producer, IssuedToken, error) {
	if err := checkActor(actor); err != nil {
		return account.Producer{}, IssuedToken{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	p, err := s.Producer(ref)
	if err != nil {
		return p, IssuedToken{}, err
	}
	if !p.RevokedAt.IsZero() {
		return p, IssuedToken{}, fmt.Errorf("%w: producer %q is revoked, create another", account.ErrState, p.Key)
	}
	t, err := s.issue(p)
	if err != nil {
		return p, IssuedToken{}, err
	}
	a, err := s.audit(t.CreatedAt, actor, "producer.rotate", p.ID, map[string]string{"token": t.ID, "hint": t.Hint})
	if err != nil {
		return p, IssuedToken{}, err
	}
	if err := s.cfg.Records.PutProducerToken(ctx, t.ProducerToken, a); errors.Is(err, store.ErrConflict) {
		return p, IssuedToken{}, fmt.Errorf("%w: producer %q has two live tokens already, revoke the old one first with `tally producers revoke %s --token ID`", account.ErrState, p.Key, p.Key)
	} else if err != nil {
		return p, IssuedToken{}, fmt.Errorf("rotate producer: %w", err)
	}
	s.senders.putToken(t.ProducerToken)
	return p, t, nil
}

// RevokeProducer ends a producer at once and for ever, and frees its sources. Doing it again keeps the first time.
// account.ErrNotFound.
func (s *Service) RevokeProducer(ctx context.Context, actor, ref string) (account.Producer, error) {
	if err := checkActor(actor); err != nil {
		return account.Producer{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	p, err := s.Producer(ref)
	if err != nil {
		return p, err
	}
	now := s.now()
	a, err := s.audit(now, actor, "producer.revoke", p.ID, map[string]string{"key": p.Key})
	if err != nil {
		return p, err
	}
	if p, err = s.cfg.Records.RevokeProducer(ctx, p.ID, now, a); err != nil {
		return p, fmt.Errorf("revoke producer %s: %w", ref, err)
	}
	s.senders.put(p)
	return p, nil
}

// RevokeProducerToken ends one token of a producer; the other one goes on. account.ErrNotFound.
func (s *Service) RevokeProducerToken(ctx context.Context, actor, ref, tokenID string) (account.Producer, error) {
	if err := checkActor(actor); err != nil {
		return account.Producer{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	p, err := s.Producer(ref)
	if err != nil {
		return p, err
	}
	if !slices.ContainsFunc(s.senders.tokensOf(p.ID), func(t account.ProducerToken) bool { return t.ID == tokenID }) {
		return p, &Invalid{"/token", "is no token of this producer", fmt.Sprintf("`tally producers get %s` shows its tokens", p.Key)}
	}
	now := s.now()
	a, err := s.audit(now, actor, "producer.revoke_token", p.ID, map[string]string{"key": p.Key, "token": tokenID})
	if err != nil {
		return p, err
	}
	t, err := s.cfg.Records.RevokeProducerToken(ctx, tokenID, now, a)
	if err != nil {
		return p, fmt.Errorf("revoke token %s: %w", tokenID, err)
	}
	s.senders.putToken(t)
	return p, nil
}

// Producer finds one by id or key in the directory: no I/O. account.ErrNotFound.
func (s *Service) Producer(ref string) (account.Producer, error) {
	p, ok := s.senders.producer(ref)
	if !ok {
		return p, fmt.Errorf("there is no producer %q, `tally producers list` shows all: %w", ref, account.ErrNotFound)
	}
	return p, nil
}

// ProducerTokens are a producer's, oldest first; from the directory.
func (s *Service) ProducerTokens(producerID string) []account.ProducerToken {
	return s.senders.tokensOf(producerID)
}

// ListProducers pages through all, newest first.
func (s *Service) ListProducers(ctx context.Context, q Query) ([]account.Producer, error) {
	list, err := s.cfg.Records.ListProducers(ctx, paged(q))
	if err != nil {
		return nil, fmt.Errorf("list producers: %w", err)
	}
	return list, nil
}

func (s *Service) loadProducers(ctx context.Context) error {
	if err := all(ctx, s.cfg.Records.ListProducers, func(p account.Producer) string { return p.ID }, s.senders.put); err != nil {
		return err
	}
	return all(ctx, s.cfg.Records.ListProducerTokens, func(t account.ProducerToken) string { return t.ID }, s.senders.putToken)
}
