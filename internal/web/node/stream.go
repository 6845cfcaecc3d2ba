package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

const (
	factsMax  = 500             // in one line
	writeMax  = 5 * time.Second // to write a line in
	writeRoom = 64 << 10
)

// stream tells a gateway all it must know, then what changes, for as long as both are there.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	epoch, err := strconv.ParseUint(q.Get("epoch"), 10, 32)
	revision, rerr := strconv.ParseUint(q.Get("revision"), 10, 64)
	if err != nil || rerr != nil {
		refuse(w, http.StatusBadRequest, wire.CodeInvalid, "epoch and revision are numbers")
		return
	}
	x, ctx, err := s.open(r.Context(), callerOf(r.Context()), uint32(epoch))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	t := &teller{s: s, x: x, to: bufio.NewWriterSize(w, writeRoom), control: http.NewResponseController(w), after: revision, all: q.Get("run") != s.run}
	err = t.tell(ctx, r)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, errMoved) {
		if t.send(wire.Message{Call: &wire.Call{What: wire.CallMove}}) == nil {
			_ = t.flush() // the gateway finds out by itself
		}
	}
	s.leave(x, err)
}

// teller writes one stream.
type teller struct {
	s       *Server
	x       *session
	to      *bufio.Writer
	control *http.ResponseController
	after   uint64 // the change up to which the gateway knows all
	all     bool   // it knows nothing that could be built on
}

func (t *teller) tell(ctx context.Context, r *http.Request) error {
	if err := t.send(wire.Message{Hello: &wire.Hello{Session: t.x.id, Run: t.s.run, Now: t.s.cfg.Now().UnixMicro()}}); err != nil {
		return err
	}
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		list, revision, complete, more := t.s.cfg.Directory.Touched(t.after)
		if err := t.changes(ctx, list, revision, complete, first); err != nil {
			return err
		}
		if err := t.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		case c := <-t.x.calls:
			if err := t.send(wire.Message{Call: &c}); err != nil {
				return err
			}
		case <-tick.C:
			if _, fault := t.s.caller(r); revoked(fault) {
				return errRevoked
			}
			if t.s.silent(t.x) {
				return errSilent
			}
			if err := t.send(wire.Message{Beat: &wire.Beat{Now: t.s.cfg.Now().UnixMicro()}}); err != nil {
				return err
			}
		}
	}
}

// changes tells what changed, or everything.
func (t *teller) changes(ctx context.Context, list []govern.Touched, revision uint64, complete, first bool) error {
	var err error
	switch {
	case t.all || !complete:
		err = t.everything(ctx)
	case len(list) > 0:
		err = t.touched(ctx, list)
	case !first:
		return nil
	}
	if err != nil {
		return err
	}
	t.all, t.after = false, revision
	return t.send(wire.Message{Done: &wire.Done{Revision: revision}})
}

// everything is told in lines of bounded length.
func (t *teller) everything(ctx context.Context) error {
	if err := t.send(wire.Message{Reset: true}); err != nil {
		return err
	}
	var f govern.Facts
	switch v, err := t.s.cfg.Directory.Catalog(ctx, 0); {
	case err == nil:
		f.Catalogs = append(f.Catalogs, v)
	case !errors.Is(err, account.ErrNotFound): // before the first catalog
		return fmt.Errorf("read the newest catalog: %w", err)
	}
	put := func(last bool) error {
		if !last && len(f.Pictures)+len(f.Keys) < factsMax {
			return nil
		}
		err := t.send(wire.Message{Facts: wire.FactsOf(f)})
		f = govern.Facts{}
		return err
	}
	for _, c := range t.s.cfg.Directory.Customers() {
		if p, ok := t.s.cfg.Directory.PictureOf(c.ID, t.s.cfg.Now()); ok {
			f.Pictures = append(f.Pictures, p)
		}
		if err := put(false); err != nil {
			return err
		}
	}
	for _, k := range t.s.cfg.Directory.KeysNow() {
		f.Keys = append(f.Keys, k)
		if err := put(false); err != nil {
			return err
		}
	}
	return put(true)
}

// touched tells what changed as it is now, each thing once.
func (t *teller) touched(ctx context.Context, list []govern.Touched) error {
	told := map[govern.Touched]bool{}
	var f govern.Facts
	for _, x := range list {
		if x.Version != 0 {
			x.Version = 1 // the newest is told
		}
		if told[x] {
			continue
		}
		told[x] = true
		switch {
		case x.CustomerID != "":
			if p, ok := t.s.cfg.Directory.PictureOf(x.CustomerID, t.s.cfg.Now()); ok {
				f.Pictures = append(f.Pictures, p)
			}
		case x.KeyID != "":
			if k, ok := t.s.cfg.Directory.KeyNow(x.KeyID); ok {
				f.Keys = append(f.Keys, k)
			}
		default:
			v, err := t.s.cfg.Directory.Catalog(ctx, 0)
			if err != nil {
				return fmt.Errorf("read the newest catalog: %w", err)
			}
			f.Catalogs = append(f.Catalogs, v)
		}
	}
	return t.send(wire.Message{Facts: wire.FactsOf(f)})
}

// send writes one line into the room; flush sends it off.
func (t *teller) send(m wire.Message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write to the stream: %w", err)
	}
	_ = t.control.SetWriteDeadline(t.s.cfg.Real().Add(writeMax)) // not every writer can
	if _, err = t.to.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write to the stream: %w", err)
	}
	return nil
}

func (t *teller) flush() error {
	if t.to.Buffered() == 0 {
		return nil
	}
	if err := t.to.Flush(); err != nil {
		return fmt.Errorf("write to the stream: %w", err)
	}
	if err := t.control.Flush(); err != nil {
		return fmt.Errorf("write to the stream: %w", err)
	}
	return nil
}
