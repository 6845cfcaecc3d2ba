package govern

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/store"
)

// AliasesMax bounds the aliases of a deployment: all are kept in memory.
const AliasesMax = 10_000

// aliasMax is the most bytes of an event's type or subject.
const aliasMax = 256

// Alias is one as it is stored.
type Alias = store.Alias

// NewAlias is what an operator says of one. Kind is "type" or "customer".
type NewAlias struct{ Kind, From, To string }

// CreateAlias lets events that carry From count as if they carried To: an event type that a meter reads (the meter's key does
// too), or a customer's id or key. Events that are stored already have to be replayed. Invalid; account.ErrExists for a From
// that has an alias; account.ErrState when there are AliasesMax.
func (s *Service) CreateAlias(ctx context.Context, actor string, n NewAlias) (Alias, error) {
	if err := checkActor(actor); err != nil {
		return Alias{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	al, err := s.newAlias(n)
	if err != nil {
		return Alias{}, err
	}
	now := s.now()
	al.CreatedAt, al.CreatedBy = now, actor
	if al.ID, err = account.NewID("als", now, s.cfg.Random); err != nil {
		return Alias{}, err
	}
	a, err := s.audit(now, actor, "alias.create", al.ID, map[string]string{"kind": string(al.Kind), "from": al.From, "to": al.To})
	if err != nil {
		return Alias{}, err
	}
	switch err := s.cfg.Records.PutAlias(ctx, al, AliasesMax, a); {
	case errors.Is(err, store.ErrExists):
		return Alias{}, fmt.Errorf("an alias of %s %q %w, delete it first with `tally aliases delete`", al.Kind, al.From, account.ErrExists)
	case errors.Is(err, store.ErrConflict):
		return Alias{}, fmt.Errorf("%w: there are %d aliases already, the most there may be", account.ErrState, AliasesMax)
	case err != nil:
		return Alias{}, fmt.Errorf("create alias: %w", err)
	}
	s.directory.putAlias(al)
	return al, nil
}

// newAlias checks what was asked for; writing is held.
func (s *Service) newAlias(n NewAlias) (al Alias, err error) {
	if n.From == "" || len(n.From) > aliasMax || !utf8.ValidString(n.From) || strings.ContainsFunc(n.From, unicode.IsControl) {
		return al, &Invalid{"/from", fmt.Sprintf("must be 1 to %d bytes of plain text", aliasMax), "take it from `tally unmatched list`"}
	}
	al = Alias{Kind: store.AliasKind(n.Kind), From: n.From, To: n.To}
	switch al.Kind {
	case store.AliasType:
		al.To, err = aliasedType(s.Current(), n)
		return al, err
	case store.AliasCustomer:
		if c, ok := s.directory.customer(n.From); ok {
			return al, &Invalid{"/from", fmt.Sprintf("%q is customer %q already", n.From, c.Key), "events of a customer need no alias"}
		}
		c, err := s.customerOf(n.To)
		if refused, ok := errors.AsType[*Invalid](err); ok {
			refused.Pointer = "/to"
		}
		al.To = c.ID
		return al, err
	}
	return al, &Invalid{"/kind", "must be type or customer", "an alias stands for an event type or for a customer"}
}

// aliasedType is the event type that an alias leads to.
func aliasedType(c *catalog.Compiled, n NewAlias) (string, error) {
	var types []string
	for _, m := range c.Meters {
		types = append(types, m.Event)
	}
	if slices.Contains(types, n.From) {
		return "", &Invalid{"/from", fmt.Sprintf("meters read %q already", n.From), "such events need no alias; replay them if they came before the meter"}
	}
	if slices.Contains(types, n.To) {
		return n.To, nil
	}
	if m, ok := c.Meter(n.To); ok {
		return m.Event, nil
	}
	fix := "the meters read " + strings.Join(slices.Compact(slices.Sorted(slices.Values(types))), ", ")
	if near := catalog.Suggest(n.To, types); near != "" {
		fix = fmt.Sprintf("did you mean %q?", near)
	}
	return "", &Invalid{"/to", fmt.Sprintf("no meter reads events of type %q", n.To), fix}
}

// DeleteAlias ends an alias. What it made count goes on counting. account.ErrNotFound.
func (s *Service) DeleteAlias(ctx context.Context, actor, kind, from string) (Alias, error) {
	if err := checkActor(actor); err != nil {
		return Alias{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	a, err := s.audit(s.now(), actor, "alias.delete", kind+"/"+from, map[string]string{"kind": kind, "from": from})
	if err != nil {
		return Alias{}, err
	}
	al, err := s.cfg.Records.DeleteAlias(ctx, store.AliasKind(kind), from, a)
	if err != nil {
		return Alias{}, absent("alias of "+kind, from, err)
	}
	s.directory.dropAlias(al)
	return al, nil
}

// ListAliases pages through all, newest first.
func (s *Service) ListAliases(ctx context.Context, q Query) ([]Alias, error) {
	list, err := s.cfg.Records.ListAliases(ctx, paged(q))
	if err != nil {
		return nil, fmt.Errorf("list aliases: %w", err)
	}
	return list, nil
}

// AliasType is the event type that a type is read as; without an alias, itself. From the directory.
func (s *Service) AliasType(eventType string) string {
	return s.directory.alias(store.AliasType, eventType)
}

// AliasSubject is the customer's id that a subject is read as; without an alias, itself. From the directory.
func (s *Service) AliasSubject(subject string) string {
	return s.directory.alias(store.AliasCustomer, subject)
}

// aliasKey finds an alias.
type aliasKey struct {
	kind store.AliasKind
	from string
}

func (d *directory) putAlias(al Alias) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aliases[aliasKey{al.Kind, al.From}] = al.To
}

func (d *directory) dropAlias(al Alias) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.aliases, aliasKey{al.Kind, al.From})
}

// alias is what a name is read as.
func (d *directory) alias(kind store.AliasKind, from string) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if to, ok := d.aliases[aliasKey{kind, from}]; ok {
		return to
	}
	return from
}
