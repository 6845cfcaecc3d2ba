package index

import (
	"testing"

	"github.com/tallystick/tallystick/internal/core/money"
)

func TestLateSumsAreBounded(t *testing.T) {
	t.Parallel()
	var l lateSums
	for i := range int64(maxLateSums + 5) {
		l.put(lateKey{from: i}, lateSum{money.FromInt(i), 1})
	}
	last := lateKey{from: maxLateSums + 4}
	l.put(last, lateSum{money.FromInt(7), 2})
	if got := l.get(last); len(l.kept) != maxLateSums || got.upTo != 2 || got.sum.String() != "7" {
		t.Errorf("%d kept, the last is %+v", len(l.kept), got)
	}
}
