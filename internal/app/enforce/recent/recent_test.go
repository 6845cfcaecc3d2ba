package recent_test

import (
	"fmt"
	"testing"

	"github.com/tallystick/tallystick/internal/app/enforce/recent"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// TestListIsInOrderAndBounded: the last decisions of all customers stand in their order, whatever part they are kept in; old ones go.
func TestListIsInOrderAndBounded(t *testing.T) {
	t.Parallel()
	var l recent.List
	for i := range 5000 {
		d := recent.Decision{ID: fmt.Sprint(i), CustomerID: fmt.Sprint("c", i%7), Micros: int64(i) * 10_000, Seq: uint64(i), Outcome: receipt.Allowed, Cost: 15, Scale: 1}
		if i%5 == 0 {
			d.Outcome = receipt.DeniedQuota
		}
		l.Add(&d)
	}
	all := l.Last("", 2000)
	if len(all) != 1024 {
		t.Fatalf("%d are kept", len(all))
	}
	for i, d := range all {
		if d.DecisionID != fmt.Sprint(4999-i) || d.Cost.String() != "1.5" {
			t.Fatalf("place %d: %+v", i, d)
		}
	}
	if of := l.Last("c3", 2); len(of) != 2 || of[0].DecisionID != "4994" || of[1].DecisionID != "4987" {
		t.Errorf("of one customer %+v", of)
	}
	rates := l.Rates(50, 2)
	if len(rates) != 2 || rates[0] != (recent.Rate{Second: 48, Admitted: 80, Denied: 20}) || rates[1].Second != 49 {
		t.Errorf("%+v", rates)
	}
	if l.Last("", -1) != nil || len(l.Rates(50, 1000)) != 127 {
		t.Error("out of bounds")
	}
}
