package file

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

// Command is one call of an ordered log outside, of which this journal is a replica. One of its parts is set.
type Command struct {
	Number uint64 // in the ordered log, from 1 and rising; the first record that the command writes carries it
	Append *store.Batch
	Cut    *Cut
	Revise *store.Revisions
	Seal   [][]byte
	Order  *Order
}

// Cut is a call of Journal.Cut.
type Cut struct {
	CustomerID string
	At         time.Time
}

// Answer is what a command came to: its verdict is in Err, and the same on every replica.
type Answer struct {
	Results   []store.Result // of Append
	Revisions []uint64       // of Revise
	Position  uint64         // of Seal and Order
	Err       error
}

// prepared command.
type ordered struct {
	call      *call
	revisions []uint64
	position  *uint64
	idle      bool // nothing to carry out
	err       error
}

// Apply carries out the first of some commands, all in one commit, strictly in their order, and answers them after fsync. It
// takes as many as a commit holds; call it again with the rest. An error says that the command behind the last answer met a
// fault of this machine: ErrFull can be tried again, with the same command; else the process must stop.
// Applying is the only way to write to such a journal, from one goroutine. Reading, Tick and Compact may run beside it.
func (j *Journal) Apply(ctx context.Context, commands []Command) ([]Answer, error) {
	if err := j.enter(ctx); err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	defer j.leave()
	var group []ordered
	var calls []*call
	entries, bytes := 0, 0
	for i := range commands {
		o := j.order1(&commands[i])
		defer j.recycle(o.call)
		full := entries+len(o.call.entries) > MaxGroupEntries || bytes+o.call.size() > MaxGroupBytes
		if len(calls) > 0 && o.err == nil && !o.idle && (full || o.call.alone != nil || calls[0].alone != nil) {
			break
		}
		group = append(group, o)
		if o.err == nil && !o.idle {
			calls = append(calls, o.call)
			entries, bytes = entries+len(o.call.entries), bytes+o.call.size()
		}
	}
	if len(calls) > 0 {
		j.commitOrdered(calls)
		j.relieve()
	}
	return answers(group, commands)
}

func answers(group []ordered, commands []Command) ([]Answer, error) {
	var all []Answer
	for i := range group {
		o := &group[i]
		c := o.call
		switch {
		case o.err != nil:
			all = append(all, Answer{Err: o.err})
		case o.idle:
			all = append(all, Answer{Results: []store.Result{}, Revisions: []uint64{}})
		case c.decided && c.err != nil:
			all = append(all, Answer{Err: c.err})
		case c.decided:
			a := Answer{Results: c.results, Revisions: o.revisions}
			if o.position != nil {
				a.Position = *o.position
			}
			all = append(all, a)
		default:
			return all, fmt.Errorf("apply command %d: %w", commands[i].Number, c.err)
		}
	}
	return all, nil
}

// order1 prepares one command.
func (j *Journal) order1(cmd *Command) (o ordered) {
	o.call, _ = j.pool.Get().(*call)
	c := o.call
	c.command = cmd.Number
	switch {
	case cmd.Append != nil:
		o.idle = len(cmd.Append.Entries)+len(cmd.Append.Totals)+len(cmd.Append.Marks) == 0
		o.err = c.prepare(cmd.Append)
	case cmd.Cut != nil:
		o.err = j.prepareCut(c, cmd.Cut.CustomerID, cmd.Cut.At)
	case cmd.Revise != nil:
		o.idle = len(cmd.Revise.List) == 0
		o.revisions, o.err = j.prepareRevisions(c, cmd.Revise)
	case cmd.Order != nil:
		o.position, o.err = j.prepareOrder(c, *cmd.Order)
	default:
		o.position, o.err = j.prepareSeal(c, cmd.Seal)
	}
	return o
}

// commitOrdered commits a group outside the queue; closing a segment is all that comes through that here.
func (j *Journal) commitOrdered(calls []*call) {
	done := false
	j.leading.Lock()
	defer func() {
		if !done {
			_ = j.breakDown("commit", errPanicked) // kept
		}
		j.leading.Unlock()
	}()
	j.commit(calls)
	done = true
}

// Check says what is wrong with a command before it goes into the ordered log; nil: nothing that can be seen without the
// journal's state. ErrInvalid.
func (j *Journal) Check(cmd Command) error {
	cmd.Number = 1
	o := j.order1(&cmd)
	defer j.recycle(o.call)
	return o.err
}

// Applied is the number of the last command that wrote something. Those behind it wrote nothing, whatever they were, and come to
// the same when they are applied again.
func (j *Journal) Applied(ctx context.Context) (uint64, error) {
	if err := j.enter(ctx); err != nil {
		return 0, fmt.Errorf("applied: %w", err)
	}
	defer j.leave()
	l := newReader(j)
	end := j.position()
	for last, step := end, uint64(64); last > 0; step *= 8 { // a command writes its first record first, and at most some ten thousand
		from := max(last, step) - step + 1
		var found uint64
		for at := from; at <= last; at++ {
			p, err := l.find(at)
			if err != nil {
				return 0, fmt.Errorf("applied: %w", err)
			}
			if p.Command() > 0 {
				found = p.Command()
			}
		}
		if found > 0 {
			return found, nil
		}
		last = from - 1
	}
	if end > 0 {
		return 0, fmt.Errorf("no record of this journal was written by a command: %w", store.ErrConflict)
	}
	return 0, nil
}
