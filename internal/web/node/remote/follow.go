package remote

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

const (
	beatEvery    = 300 * time.Millisecond
	silenceMax   = 1500 * time.Millisecond // without a line, the stream is given up
	againFirst   = 50 * time.Millisecond
	againMax     = 400 * time.Millisecond
	answersAtOne = 64 // calls of the server that are worked on at once
)

// Mirror is fed by the stream; govern.Mirror fits.
type Mirror interface {
	Reset()
	Put(f govern.Facts) error
	Done()
}

// FollowConfig of a Follower. All fields are required.
type FollowConfig struct {
	Client *Client
	Mirror Mirror
	// Hello is told the server's business time each time that a stream begins, before anything else of it counts.
	Hello func(now time.Time)
	// Advance moves the business clock.
	Advance func(ctx context.Context, to time.Time) error
	// Settle ships when all that was decided before an instant has ended.
	Settle func(ctx context.Context, before time.Time) error
	// Counted is told of customers whose usage was reported from outside.
	Counted func(customerIDs []string)
	// Holder gives leases back; nil: not yet.
	Holder func() authority.Holder
	// Held makes a call about an explicit reservation that this process has. ErrReservationAway: it has not begun.
	Held func(ctx context.Context, c enforce.HeldCall) (*enforce.Held, *enforce.Admission, error)
	// State is told with each beat; session and revision are filled in.
	State func() wire.State
	Log   *slog.Logger
}

// Follower keeps one stream open. Run is called once.
type Follower struct {
	cfg      FollowConfig
	zones    wire.Zones // owner: Run
	run      string     // of the server that revision is of; owner: Run
	revision atomic.Uint64
	current  atomic.Bool // connected, and complete
	once     sync.Once
	complete chan struct{} // closed when the first picture is complete
	streams  atomic.Int64
	session  atomic.Value  // string: of the newest stream
	working  chan struct{} // tokens of calls that are worked on
}

// NewFollower checks the configuration and starts nothing.
func NewFollower(cfg FollowConfig) (*Follower, error) {
	if cfg.Client == nil || cfg.Mirror == nil || cfg.Hello == nil || cfg.Advance == nil || cfg.Settle == nil || cfg.Counted == nil || cfg.Holder == nil || cfg.Held == nil || cfg.State == nil || cfg.Log == nil {
		return nil, errors.New("remote: incomplete configuration of the follower")
	}
	return &Follower{cfg: cfg, zones: wire.Zones{}, complete: make(chan struct{}), working: make(chan struct{}, answersAtOne)}, nil
}

// Complete is closed when the mirror has its first whole picture.
func (f *Follower) Complete() <-chan struct{} { return f.complete }

// Current says whether the stream is open, so that changes arrive.
func (f *Follower) Current() bool { return f.current.Load() }

// Revision is the change of the server's directory up to which the mirror knows all.
func (f *Follower) Revision() uint64 { return f.revision.Load() }

// Streams is how often a stream was opened.
func (f *Follower) Streams() int64 { return f.streams.Load() }

// Leave tells the server that this process is about to go. When it returns without error, no call about explicit reservations runs here,
// nor comes any more by the stream that is open.
func (f *Follower) Leave(ctx context.Context) error {
	session, _ := f.session.Load().(string)
	return f.cfg.Client.call(ctx, wire.PathLeave, f.cfg.Client.cfg.CallTimeout, wire.Leave{Session: session}, &struct{}{})
}

// Run follows until ctx ends, opening the stream again when it breaks. It returns early only with what trying again does not
// mend: ErrDenied, ErrProtocol, authority.ErrEpoch.
func (f *Follower) Run(ctx context.Context) error {
	wait := againFirst
	for {
		began := f.cfg.Client.cfg.Real()
		err := f.follow(ctx)
		f.current.Store(false)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it ended because it was told to
		}
		if errors.Is(err, ErrDenied) || errors.Is(err, ErrProtocol) || errors.Is(err, authority.ErrEpoch) {
			return err
		}
		if f.cfg.Client.cfg.Real().Sub(began) > againMax {
			wait = againFirst
			f.cfg.Log.WarnContext(ctx, "the stream from the server broke, it is opened again", slog.Any("error", err))
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		wait = min(2*wait, againMax)
	}
}

