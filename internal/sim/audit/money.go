package audit

import "slices"

// Invoice is a finalized one: its number, its bytes, and what it charges for usage.
type Invoice struct {
	ID       string
	Number   int64
	Text     string
	Customer string
	Usage    int64 // cents of all lines for usage
}

// Invoices checks that none changed since it was first seen, and that numbers have no gap and no double: P4.
func (l *Log) Invoices(list []Invoice) error {
	seen := map[string]bool{}
	numbers := make([]int64, 0, len(list))
	for _, v := range list {
		l.Checked++
		if first, known := l.invoices[v.ID]; known && first != v.Text {
			return fault("P4", "invoice %s has changed from %s to %s", v.ID, first, v.Text)
		}
		l.invoices[v.ID] = v.Text
		seen[v.ID] = true
		numbers = append(numbers, v.Number)
	}
	for id := range l.invoices {
		if !seen[id] {
			return fault("P4", "invoice %s is gone", id)
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != int64(i)+1 {
			return fault("P4", "the %d. of the invoices' numbers is %d", i+1, n)
		}
	}
	return nil
}

// Tariff charges usage of a period: what is above Free costs Cents each.
type Tariff struct{ Free, Cents int64 }

// Period is a billing period that is closed, in microseconds.
type Period struct{ From, To int64 }

// Rated compares what a customer was charged for usage in all with what its closed periods cost by the tariff.
func (l *Log) Rated(customerID string, t Tariff, closed []Period, all []Stored, invoices []Invoice) error {
	want := int64(0)
	for _, p := range closed {
		used := int64(0)
		for _, s := range all {
			if s.Customer == customerID && s.At >= p.From && s.At < p.To {
				used += s.Value
			}
		}
		if used > t.Free {
			want += (used - t.Free) * t.Cents
		}
	}
	got := int64(0)
	for _, v := range invoices {
		if v.Customer == customerID {
			got += v.Usage
		}
	}
	l.Checked++
	if got != want {
		return fault("P4", "customer %s was charged %d cents for usage, its closed periods cost %d", customerID, got, want)
	}
	return nil
}
