package govern_test

import (
	"errors"
	"testing"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
)

func TestAliases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	acme := w.customer("acme")
	create := func(kind, from, to string) (govern.Alias, error) {
		return w.CreateAlias(t.Context(), "op", govern.NewAlias{Kind: kind, From: from, To: to})
	}
	for _, n := range []govern.NewAlias{
		{Kind: "type", From: "api call", To: "request"}, {Kind: "type", From: "llm", To: "tokens"}, {Kind: "customer", From: "acme corp", To: "acme"},
	} {
		if _, err := create(n.Kind, n.From, n.To); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*govern.Service{w.Service, w.open()} { // and after a restart
		for from, want := range map[string]string{"api call": "request", "llm": "completion", "request": "request", "acme corp": "acme corp"} {
			if got := s.AliasType(from); got != want {
				t.Errorf("type %q is read as %q, want %q", from, got, want)
			}
		}
		for from, want := range map[string]string{"acme corp": acme.ID, "api call": "api call", "acme": "acme"} {
			if got := s.AliasSubject(from); got != want {
				t.Errorf("subject %q is read as %q, want %q", from, got, want)
			}
		}
	}

	for _, c := range []struct{ kind, from, to, pointer, says string }{
		{"type", "calls", "requst", "/to", `did you mean "request"?`},
		{"type", "calls", "", "/to", "completion, request, spare"},
		{"type", "request", "completion", "/from", "already"},
		{"customer", "acme", "acme", "/from", "already"},
		{"customer", "other", "acmee", "/to", `did you mean "acme"?`},
		{"meter", "x", "request", "/kind", "type or customer"},
		{"type", "", "request", "/from", "1 to 256 bytes"},
		{"type", "two\nlines", "request", "/from", "1 to 256 bytes"},
	} {
		_, err := create(c.kind, c.from, c.to)
		w.wantInvalid(err, c.pointer, c.says)
	}
	if _, err := create("type", "api call", "completion"); !errors.Is(err, account.ErrExists) {
		t.Errorf("a second alias: %v", err)
	}

	if _, err := w.DeleteAlias(t.Context(), "op", "type", "api call"); err != nil {
		t.Fatal(err)
	}
	if got := w.AliasType("api call"); got != "api call" {
		t.Errorf("a deleted alias leads to %q", got)
	}
	if _, err := w.DeleteAlias(t.Context(), "op", "type", "api call"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("delete again: %v", err)
	}
	list, err := w.ListAliases(t.Context(), govern.Query{})
	if err != nil || len(list) != 2 {
		t.Errorf("%d are left, %v", len(list), err)
	}
	audits, err := w.Audits(t.Context(), govern.Query{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, a := range audits {
		n[a.Action]++
	}
	if n["alias.create"] != 3 || n["alias.delete"] != 1 {
		t.Errorf("audit: %v", n)
	}
}
