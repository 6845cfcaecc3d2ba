package remote

import "sync"

// runs knows which run of the server answers. mu is held while whoever holds leases is told of another one, so that no answer of
// that one is given out before.
type runs struct {
	mu   sync.Mutex
	name string // of the newest one that is known; empty: none has answered yet
}

func (r *runs) now() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.name
}

// answered takes in whose answer came to a call that was made while a run was the newest: anew is called where it is another's. false
// for an answer of a run that has ended meanwhile. An answer without a name, as of a balancer, says nothing.
func (r *runs) answered(before, name string, anew func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case name == "" || name == r.name:
		return true
	case name == before:
		return false
	case r.name != "" && anew != nil:
		anew()
	}
	r.name = name
	return true
}