// follow opens one stream and reads it to its end.
func (f *Follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(silenceMax, func() { cancel(errors.New("nothing came for too long")) })
	defer silence.Stop()
	q := url.Values{
		"epoch": {strconv.FormatUint(uint64(f.cfg.State().Epoch), 10)}, "run": {f.run}, "revision": {strconv.FormatUint(f.revision.Load(), 10)},
	}
	req, err := f.cfg.Client.request(ctx, http.MethodGet, wire.PathStream, q, nil)
	if err != nil {
		return err
	}
	resp, err := f.cfg.Client.cfg.HTTP.Do(req)
	if err != nil {
		return unreachable(wire.PathStream, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, wire.CallMax))
		if err != nil {
			return unreachable(wire.PathStream, err)
		}
		return fault(wire.PathStream, resp.StatusCode, text)
	}
	f.streams.Add(1)
	var works sync.WaitGroup
	defer works.Wait()
	defer cancel(nil)
	s := &following{f: f, ctx: ctx, works: &works}
	lines := bufio.NewReaderSize(resp.Body, 64<<10)
	for {
		line, err := readLine(lines)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return unreachable(wire.PathStream, err)
		}
		silence.Reset(silenceMax)
		if err := s.take(line); err != nil {
			return err
		}
	}
}

var errLine = errors.New("a line of the stream is too long")

// readLine reads up to a line's end, at most wire.LineMax bytes.
func readLine(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > wire.LineMax {
			return nil, errLine
		}
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// following is one open stream.
type following struct {
	f       *Follower
	ctx     context.Context //nolint:containedctx // it lives as long as the stream does
	works   *sync.WaitGroup
	session string
	run     string // of the server
}

// take acts on one line.
func (s *following) take(line []byte) error {
	var m wire.Message
	if err := json.Unmarshal(line, &m); err != nil {
		return fmt.Errorf("read the stream: %w", err)
	}
	f := s.f
	switch {
	case m.Hello != nil:
		s.session, s.run = m.Hello.Session, m.Hello.Run
		f.session.Store(s.session)
		f.cfg.Hello(time.UnixMicro(m.Hello.Now).UTC())
		f.cfg.Client.breaker.done(f.cfg.Client.cfg.Real(), true)
		s.works.Go(s.beats)
	case m.Reset:
		f.run = "" // until all is there, a new stream begins anew
		f.cfg.Mirror.Reset()
	case m.Facts != nil:
		facts, err := m.Facts.Value(f.zones)
		if err == nil {
			err = f.cfg.Mirror.Put(facts)
		}
		if err != nil {
			f.run = "" // everything is read again
			return fmt.Errorf("take in what the server told: %w", err)
		}
	case m.Done != nil:
		f.cfg.Mirror.Done()
		f.run = s.run
		f.revision.Store(m.Done.Revision)
		f.current.Store(true)
		f.once.Do(func() { close(f.complete) })
	case m.Call != nil && m.Call.What == wire.CallCounted:
		f.cfg.Counted(m.Call.Customers)
	case m.Call != nil && m.Call.What == wire.CallMove:
		f.cfg.Client.moved()
	case m.Call != nil:
		s.answer(*m.Call)
	}
	return nil
}

// beats tells how things stand, until the stream ends.
func (s *following) beats() {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		st := s.f.cfg.State()
		st.Session, st.Revision = s.session, s.f.revision.Load()
		_ = s.f.cfg.Client.call(s.ctx, wire.PathBeat, silenceMax, st, &struct{}{}) // the next one follows
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		}
	}
}

// answer works on a call in the background. When too many are worked on, the server is left without an answer, which it bears.
func (s *following) answer(c wire.Call) {
	select {
	case s.f.working <- struct{}{}:
	default:
		return
	}
	s.works.Go(func() {
		defer func() { <-s.f.working }()
		a := wire.Answer{ID: c.ID}
		var err error
		if c.What == wire.CallHeld && c.Held != nil {
			a.Held, err = wire.HeldOf(s.f.cfg.Held(s.ctx, *c.Held))
		} else {
			var backs []authority.Back
			backs, err = s.work(c)
			a.Backs = wire.BacksOf(backs)
		}
		if err != nil {
			a.Error = err.Error()
		}
		// When this fails, the server takes the gateway for unreachable. What was given back is not used here any more.
		_ = s.f.cfg.Client.call(s.ctx, wire.PathAnswers, s.f.cfg.Client.cfg.CallTimeout, wire.Answers{Session: s.session, Answers: []wire.Answer{a}}, &struct{}{})
	})
}

func (s *following) work(c wire.Call) ([]authority.Back, error) {
	cfg := &s.f.cfg
	at := time.UnixMicro(c.At).UTC()
	switch c.What {
	case wire.CallAdvance:
		return nil, cfg.Advance(s.ctx, at)
	case wire.CallSettle:
		return nil, cfg.Settle(s.ctx, at)
	}
	h := cfg.Holder()
	if h == nil { // nothing is said of leases of an earlier run, which only the spool knows
		return nil, errors.New("this gateway has not begun yet")
	}
	switch c.What {
	case wire.CallRecall:
		return h.Recall(s.ctx, wire.Keys(c.Counters))
	case wire.CallTell:
		return h.Tell(s.ctx, wire.Keys(c.Counters))
	case wire.CallShip:
		return nil, h.Ship(s.ctx)
	}
	return nil, fmt.Errorf("%q is no call that this release knows", c.What)
}
