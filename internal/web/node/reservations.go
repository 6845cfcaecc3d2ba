package node

import (
	"context"
	"net/http"

	"github.com/tallystick/tallystick/internal/app/enforce"
)

// Reservations brings calls about explicit reservations to the node that has them: each is in the spool of the folder of the server
// that led when it was made, and ends there, also when another server leads. All fields are required.
type Reservations struct {
	Server *Server
	Own    uint16 // the node of this process
	Local  func(ctx context.Context, c enforce.HeldCall) (*enforce.Held, *enforce.Admission, error)
	// Operator says whether a token is the operator's: nobody else's call waits.
	Operator func(token string) bool
	// Away is what becomes of a call whose node is not there.
	Away func(w http.ResponseWriter)
}

// elsewhere is the node that has a reservation, if it is another one than this process's.
func (x *Reservations) elsewhere(id string) (node uint16, ok bool) {
	node, ok = enforce.HeldNode(id)
	return node, ok && node != x.Own && x.Server.registered(node)
}

// Call makes a call where the reservation is.
func (x *Reservations) Call(ctx context.Context, c enforce.HeldCall) (*enforce.Held, *enforce.Admission, error) {
	if node, ok := x.elsewhere(c.ID); ok {
		return x.Server.Held(ctx, node, c)
	}
	return x.Local(ctx, c)
}

// There has rest answer a call of which {id} is the reservation, if the node that has it is there.
func (x *Reservations) There(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		node, ok := x.elsewhere(r.PathValue("id"))
		if !ok || !x.Operator(bearer(r)) {
			rest.ServeHTTP(w, r)
			return
		}
		leave, there := x.Server.EnterHeld(node)
		if !there {
			x.Away(w)
			return
		}
		defer leave()
		rest.ServeHTTP(w, r)
	})
}
