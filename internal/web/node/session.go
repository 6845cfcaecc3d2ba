package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/gate"
	"github.com/tallystick/tallystick/internal/app/nodes"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

const (
	callsMax = 256 // that wait to be written to one gateway; beyond it, it counts as unreachable
	// silenceMax is how long a gateway that is not heard of counts as connected.
	silenceMax = 1500 * time.Millisecond
	// beatEvery is how often the server says that it is there.
	beatEvery = 250 * time.Millisecond
)

// session is one open stream of a gateway.
type session struct {
	id     string
	node   nodes.Node
	calls  chan wire.Call
	cancel context.CancelCauseFunc
	done   <-chan struct{}

	mu      sync.Mutex // guards all below
	waiting map[uint64]chan wire.Answer
	heard   time.Time // the machine's clock
	epoch   uint32    // 0: the gateway has not begun

	held  gate.Gate     // calls about explicit reservations
	rooms chan struct{} // tokens of them
}

var (
	errReplaced = errors.New("another stream of this gateway was opened")
	errEnded    = errors.New("the server is shutting down")
	errMoved    = errors.New("another server takes over")
	errRevoked  = errors.New("the gateway was revoked")
	errSilent   = errors.New("nothing was heard of the gateway")
)

// open makes a session the node's. An older one ends, and a gateway whose run is over is refused.
func (s *Server) open(ctx context.Context, n nodes.Node, epoch uint32) (*session, context.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, errEnded
	}
	if epoch != 0 && epoch < s.epochs[n.Node] {
		return nil, nil, authority.ErrEpoch
	}
	ctx, cancel := context.WithCancelCause(ctx)
	x := &session{
		id: rand.Text(), node: n, calls: make(chan wire.Call, callsMax), cancel: cancel, done: ctx.Done(),
		waiting: map[uint64]chan wire.Answer{}, heard: s.cfg.Real(), epoch: epoch, rooms: make(chan struct{}, heldAtOnce),
	}
	if old := s.sessions[n.Node]; old != nil {
		old.cancel(errReplaced)
	}
	s.sessions[n.Node] = x
	s.epochs[n.Node] = max(s.epochs[n.Node], epoch)
	if epoch != 0 {
		s.cfg.Attach(n.Node, epoch, s.Holder(n.Node))
	}
	s.cfg.Log.InfoContext(ctx, "a gateway is connected", slog.String("gateway", n.Name), slog.Int("node", int(n.Node)), slog.Uint64("epoch", uint64(epoch)))
	return x, ctx, nil
}

func (s *Server) leave(x *session, why error) {
	x.cancel(why)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[x.node.Node] == x {
		delete(s.sessions, x.node.Node)
		s.cfg.Log.Info("a gateway is not connected any more", slog.String("gateway", x.node.Name), slog.Int("node", int(x.node.Node)), slog.Any("why", why))
	}
}

// Close ends all streams; they never end by themselves.
func (s *Server) Close() { s.end(errEnded) }

// HandOver is Close when another server takes over: gateways are told to be patient. Calls that wait for an answer of one about a
// reservation get it first.
func (s *Server) HandOver() {
	s.mu.Lock()
	s.closed = true // no other stream begins
	list := slices.Collect(maps.Values(s.sessions))
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), heldLast)
	defer cancel()
	for _, x := range list {
		select {
		case x.calls <- wire.Call{What: wire.CallMove}: // told again at the stream's end
		default:
		}
	}
	for _, x := range list {
		_ = x.held.Close(ctx) // what takes longer is answered that it is not known whether it was done
	}
	s.end(errMoved)
}

func (s *Server) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, x := range s.sessions {
		x.cancel(why)
	}
}

// session is the node's, when something was heard of it lately.
func (s *Server) session(node uint16) (*session, bool) {
	s.mu.Lock()
	x := s.sessions[node]
	s.mu.Unlock()
	if x == nil || s.silent(x) {
		return nil, false
	}
	return x, true
}

func (s *Server) silent(x *session) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return s.cfg.Real().Sub(x.heard) > silenceMax
}

// of finds the session that a gateway names.
func (s *Server) of(n nodes.Node, id string) (*session, error) {
	s.mu.Lock()
	x := s.sessions[n.Node]
	s.mu.Unlock()
	if x == nil || x.id != id {
		return nil, fmt.Errorf("this stream has ended: %w", store.ErrNotFound)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heard = s.cfg.Real()
	return x, nil
}

// ask sends a call to a gateway and waits for its answer. authority.ErrUnreachable.
func (s *Server) ask(ctx context.Context, node uint16, c wire.Call) (wire.Answer, error) {
	x, ok := s.session(node)
	if !ok {
		return wire.Answer{}, fmt.Errorf("gateway %d: %w", node, authority.ErrUnreachable)
	}
	c.ID = s.ids.Add(1)
	answer := make(chan wire.Answer, 1)
	x.mu.Lock()
	x.waiting[c.ID] = answer
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.waiting, c.ID)
	}()
	select {
	case x.calls <- c:
	default:
		return wire.Answer{}, fmt.Errorf("gateway %d takes no more calls: %w", node, authority.ErrUnreachable)
	}
	select {
	case a := <-answer:
		if a.Error != "" {
			return a, fmt.Errorf("gateway %d: %s: %s", node, c.What, a.Error)
		}
		return a, nil
	case <-x.done:
		return wire.Answer{}, fmt.Errorf("gateway %d went away: %w", node, authority.ErrUnreachable)
	case <-ctx.Done():
		return wire.Answer{}, fmt.Errorf("gateway %d did not answer: %w: %w", node, authority.ErrUnreachable, ctx.Err())
	}
}

