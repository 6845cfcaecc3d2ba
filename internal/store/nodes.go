package store

import (
	"context"
	"time"
)

// GatewayNode is a gateway in a process of its own.
type GatewayNode struct {
	Node      uint16 // from 2 on; 1 is the gateway in the server's process
	Name      string // the operator's name for it, unique
	CreatedAt time.Time
	RevokedAt time.Time // zero: not revoked
}

// NodeToken lets a gateway in. It never holds the secret, only its peppered digest.
type NodeToken struct {
	ID        string // gwt_…
	Node      uint16
	Digest    [32]byte
	Hint      string
	CreatedAt time.Time
	RevokedAt time.Time // zero: not revoked
}

// GatewayNodes keeps which gateways may join.
type GatewayNodes interface {
	// PutNodeToken stores a token for the node of that name, which is made with the next free number if it is new. t.Node is set by
	// the driver. ErrConflict: the node is revoked or has two live tokens already; ErrFull: there is no number left.
	PutNodeToken(ctx context.Context, name string, t NodeToken, a Audit) (GatewayNode, NodeToken, error)
	RevokeNode(ctx context.Context, node uint16, at time.Time, a Audit) (GatewayNode, error)  // revoking twice keeps the first time
	RevokeNodeToken(ctx context.Context, id string, at time.Time, a Audit) (NodeToken, error) // the same
	GatewayNodes(ctx context.Context) (nodes []GatewayNode, tokens []NodeToken, err error)    // by number, and by id
}
