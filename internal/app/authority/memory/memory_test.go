package memory_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/app/authority/memory"
)

func TestTooMuchIsNotLeft(t *testing.T) {
	t.Parallel()
	r := memory.Run{Name: "run", Customers: []memory.Customer{{ID: strings.Repeat("x", memory.Max)}}}
	if _, err := memory.Encode(r); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("%v", err)
	}
}

// FuzzDecode: what can be read is written again as it was read.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{"format":1,"run":"a","at":5,"customers":[{"id":"c","buckets":[{"meter":"m","rate":1,"per":2,"burst":3,"shares":[{"node":2,"epoch":7,"stamp":9}]}]}]}`,
		`{"format":1,"run":"a","customers":[{"id":"c","counters":[{"meter":"m","at_once":true,"end":9,"leases":[{"node":2,"charged":3}]}]}]}`,
		`{"format":2,"run":"a"}`, `{"format":1}`, `[]`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := memory.Decode(b)
		if err != nil {
			return
		}
		again, err := memory.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if r, err = memory.Decode(again); err != nil {
			t.Fatalf("%s cannot be read: %v", again, err)
		}
		if got, err := memory.Encode(r); err != nil || !bytes.Equal(got, again) {
			t.Errorf("%s became %s, %v", again, got, err)
		}
	})
}
