package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/nodes"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// Bounds of calls about explicit reservations that another node has.
const (
	heldAtOnce = 32              // at one node: half of the calls that it works on at a time
	heldAnswer = 5 * time.Second // for an answer
	heldAgain  = 100 * time.Millisecond
	heldLast   = time.Second // for those that run when a node leaves, or the lead is handed over
)

// registered says whether a node may hold anything.
func (s *Server) registered(node uint16) bool {
	for _, n := range s.cfg.Nodes.List() {
		if n.Node == node {
			return n.RevokedAt.IsZero()
		}
	}
	return false
}

// EnterHeld lets a call about an explicit reservation in that a node has; leave ends it. False: the node is not there, has enough to
// do, or another server takes over. Nothing was done then, and the call can be made a moment later.
func (s *Server) EnterHeld(node uint16) (leave func(), ok bool) {
	x, there := s.session(node)
	if !there || !x.begun() {
		return nil, false
	}
	select {
	case x.rooms <- struct{}{}:
	default:
		return nil, false
	}
	if !x.held.Enter() {
		<-x.rooms
		return nil, false
	}
	return func() { x.held.Leave(); <-x.rooms }, true
}

// begun says that the gateway answers for its leases and reservations: it tells an epoch.
func (x *session) begun() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.epoch != 0
}

// leaveHeld is a node's word that it is about to go: no more calls about its reservations are let in, and those that run end first.
func (s *Server) leaveHeld(ctx context.Context, n nodes.Node, in wire.Leave) (out none, err error) {
	x, err := s.of(n, in.Session)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, heldLast)
	defer cancel()
	_ = x.held.Close(ctx) // what takes longer is answered that it is not known whether it was done
	return out, nil
}

// Held makes a call about an explicit reservation at the node that has it, once more where its answer was lost and that does no harm.
// Errors are those of enforce.Enforcer.Call; with enforce.ErrReservationAway nobody knows whether it was made.
func (s *Server) Held(ctx context.Context, node uint16, c enforce.HeldCall) (*enforce.Held, *enforce.Admission, error) {
	ctx, cancel := context.WithTimeout(ctx, heldAnswer)
	defer cancel()
	for lost := false; ; lost = true {
		a, err := s.ask(ctx, node, wire.Call{What: wire.CallHeld, Held: &c})
		if err == nil {
			h, denied, err := a.Held.Value(c.ID)
			if lost && errors.Is(err, enforce.ErrReservationUnknown) { // it may have ended by the call before, in a run of the node that is over
				err = fmt.Errorf("what became of the call is not known: %w", enforce.ErrReservationAway)
			}
			return h, denied, err
		}
		if !errors.Is(err, authority.ErrUnreachable) {
			return nil, nil, err
		}
		again := time.NewTimer(heldAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
		}
		if ctx.Err() != nil || !c.Again() {
			return nil, nil, fmt.Errorf("%w: %w", enforce.ErrReservationAway, err)
		}
	}
}
