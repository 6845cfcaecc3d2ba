package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

const customers, meters = 10_000, 5

func customer(n int) string  { return fmt.Sprintf("cus_%08d", n) }
func meterName(n int) string { return fmt.Sprint("meter_", n) }
func first() time.Time       { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// load is what the producers send: events of about 200 bytes on disk, one of a hundred sent before.
type load struct {
	producers, size int
	ids             string        // v7: with the time in front, or random
	spread          time.Duration // of event times over the run; 0: by the millisecond
	total           int64         // events of the run
	next            atomic.Int64
}

func (l *load) entry(n int64, data []byte) store.Entry {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	at := first().Add(time.Duration(n) * time.Millisecond)
	if l.spread > 0 {
		at = first().Add(time.Duration(float(n, l.total) * int64(l.spread/1_000_000)))
	}
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], r.Uint64())
	binary.BigEndian.PutUint64(id[8:], r.Uint64())
	if l.ids == "v7" {
		binary.BigEndian.PutUint64(id[:], uint64(at.UnixMilli())<<16|r.Uint64()&0xffff)
	}
	c := r.IntN(customers)
	m := r.IntN(meters)
	if l.spread > 0 && n%200 == 0 {
		c, m = 0, 0 // one customer has events in every bucket
	}
	return store.Entry{
		Event: meter.Event{
			Source: "bench", ID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), Type: "request", Subject: customer(c),
			Time: at, Data: data,
		},
		Origin:      meter.Reported,
		Resolutions: []meter.Resolution{{CustomerID: customer(c), Meter: meterName(m), CatalogVersion: 1, Value: money.FromInt(1)}},
	}
}

// float is n of total in millionths.
func float(n, total int64) int64 { return n * 1_000_000 / max(total, 1) }

func (l *load) of(from int64, size int, data []byte) store.Batch {
	b := store.Batch{Producer: "api/bench", ReceivedAt: first(), Entries: make([]store.Entry, 0, size)}
	for i := range int64(size) {
		n := from + i
		if n%100 == 99 {
			n -= 50 // a resend
		}
		b.Entries = append(b.Entries, l.entry(n, data))
	}
	return b
}

func payload() []byte { return []byte(`{"route":"/v1/` + strings.Repeat("x", 20) + `"}`) }

// batch is the n-th of a producer.
func (l *load) batch(int, int) store.Batch {
	return l.of(l.next.Add(int64(l.size))-int64(l.size), l.size, payload())
}

// upTo sends events until there are so many.
func (l *load) upTo(limit int64, send func(store.Batch) error) error {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range l.producers {
		wg.Go(func() {
			for {
				from := l.next.Add(int64(l.size)) - int64(l.size)
				if from >= limit {
					l.next.Add(-int64(l.size))
					return
				}
				if err := send(l.of(from, l.size, payload())); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// recordBytes is what an event of the load takes in the log.
const recordBytes = 230

// measureFloor appends as many bytes to a bare file with the same group commit: one write and one fdatasync for all that wait.
// It makes the events too, as a producer must.
func measureFloor(ctx context.Context, name string, l *load, span time.Duration) (rate int, err error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close(); _ = os.Remove(name) }()
	var mu sync.Mutex // guards queue and done
	var queue, spare []byte
	done := make(chan struct{})    // closed when what is in the queue is durable
	lead := make(chan struct{}, 1) // who puts something in writes the queue
	one := make([]byte, recordBytes*l.size)
	return l.drive(ctx, span, func(store.Batch) error {
		mu.Lock()
		queue = append(queue, one...)
		mine := done
		mu.Unlock()
		select {
		case <-mine:
			return nil
		case lead <- struct{}{}:
		}
		defer func() { <-lead }()
		mu.Lock()
		group, all := queue, done
		if all != mine { // it was written just now
			mu.Unlock()
			return nil
		}
		queue, done = spare[:0], make(chan struct{})
		mu.Unlock()
		spare = group
		if _, err := f.Write(group); err != nil {
			return err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		close(all)
		return nil
	})
}
