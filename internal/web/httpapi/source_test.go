package httpapi

import (
	"testing"

	"github.com/tallystick/tallystick/internal/core/receipt"
)

// TestSourceOf: the id of a gateway's event says which gateway made it.
func TestSourceOf(t *testing.T) {
	t.Parallel()
	of7 := receipt.ShortID{Node: 7, Epoch: 3, Seq: 9}.String()
	for _, tt := range []struct{ source, id, want string }{
		{"", of7, "gateway/7"},
		{"", receipt.ShortID{Node: 1, Epoch: 1}.String(), "gateway/1"},
		{"/jobs", of7, "/jobs"},
		{"/jobs", "job-1", "/jobs"},
		{"", "job-1", ""},
	} {
		if got := sourceOf(tt.source, tt.id); got != tt.want {
			t.Errorf("%q of %q is of %q, want %q", tt.id, tt.source, got, tt.want)
		}
	}
}
