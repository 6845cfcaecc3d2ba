package receive

import (
	"context"
	"errors"

	"github.com/tallystick/tallystick/internal/store"
)

// Taker takes signed batches; a Receiver is one.
type Taker interface {
	Receive(ctx context.Context, b *store.Batch) ([]store.Result, error)
}

// Sender is a gateway's end: it signs and numbers what the gateway ships. Calls must not overlap.
type Sender struct {
	node     uint16
	signer   *Signer
	to       Taker
	epoch    uint32
	sequence uint64 // of the last batch that was taken
}

// NewSender signs for a node.
func NewSender(node uint16, signer *Signer, to Taker) *Sender {
	return &Sender{node: node, signer: signer, to: to}
}

// Deliver implements enforce.Delivery. A batch keeps its number until it is taken, so an error leaves no hole.
func (s *Sender) Deliver(ctx context.Context, epoch uint32, from, to int64, b *store.Batch) ([]store.Result, error) {
	if b.Node != s.node {
		return nil, errors.New("receive: the batch is another node's")
	}
	if epoch != s.epoch {
		s.epoch, s.sequence = epoch, 0
	}
	s.signer.Sign(Statement{Node: s.node, Epoch: epoch, Sequence: s.sequence + 1, From: from, To: to}, b)
	results, err := s.to.Receive(ctx, b)
	if err != nil {
		return nil, err
	}
	s.sequence++
	return results, nil
}
