package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/web/forward"
)

// An explicit reservation is in the spool of the folder of the server that led when it was made. Calls about it are made there, also
// when another server leads.

// elsewhere is the node that has a reservation, if it is not this process's.
func (s *server) elsewhere(id string) (node uint16, ok bool) {
	node, ok = enforce.HeldNode(id)
	return node, ok && node != s.node && s.member != nil && s.hub.Registered(node)
}

// heldCall makes a call about a reservation where that is.
func (s *server) heldCall(ctx context.Context, c enforce.HeldCall) (*enforce.Held, *enforce.Admission, error) {
	if node, ok := s.elsewhere(c.ID); ok {
		return s.hub.Held(ctx, node, c)
	}
	return s.enforce.Call(ctx, c)
}

// heldThere has an operator's calls about a reservation wait while the server that has it is being restarted.
func (s *server) heldThere(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		node, ok := s.elsewhere(r.PathValue("id"))
		if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); !ok || !strings.EqualFold(scheme, "bearer") || !s.signer.IsOperator(strings.TrimSpace(token)) {
			rest.ServeHTTP(w, r)
			return
		}
		leave, there := s.hub.EnterHeld(node)
		if !there {
			forward.Elsewhere(w)
			return
		}
		defer leave()
		rest.ServeHTTP(w, r)
	})
}
