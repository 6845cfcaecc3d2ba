package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/internal/app/seal"
	coreseal "github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/file/tree"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

// processor is the time that the process has spent.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spent adds what a run has cost, its opening and closing included.
func (l *load) spent(m *measured, since time.Duration) {
	m.cost = int64(processor()-since) / max(l.next.Load(), 1)
}

// runLoad makes the events and sends them nowhere.
func runLoad(ctx context.Context, _ string, l *load, span time.Duration) (m measured, err error) {
	since := processor()
	m.rate, err = l.drive(ctx, span/10, func(store.Batch) error { return nil })
	l.spent(&m, since)
	return m, err
}

// runJournal appends to a fresh journal.
func runJournal(ctx context.Context, dir string, l *load, span time.Duration) (m measured, err error) {
	since := processor()
	j, err := file.Open(file.Config{Dir: dir})
	if err != nil {
		return m, err
	}
	stop := every(ctx, 50*time.Millisecond, j.Tick)
	m.rate, err = l.drive(ctx, span, appendTo(ctx, j))
	err = errors.Join(err, stop(), j.Close())
	l.spent(&m, since)
	return m, err
}

func appendTo(ctx context.Context, j *file.Journal) func(store.Batch) error {
	return func(b store.Batch) error {
		_, err := j.Append(ctx, b)
		return err
	}
}

// every calls tick, as the server does, until it is stopped.
func every(ctx context.Context, span time.Duration, tick func(context.Context) error) (stop func() error) {
	inner, cancel := context.WithCancel(ctx)
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(span)
		defer t.Stop()
		for {
			select {
			case <-inner.Done():
				return
			case <-t.C:
				if err := tick(inner); err != nil && inner.Err() == nil {
					failed = err
					return
				}
			}
		}
	})
	return func() error {
		cancel()
		wg.Wait()
		return failed
	}
}

// runSealing appends to a fresh journal while the tree takes its records in every second.
func runSealing(ctx context.Context, dir string, l *load, span time.Duration) (m measured, err error) {
	since := processor()
	j, err := file.Open(file.Config{Dir: dir})
	if err != nil {
		return m, err
	}
	p, err := openProof(ctx, dir, j)
	if err != nil {
		return m, errors.Join(err, j.Close())
	}
	stop, sealed := every(ctx, 50*time.Millisecond, j.Tick), every(ctx, time.Second, p.seal.Tick)
	m.rate, err = l.drive(ctx, span, appendTo(ctx, j))
	err = errors.Join(err, sealed())
	if err == nil {
		err = p.seal.Tick(ctx) // what is left belongs to the cost
	}
	err = errors.Join(err, stop(), p.close(), j.Close())
	l.spent(&m, since)
	return m, err
}

// proof is the tree of a journal, and what it needs.
type proof struct {
	records *sqlite.Records
	tiles   *tree.Tree
	seal    *seal.Service
}

func treeDir(dir string) string { return filepath.Join(dir, "tree") }

func openProof(ctx context.Context, dir string, j store.Journal) (p *proof, err error) {
	p = &proof{}
	if p.records, err = sqlite.Open(ctx, filepath.Join(dir, "records.db")); err != nil {
		return nil, err
	}
	if p.tiles, err = tree.Open(tree.Config{Dir: treeDir(dir)}); err != nil {
		return nil, errors.Join(err, p.records.Close())
	}
	signer, verifier, err := coreseal.NewKey(rand.Reader, coreseal.Origin("bench"))
	if err == nil {
		p.seal, err = seal.Open(ctx, seal.Config{
			Seals: p.records, Keys: p.records, Invoices: p.records, Journal: j, Tiles: p.tiles, Signer: signer, Verifier: verifier,
			Now: time.Now, Random: rand.Reader,
		})
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *proof) close() error { return errors.Join(p.tiles.Close(), p.records.Close()) }

// recordBytes is what an event of the load takes in the log.
const recordBytes = 230

// runFloor appends as many bytes to a bare file with the same group commit: one write and one fdatasync for all that wait.
// It makes the events too, as a producer must.
func runFloor(ctx context.Context, name string, l *load, span time.Duration) (m measured, err error) {
	since := processor()
	f, err := os.Create(name)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := writer{f: f, done: make(chan struct{}), lead: make(chan struct{}, 1), one: make([]byte, recordBytes*l.size)}
	m.rate, err = l.drive(ctx, span, w.send)
	l.spent(&m, since)
	return m, err
}

// writer is the floor.
type writer struct {
	f    *os.File
	one  []byte        // a batch
	lead chan struct{} // who puts something in writes the queue

	mu           sync.Mutex // guards queue and done
	queue, spare []byte     // spare is the leader's
	done         chan struct{}
}

func (w *writer) send(store.Batch) error {
	w.mu.Lock()
	w.queue = append(w.queue, w.one...)
	mine := w.done // closed when what is in the queue is durable
	w.mu.Unlock()
	select {
	case <-mine:
		return nil
	case w.lead <- struct{}{}:
	}
	defer func() { <-w.lead }()
	w.mu.Lock()
	group, all := w.queue, w.done
	if all != mine { // it was written just now
		w.mu.Unlock()
		return nil
	}
	w.queue, w.done = w.spare[:0], make(chan struct{})
	w.mu.Unlock()
	w.spare = group
	if _, err := w.f.Write(group); err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	if err := syscall.Fdatasync(int(w.f.Fd())); err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	close(all)
	return nil
}
