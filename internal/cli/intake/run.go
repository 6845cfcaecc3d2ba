package intake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/ingest"
)

// Bounds of a run.
const (
	batchEvents = 1000
	batchBytes  = 8 << 20
	shownMax    = 20 // rejected and conflicting events that are told one by one
	ParallelMax = 16 // batches under way at once
)

// Outcome is what became of one event, as the server says it.
type Outcome struct {
	Line    int    `json:"line"`
	Status  string `json:"status"`
	ID      string `json:"id,omitempty"`
	Pointer string `json:"pointer,omitempty"`
	Rule    string `json:"rule,omitempty"`
	Fix     string `json:"fix,omitempty"`
	Digest  string `json:"digest,omitempty"`
	Stored  string `json:"stored_digest,omitempty"`
}

// Counts are the outcomes of all events of a file.
type Counts struct {
	Accepted  int64 `json:"accepted"`
	Duplicate int64 `json:"duplicate"`
	Conflict  int64 `json:"conflict"`
	Rejected  int64 `json:"rejected"`
	Unmatched int64 `json:"unmatched"`
}

func (c *Counts) add(status string) error {
	switch status {
	case "accepted":
		c.Accepted++
	case "duplicate":
		c.Duplicate++
	case "conflict":
		c.Conflict++
	case "rejected":
		c.Rejected++
	case "unmatched":
		c.Unmatched++
	default:
		return fmt.Errorf("the server's answer is not understood: outcome %q", status)
	}
	return nil
}

// Run is one file's way to the server.
type Run struct {
	Path     string   // of the file; "-": stdin, which cannot be resumed
	Mapping  *Mapping // of a table; nil: one event a line
	Restart  bool     // begin at the begin, whatever an earlier run did
	Rejects  string   // file for rejected and conflicting events; "": none
	Parallel int      // batches under way at once
	Send     func(ctx context.Context, body []byte) ([]Outcome, error)
	Notes    io.Writer                                 // for people
	Progress func(taken, size, events int64, end bool) // may be nil

	in      *Input
	decoder *ingest.Decoder
	seed    maphash.Seed
	reader  reader
	columns []string
	saved   state
	path    string // of the state; "": none
	rejects *os.File
	shown   int64
	events  int64
}

// batch is events under way.
type batch struct {
	body  []byte
	slots []Outcome           // of each record; those with a status have their outcome already
	ids   map[uint64]struct{} // hashes of the events' identities
	end   place
	taken int64
	done  chan struct{} // closed when told and err are there
	told  []Outcome
	err   error
}

// Do sends all events of the file. Without an error every event has an outcome. With one, it says at which byte to go on; running
// it again does so.
func (r *Run) Do(ctx context.Context) (counts Counts, err error) {
	if err := r.open(); err != nil {
		return Counts{}, err
	}
	defer func() {
		err = errors.Join(err, r.in.Close())
		if r.rejects != nil {
			err = errors.Join(err, r.rejects.Close())
		}
	}()
	if err := r.pump(ctx); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("interrupted: %w", err)
		}
		hint := "; all that was sent is safe, send the rest again"
		if r.path != "" && r.saved.Offset > 0 {
			hint = "; run the same command again to go on there"
		}
		return r.saved.Counts, fmt.Errorf("%w\n  outcomes are known up to byte %d (line %d) of %s%s", err, r.saved.Offset, r.saved.Line, r.in.Name, hint)
	}
	if hidden := r.shown - shownMax; hidden > 0 {
		_, _ = fmt.Fprintf(r.Notes, "and %d more; --rejects FILE keeps all of them\n", hidden)
	}
	if r.path != "" {
		if err := os.Remove(r.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return r.saved.Counts, fmt.Errorf("remove the note of how far the events are sent: %w", err)
		}
	}
	return r.saved.Counts, nil
}

