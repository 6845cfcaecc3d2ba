package refund

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/store"
)

type records struct {
	Records
	err  error
	got  []store.Refund
	most int
}

func (r *records) AddRefunds(_ context.Context, list []store.Refund) error {
	if r.err != nil {
		return r.err
	}
	r.got, r.most = append(r.got, list...), max(r.most, len(list))
	return nil
}

func (r *records) ListRefunds(context.Context, store.Query) ([]store.Refund, error) {
	return r.got, nil
}

// TestNothingIsLost: what could not be stored is stored later, in parts, once.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	r := &records{err: errors.New("no records")}
	own := []enforce.Refund{{CustomerID: "own", Reason: enforce.Failed, Count: 1, Day: time.Unix(0, 0)}}
	b := New(r, func() ([]enforce.Refund, int64) { list := own; own = nil; return list, 0 })
	told := make([]enforce.Refund, 2*atOnce)
	for i := range told {
		told[i] = enforce.Refund{CustomerID: "told", Count: 1}
	}
	if err := b.Take(t.Context(), 2, told, 3); !errors.Is(err, r.err) {
		t.Fatalf("%v", err)
	}
	r.err = nil
	list, err := b.List(t.Context(), store.Query{})
	if err != nil || len(list) != len(told)+1 || r.most > atOnce || b.Lost() != 3 {
		t.Fatalf("%d lines in parts of %d, %d lost, %v", len(list), r.most, b.Lost(), err)
	}
	if list, err = b.List(t.Context(), store.Query{}); err != nil || len(list) != len(told)+1 {
		t.Fatalf("%d lines the second time, %v", len(list), err)
	}
}

// TestWaitingIsBounded: what there is no room for is counted.
func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	r := &records{err: errors.New("no records")}
	b := New(r, func() ([]enforce.Refund, int64) { return nil, 0 })
	told := make([]enforce.Refund, waiting+5)
	for i := range told {
		told[i].Count = 2
	}
	if err := b.Take(t.Context(), 2, told, 0); !errors.Is(err, r.err) || b.Lost() != 10 || len(b.waiting) != waiting {
		t.Fatalf("%d wait, %d lost, %v", len(b.waiting), b.Lost(), err)
	}
}
