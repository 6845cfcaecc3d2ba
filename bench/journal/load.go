package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

const customers, meters = 10_000, 5

// The names are made once: a producer has them at hand.
type names struct{ customers, meters []string }

func newNames() *names {
	n := &names{}
	for i := range customers {
		n.customers = append(n.customers, customer(i))
	}
	for i := range meters {
		n.meters = append(n.meters, meterName(i))
	}
	return n
}

func customer(n int) string  { return fmt.Sprintf("cus_%08d", n) }
func meterName(n int) string { return fmt.Sprint("meter_", n) }
func first() time.Time       { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// load is what the producers send: events of about 200 bytes on disk, one of a hundred sent before.
type load struct {
	producers, size int
	names           *names
	data            []byte
	ids             string        // v7: with the time in front, or random
	spread          time.Duration // of event times over the run; 0: by the millisecond
	total           int64         // events of the run
	next            atomic.Int64
}

// mix is a number that looks random and depends on n alone.
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

func uuid(high, low uint64) string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], high)
	binary.BigEndian.PutUint64(raw[8:], low)
	text := make([]byte, 36)
	at := 0
	for _, part := range [][]byte{raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:]} {
		if at > 0 {
			text[at] = '-'
			at++
		}
		at += hex.Encode(text[at:], part)
	}
	return string(text)
}

// entry fills in the n-th event of the run.
func (l *load) entry(e *store.Entry, resolutions []meter.Resolution, n int64) {
	at := first().Add(time.Duration(n) * time.Millisecond)
	if l.spread > 0 {
		at = first().Add(time.Duration(millionths(n, l.total) * int64(l.spread/1_000_000)))
	}
	high, low := mix(uint64(n)), mix(uint64(n)+1<<40)
	pick := mix(high)
	if l.ids == "v7" {
		high = uint64(at.UnixMilli())<<16 | 7<<12 | high&0xfff
	}
	c, m := pick%customers, pick>>32%meters
	if l.spread > 0 && n%200 == 0 {
		c, m = 0, 0 // one customer has events in every bucket
	}
	resolutions[0] = meter.Resolution{CustomerID: l.names.customers[c], Meter: l.names.meters[m], CatalogVersion: 1, Value: money.FromInt(1)}
	*e = store.Entry{
		Event:       meter.Event{Source: "bench", ID: uuid(high, low), Type: "request", Subject: l.names.customers[c], Time: at, Data: l.data},
		Origin:      meter.Reported,
		Resolutions: resolutions,
	}
}

// millionths is n of total in millionths.
func millionths(n, total int64) int64 { return n * 1_000_000 / max(total, 1) }

// producer makes batches in the same room again and again: who appends has done with a batch when it answers.
type producer struct {
	load        *load
	entries     []store.Entry
	resolutions []meter.Resolution
}

func (l *load) producer() *producer {
	return &producer{load: l, entries: make([]store.Entry, l.size), resolutions: make([]meter.Resolution, l.size)}
}

// batch is the next one of the run.
func (p *producer) batch() store.Batch {
	size := int64(len(p.entries))
	return p.from(p.load.next.Add(size) - size)
}

func (p *producer) from(from int64) store.Batch {
	for i := range p.entries {
		n := from + int64(i)
		if n%100 == 99 {
			n -= 50 // a resend
		}
		p.load.entry(&p.entries[i], p.resolutions[i:i+1:i+1], n)
	}
	return store.Batch{Producer: "api/bench", ReceivedAt: first(), Entries: p.entries}
}

func payload() []byte { return []byte(`{"route":"/v1/` + strings.Repeat("x", 20) + `"}`) }

// upTo sends events until there are so many.
func (l *load) upTo(limit int64, send func(store.Batch) error) error {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range l.producers {
		wg.Go(func() {
			own := l.producer()
			for {
				from := l.next.Add(int64(l.size)) - int64(l.size)
				if from >= limit {
					l.next.Add(-int64(l.size))
					return
				}
				if err := send(own.from(from)); err != nil {
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

// drive has producers send batches for a while and returns events a second.
func (l *load) drive(ctx context.Context, span time.Duration, send func(store.Batch) error) (int64, error) {
	var sent atomic.Int64
	var failed atomic.Pointer[error]
	began := time.Now()
	var wg sync.WaitGroup
	for range l.producers {
		wg.Go(func() {
			own := l.producer()
			for time.Since(began) < span && ctx.Err() == nil {
				if err := send(own.batch()); err != nil {
					failed.Store(&err)
					return
				}
				sent.Add(int64(l.size))
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return sent.Load() * int64(time.Second) / int64(time.Since(began)), ctx.Err()
}