// pump keeps some batches under way and takes their outcomes in order.
func (r *Run) pump(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var queue []*batch
	defer func() { // nothing goes on in the background
		stop()
		for _, b := range queue {
			<-b.done
		}
	}()
	oldest := func() error {
		first := queue[0]
		<-first.done
		queue = queue[1:]
		return r.take(first)
	}
	for more := true; more || len(queue) > 0; {
		for more && len(queue) < r.Parallel {
			b, err := r.fill()
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if more = err == nil; len(b.slots) == 0 {
				break
			}
			// Of two events with one identity the first in the file must come first: it is the one that counts.
			for shares(queue, b) {
				if err := oldest(); err != nil {
					return err
				}
			}
			queue = append(queue, b)
			go func() {
				defer close(b.done)
				if len(b.body) > 0 {
					b.told, b.err = r.Send(ctx, b.body)
				}
			}()
		}
		if len(queue) == 0 {
			break
		}
		if err := oldest(); err != nil {
			return err
		}
	}
	if r.Progress != nil {
		r.Progress(r.in.Taken(), r.in.Size, r.events, true)
	}
	return nil
}

// shares says whether an identity of a batch is in one that is under way.
func shares(queue []*batch, b *batch) bool {
	for id := range b.ids {
		for _, other := range queue {
			if _, ok := other.ids[id]; ok {
				return true
			}
		}
	}
	return false
}

// identify notes an event's identity. What is no event has none.
func (r *Run) identify(b *batch, text []byte) {
	e, fault := r.decoder.Event(text)
	if fault != nil {
		return
	}
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(e.Source) // a hash never fails
	_ = h.WriteByte(0)
	_, _ = h.WriteString(e.ID)
	b.ids[h.Sum64()] = struct{}{}
}

// fill reads the next batch; io.EOF comes with the last one.
func (r *Run) fill() (*batch, error) {
	b := &batch{done: make(chan struct{}), ids: make(map[uint64]struct{}, batchEvents)}
	r.decoder = ingest.NewDecoder(time.Unix(0, 0)) // it is asked for identities alone
	var err error
	for len(b.slots) < batchEvents && len(b.body) < batchBytes {
		var rec record
		if rec, err = r.reader.next(); err != nil {
			if !errors.Is(err, io.EOF) {
				err = fmt.Errorf("%s:%d: %w", r.in.Name, max(rec.line, 1), err)
			}
			break
		}
		slot := Outcome{}
		if rec.fault != nil {
			slot = *rec.fault
		} else {
			b.body = append(append(b.body, rec.text...), '\n')
			r.identify(b, rec.text)
		}
		slot.Line = rec.line
		b.slots = append(b.slots, slot)
	}
	b.end, b.taken = r.reader.place(), r.in.Taken()
	return b, err
}

// take counts a batch's outcomes, tells of the bad ones and notes how far things are.
func (r *Run) take(b *batch) error {
	if b.err != nil {
		return b.err
	}
	next := 0
	counts := r.saved.Counts
	var bad []Outcome
	for _, slot := range b.slots {
		if slot.Status == "" {
			if next == len(b.told) {
				return errors.New("the server's answer is not understood: it has too few outcomes")
			}
			line := slot.Line
			slot = b.told[next]
			slot.Line = line
			next++
		}
		if err := counts.add(slot.Status); err != nil {
			return err
		}
		if slot.Status == "rejected" || slot.Status == "conflict" {
			bad = append(bad, slot)
		}
	}
	if next != len(b.told) {
		return errors.New("the server's answer is not understood: it has too many outcomes")
	}
	if err := r.tell(bad); err != nil {
		return err
	}
	r.events += int64(len(b.slots))
	r.saved.Counts, r.saved.Offset, r.saved.Line = counts, b.end.offset, b.end.line
	r.saved.Digest, r.saved.Columns = hex.EncodeToString(b.end.digest[:]), r.columns
	if r.Progress != nil {
		r.Progress(b.taken, r.in.Size, r.events, false)
	}
	if r.path == "" {
		return nil
	}
	if err := r.saved.save(r.path); err != nil { // a folder that cannot be written to: go on without
		_, _ = fmt.Fprintf(r.Notes, "note: an interrupted run will begin anew: %v\n", err)
		r.path = ""
	}
	return nil
}

