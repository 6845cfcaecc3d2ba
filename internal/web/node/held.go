package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

const (
	heldAnswer = 5 * time.Second // for an answer about an explicit reservation
	heldMax    = time.Second     // how long HandOver waits for such calls
)

// Registered says whether a node may hold anything.
func (s *Server) Registered(node uint16) bool {
	for _, n := range s.cfg.Nodes.List() {
		if n.Node == node {
			return n.RevokedAt.IsZero()
		}
	}
	return false
}

// EnterHeld lets a call about an explicit reservation in that a node has; leave ends it. False: the node is not there, or another
// server takes over. Nothing was done then, and the call can be made a moment later.
func (s *Server) EnterHeld(node uint16) (leave func(), ok bool) {
	if x, there := s.session(node); !there || !x.begun() || !s.held.Enter() {
		return nil, false
	}
	return s.held.Leave, true
}

// begun says that the gateway answers for its leases and reservations: its stream names an epoch.
func (x *session) begun() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.epoch != 0
}

// Held makes a call about an explicit reservation at the node that has it. Errors are those of enforce.Enforcer.Call; with
// enforce.ErrReservationAway nobody knows whether it was made.
func (s *Server) Held(ctx context.Context, node uint16, c enforce.HeldCall) (*enforce.Held, *enforce.Admission, error) {
	if !s.Registered(node) {
		return nil, nil, fmt.Errorf("of node %d: %w", node, enforce.ErrReservationUnknown)
	}
	ctx, cancel := context.WithTimeout(ctx, heldAnswer)
	defer cancel()
	a, err := s.ask(ctx, node, wire.Call{What: wire.CallHeld, Held: &c})
	if errors.Is(err, authority.ErrUnreachable) {
		return nil, nil, fmt.Errorf("%w: %w", enforce.ErrReservationAway, err)
	}
	if err != nil {
		return nil, nil, err
	}
	return a.Held.Value()
}
