// Package lead makes one of several servers on the same records the leader: it holds the quota authority, closes periods and
// seals. Who leads is decided in the records; how long this process may act on it, by its own monotonic clock.
package lead

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

// ErrLost says that this process led and must not act as leader any more. It has to end: what it holds in memory may be wrong.
var ErrLost = errors.New("another server has taken the lead")

// Defaults of a Config.
const (
	HoldDefault   = 5 * time.Second
	MarginDefault = 500 * time.Millisecond
)

// Config of a Service. All fields are required unless a default is named.
type Config struct {
	Leaders store.Leaders
	Holder  string // names this process, new at every start
	Address string // URL at which the other servers reach its API
	// Hold is how long a lead lasts that is not renewed. Default HoldDefault.
	Hold time.Duration
	// Margin is how much earlier this process stops to act on it: for what is under way when it looks. Default MarginDefault.
	Margin time.Duration
	Mono   func() time.Duration // monotonic time since some instant; it goes on while the process is stopped
}

// State is who leads, as far as this process knows.
type State struct {
	Leading bool       // this process, with Lead.Fence
	Lead    store.Lead // that stood when the records were last asked; zero: none was seen yet
	Asked   time.Duration
	Seen    time.Duration // monotonic: when the records last answered, and when a lead last stood; below 0: never
}

// Service is safe for concurrent use. Tick is called by one goroutine, about once a second and when a change is told.
type Service struct {
	cfg Config

	mu      sync.Mutex // guards all below
	state   State
	until   time.Duration // monotonic: this process leads no longer than that
	lost    bool
	retired bool // never leads again
	changed chan struct{}
}

// New checks the configuration and asks nobody.
func New(cfg Config) (*Service, error) {
	if cfg.Hold == 0 {
		cfg.Hold = HoldDefault
	}
	if cfg.Margin == 0 {
		cfg.Margin = MarginDefault
	}
	if cfg.Leaders == nil || cfg.Holder == "" || cfg.Address == "" || cfg.Mono == nil || cfg.Margin >= cfg.Hold {
		return nil, errors.New("lead: incomplete configuration")
	}
	return &Service{cfg: cfg, changed: make(chan struct{}), state: State{Asked: -1, Seen: -1}}, nil
}

// State is who leads, and a channel that is closed when that changes.
func (s *Service) State() (State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.changed
}

// Valid says whether this process may act as the leader at this very moment.
func (s *Service) Valid() bool {
	now := s.cfg.Mono()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Leading && now < s.until
}

// Tick renews the lead, or takes it if nobody has it. ErrLost ends the process; any other error is tried again with the next one.
func (s *Service) Tick(ctx context.Context) error {
	st, retired, lost := s.snapshot()
	if lost {
		return ErrLost
	}
	sent := s.cfg.Mono()
	var l store.Lead
	var err error
	switch {
	case st.Leading: // also when its time has run out: if nobody took it meanwhile, nothing has happened
		l, err = s.cfg.Leaders.KeepLead(ctx, st.Lead.Fence, s.cfg.Hold)
		if errors.Is(err, store.ErrConflict) {
			return s.lose(err)
		}
	case retired:
		l, err = s.cfg.Leaders.Leader(ctx)
	default:
		l, err = s.cfg.Leaders.TakeLead(ctx, s.cfg.Holder, s.cfg.Address, s.cfg.Hold)
	}
	if err != nil {
		return fmt.Errorf("ask who leads: %w", err)
	}
	s.learn(l, sent)
	return nil
}

func (s *Service) snapshot() (st State, retired, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.retired, s.lost
}

// learn takes in what the records said of a call that was sent at an instant.
func (s *Service) learn(l store.Lead, sent time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := l.Holder == s.cfg.Holder && !s.retired
	if s.retired && l.Holder == s.cfg.Holder { // yielding is under way
		l = store.Lead{Fence: l.Fence}
	}
	changed := mine != s.state.Leading || l.Fence != s.state.Lead.Fence
	if mine {
		s.until = sent + s.cfg.Hold - s.cfg.Margin
	}
	s.state.Leading, s.state.Lead, s.state.Asked = mine, l, sent
	if l.Fence != 0 {
		s.state.Seen = sent
	}
	if changed {
		s.tell()
	}
}

// tell needs s.mu.
func (s *Service) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Service) lose(why error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost, s.state.Leading, s.retired = true, false, true
	s.tell()
	return fmt.Errorf("%w: %w", ErrLost, why)
}

// Yield gives the lead to the others, after all that this process did as the leader has ended. It never leads again.
func (s *Service) Yield(ctx context.Context) error {
	s.mu.Lock()
	leading, fence := s.state.Leading, s.state.Lead.Fence
	s.retired, s.state.Leading = true, false
	if leading {
		s.state.Lead = store.Lead{Fence: fence}
	}
	s.tell()
	s.mu.Unlock()
	if !leading {
		return nil
	}
	if err := s.cfg.Leaders.YieldLead(ctx, fence); err != nil {
		return fmt.Errorf("yield the lead: %w", err)
	}
	return nil
}