// tell lists bad events: the first ones for people, all of them in the file of rejects.
func (r *Run) tell(bad []Outcome) error {
	var file bytes.Buffer
	for _, o := range bad {
		if r.shown++; r.shown <= shownMax {
			what := strings.TrimPrefix(o.Pointer+" "+o.Rule, " ")
			if o.ID != "" {
				what = fmt.Sprintf("event %q: %s", o.ID, what)
			}
			if o.Digest != "" {
				what += " (this one is " + o.Digest + ", the stored one " + o.Stored + ")"
			}
			_, _ = fmt.Fprintf(r.Notes, "%s:%d: %s: %s; %s\n", r.in.Name, o.Line, o.Status, what, o.Fix)
		}
		b, err := json.Marshal(o)
		if err != nil {
			return err
		}
		file.Write(append(b, '\n'))
	}
	if r.rejects == nil || file.Len() == 0 {
		return nil
	}
	n, err := r.rejects.Write(file.Bytes())
	if err != nil {
		return fmt.Errorf("write rejected events: %w", err)
	}
	r.saved.Rejects += int64(n)
	return nil
}

// open opens the files, and goes to where an earlier run ended.
func (r *Run) open() (err error) {
	r.seed = maphash.MakeSeed()
	r.saved = state{Version: stateVersion, Reading: "lines"}
	if r.Mapping != nil {
		r.saved.Reading = "table " + r.Mapping.String()
	}
	if r.in, err = Open(r.Path); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.in.Close())
		}
	}()
	sum, from := sha256.New(), place{}
	if r.Path != "-" {
		r.path = r.Path + stateSuffix
		if sum, from, err = r.resume(); err != nil {
			return err
		}
	}
	if r.Mapping == nil {
		r.reader = newLines(r.in, from, sum)
	} else if r.reader, r.columns, err = newRows(r.in, from, sum, r.Mapping, r.saved.Columns); err != nil {
		return fmt.Errorf("%s: %w", r.in.Name, err)
	}
	return r.openRejects()
}

// resume reads over what has outcomes already. An input that is another one there is read from its begin.
func (r *Run) resume() (hash.Hash, place, error) {
	if r.Restart {
		return sha256.New(), place{}, nil
	}
	was, err := loadState(r.path, r.saved.Reading)
	if err != nil {
		return nil, place{}, err
	}
	if was == nil {
		return sha256.New(), place{}, nil
	}
	from, ok := was.at()
	sum := sha256.New()
	if _, err := io.CopyN(sum, r.in, was.Offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, place{}, fmt.Errorf("%s: %w", r.in.Name, err)
	}
	if ok && bytes.Equal(sum.Sum(nil), from.digest[:]) {
		r.saved = *was
		_, _ = fmt.Fprintf(r.Notes, "going on at byte %d (line %d) of %s; --restart begins anew\n", was.Offset, was.Line+1, r.in.Name)
		return sum, from, nil
	}
	_, _ = fmt.Fprintf(r.Notes, "note: %s has changed since the interrupted run; beginning anew, which counts nothing twice\n", r.in.Name)
	if err := r.in.Close(); err != nil {
		return nil, place{}, err
	}
	r.in, err = Open(r.Path)
	return sha256.New(), place{}, err
}

func (r *Run) openRejects() (err error) {
	if r.Rejects == "" {
		return nil
	}
	if r.rejects, err = os.OpenFile(r.Rejects, os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return fmt.Errorf("open the file for rejected events: %w", err)
	}
	info, err := r.rejects.Stat()
	if err == nil {
		r.saved.Rejects = min(r.saved.Rejects, info.Size())
		err = r.rejects.Truncate(r.saved.Rejects)
	}
	if err == nil {
		_, err = r.rejects.Seek(r.saved.Rejects, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("open the file for rejected events: %w", errors.Join(err, r.rejects.Close()))
	}
	return nil
}
