package store

import (
	"context"
	"time"
)

// GatewayKey is the public half of a gateway node's signing key (Ed25519). It is good for the epochs from FromEpoch on until
// the node's next key, and kept for ever.
type GatewayKey struct {
	ID        string // gwk_…, from the key itself
	Node      uint16
	Public    [32]byte
	FromEpoch uint32
	CreatedAt time.Time
}

// Progress is how far the batches of one run of a gateway were taken: the last one's sequence, and up to which offset of the
// node's spool they cover it.
type Progress struct {
	Node     uint16
	Epoch    uint32
	Sequence uint64
	Covered  int64
}

// Finding is what was wrong with a node's batches, by reason.
type Finding struct {
	Node        uint16
	Reason      string // "forged"
	Count       int64
	First, Last time.Time
	Detail      string // of the last one
}

// Gateways keeps what is known of gateways that sign their batches.
type Gateways interface {
	// PutGatewayKey adds a key, good from the epoch after the node's newest one, and returns it so. A key that is there already
	// is returned as it is, without an audit entry; with another node it is ErrExists.
	PutGatewayKey(ctx context.Context, k GatewayKey, a Audit) (GatewayKey, error)
	GatewayKeys(ctx context.Context) ([]GatewayKey, error) // by node and FromEpoch
	// NewestEpoch is the node's; 0: none was begun.
	NewestEpoch(ctx context.Context, node uint16) (uint32, error)
	// PutProgress replaces that of the same epoch, and drops all but the node's newest 1,000 epochs.
	PutProgress(ctx context.Context, p Progress) error
	// Progress lists a node's, newest epoch first.
	Progress(ctx context.Context, node uint16) ([]Progress, error)
	// AddFinding adds Count more of (Node, Reason) to those there are. First counts for the first ones only.
	AddFinding(ctx context.Context, f Finding) error
	Findings(ctx context.Context) ([]Finding, error) // by node and reason
}
