package sendertest

import (
	"testing"

	"github.com/tallystick/tallystick/internal/store"
)

// Nodes checks a driver's promises about gateways that may join. open is as for Gateways.
func Nodes(t *testing.T, open func(t *testing.T) store.Records) {
	t.Run("Nodes", func(t *testing.T) {
		t.Parallel()
		gatewayNodes(t, open(t))
	})
}

func gatewayNodes(t *testing.T, r store.Records) {
	ctx := t.Context()
	token := func(n int) store.NodeToken {
		return store.NodeToken{ID: id("gwt", n), Digest: [32]byte{byte(n)}, Hint: "abcd", CreatedAt: noon(n)}
	}
	put := func(name string, n int, node uint16) store.NodeToken {
		t.Helper()
		got, tok, err := r.PutNodeToken(ctx, name, token(n), audit(n))
		ok(t, err)
		want := token(n)
		want.Node = node
		same(t, "token", tok, want)
		same(t, "number", got.Node, node)
		same(t, "name", got.Name, name)
		return tok
	}
	first := put("east", 1, 2)
	other := put("west", 2, 3)
	second := put("east", 3, 2)
	_, _, err := r.PutNodeToken(ctx, "east", token(4), audit(4))
	wantErr(t, "a third live token", err, store.ErrConflict)
	gone, err := r.RevokeNodeToken(ctx, first.ID, noon(5), audit(5))
	ok(t, err)
	first.RevokedAt = noon(5)
	same(t, "revoked token", gone, first)
	again, err := r.RevokeNodeToken(ctx, first.ID, noon(6), audit(6))
	ok(t, err)
	same(t, "revoked token", again, first)
	third := put("east", 7, 2)
	_, err = r.RevokeNode(ctx, 9, noon(8), audit(8))
	wantErr(t, "nobody", err, store.ErrNotFound)
	revoked, err := r.RevokeNode(ctx, 3, noon(8), audit(8))
	ok(t, err)
	same(t, "revoked", revoked, store.GatewayNode{Node: 3, Name: "west", CreatedAt: noon(2), RevokedAt: noon(8)})
	twice, err := r.RevokeNode(ctx, 3, noon(9), audit(9))
	ok(t, err)
	same(t, "revoked twice", twice, revoked)
	_, _, err = r.PutNodeToken(ctx, "west", token(10), audit(10))
	wantErr(t, "a token for a revoked one", err, store.ErrConflict)
	_, err = r.PutGatewayKey(ctx, store.GatewayKey{ID: id("gwk", 11), Node: 11, Public: [32]byte{11}, CreatedAt: noon(11)}, audit(11))
	ok(t, err)
	last := put("north", 12, 12) // numbers of keys are taken
	nodes, tokens, err := r.GatewayNodes(ctx)
	ok(t, err)
	same(t, "nodes", nodes, []store.GatewayNode{{Node: 2, Name: "east", CreatedAt: noon(1)}, revoked, {Node: 12, Name: "north", CreatedAt: noon(12)}})
	same(t, "tokens", tokens, []store.NodeToken{first, other, second, third, last})
}