// answers brings what was asked to who asked.
func (s *Server) answers(_ context.Context, n nodes.Node, in wire.Answers) (out none, err error) {
	x, err := s.of(n, in.Session)
	if err != nil {
		return out, err
	}
	for i := range in.Answers {
		if err := in.Answers[i].Check(); err != nil {
			return out, err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, a := range in.Answers {
		if c := x.waiting[a.ID]; c != nil {
			delete(x.waiting, a.ID)
			c <- a
		}
	}
	return out, nil
}

func (s *Server) beat(_ context.Context, n nodes.Node, in wire.State) (out none, err error) {
	if err := in.Check(); err != nil {
		return out, err
	}
	x, err := s.of(n, in.Session)
	if err != nil {
		return out, err
	}
	x.mu.Lock()
	x.epoch = in.Epoch
	x.mu.Unlock()
	if at := time.UnixMicro(in.Now).UTC(); s.cfg.Clock != nil && !at.After(s.cfg.Now().Add(wire.AheadMax)) {
		s.cfg.Clock(at)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[n.Node] = seen{s.cfg.Real(), in}
	return out, nil
}

// holder is a gateway as the authority sees it.
type holder struct {
	s    *Server
	node uint16
}

// Holder is the gateway's of a node, connected or not.
func (s *Server) Holder(node uint16) authority.Holder { return holder{s, node} }

// Recall implements authority.Holder.
func (h holder) Recall(ctx context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	a, err := h.s.ask(ctx, h.node, wire.Call{What: wire.CallRecall, Counters: wire.Counters(counters)})
	return wire.Backs(a.Backs), err
}

// Tell implements authority.Holder.
func (h holder) Tell(ctx context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	a, err := h.s.ask(ctx, h.node, wire.Call{What: wire.CallTell, Counters: wire.Counters(counters)})
	return wire.Backs(a.Backs), err
}

// Ship implements authority.Holder.
func (h holder) Ship(ctx context.Context) error {
	_, err := h.s.ask(ctx, h.node, wire.Call{What: wire.CallShip})
	return err
}

// everyone asks all connected gateways at once and joins what went wrong.
func (s *Server) everyone(ctx context.Context, c wire.Call) error {
	var wg sync.WaitGroup
	list := s.connected()
	errs := make([]error, len(list))
	for i, node := range list {
		wg.Go(func() { _, errs[i] = s.ask(ctx, node, c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Server) connected() (list []uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node := range s.sessions {
		list = append(list, node)
	}
	slices.Sort(list)
	return list
}

// Ship has all connected gateways hand over what they decided. A gateway that is not connected is not waited for.
func (s *Server) Ship(ctx context.Context) error {
	return s.everyone(ctx, wire.Call{What: wire.CallShip})
}

// Settle does the same when all that was decided before an instant has ended.
func (s *Server) Settle(ctx context.Context, before time.Time) error {
	return s.everyone(ctx, wire.Call{What: wire.CallSettle, At: before.UnixMicro()})
}

// Advance tells all connected gateways the business time and waits until they go by it.
func (s *Server) Advance(ctx context.Context, to time.Time) error {
	return s.everyone(ctx, wire.Call{What: wire.CallAdvance, At: to.UnixMicro()})
}

// Counted tells connected gateways that usage of customers was reported from outside. One that does not take it learns it with
// its next draw.
func (s *Server) Counted(customerIDs []string) {
	for _, number := range s.connected() {
		x, ok := s.session(number)
		if !ok {
			continue
		}
		for some := range slices.Chunk(customerIDs, factsMax) {
			select {
			case x.calls <- wire.Call{ID: s.ids.Add(1), What: wire.CallCounted, Customers: some}:
			default:
			}
		}
	}
}

// Status is a gateway as an operator sees it.
type Status struct {
	nodes.Node
	Connected bool
	LastSeen  time.Time // the machine's clock; zero: not since the server was started
	Epoch     uint32
	Version   string
	Behind    uint64        // changes of the directory that it does not have yet
	Skew      time.Duration // its business time less the server's, when it was last seen
	Spool     int64         // bytes kept in its spool
	Lag       int64         // bytes in its spool that are not in the journal yet
	Open      int64         // requests that run
}

// List is all registered gateways, by number.
func (s *Server) List() []Status {
	_, revision, _, _ := s.cfg.Directory.Touched(0)
	var out []Status
	for _, n := range s.cfg.Nodes.List() {
		st := Status{Node: n}
		_, st.Connected = s.session(n.Node)
		s.mu.Lock()
		last, ok := s.seen[n.Node]
		s.mu.Unlock()
		if ok {
			st.LastSeen, st.Epoch, st.Version = last.at, last.state.Epoch, last.state.Version
			st.Spool, st.Lag, st.Open = last.state.Spool, last.state.Lag, last.state.Open
			if st.Connected && revision > last.state.Revision {
				st.Behind = revision - last.state.Revision
			}
			since := s.cfg.Real().Sub(last.at)
			st.Skew = time.UnixMicro(last.state.Now).Add(since).Sub(s.cfg.Now())
		}
		out = append(out, st)
	}
	return out
}

// revoked says whether a token that opened a stream is good no more.
func revoked(fault account.KeyFault) bool { return fault != "" }
