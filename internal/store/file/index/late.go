package index

import (
	"sync"

	"github.com/tallystick/tallystick/internal/core/money"
)

// maxLateSums bounds the sums kept; any of them can be read again.
const maxLateSums = 10_000

// lateSums keeps what View.Late read. A sum stays true: contributions are never removed, and a cut moves none into or
// out of an interval. Only what lies behind upTo is to be added.
type lateSums struct {
	mu   sync.Mutex
	kept map[lateKey]lateSum
}

// lateKey is a question: events of a series in an interval (microseconds) behind a position.
type lateKey struct {
	series   *series
	from, to int64
	after    uint64
}

// lateSum is the answer at a position; zero: nothing is known.
type lateSum struct {
	sum  money.Decimal
	upTo uint64
}

func (l *lateSums) get(k lateKey) lateSum {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept[k]
}

// put is for the holder of the journal's read lock: until it is given back the answer is the newest one.
func (l *lateSums) put(k lateKey, s lateSum) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept == nil {
		l.kept = map[lateKey]lateSum{}
	}
	if _, ok := l.kept[k]; !ok && len(l.kept) >= maxLateSums {
		for old := range l.kept { // any will do
			delete(l.kept, old)
			break
		}
	}
	l.kept[k] = s
}
