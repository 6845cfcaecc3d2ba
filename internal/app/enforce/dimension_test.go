package enforce

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/enforce/record"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
)

// TestDimensions: a dimension of another name is read from where the catalog says, by a gateway too.
func TestDimensions(t *testing.T) {
	t.Parallel()
	m := catalog.Meter{
		Dimensions: []string{"status", "verb", "path", "region", "elsewhere"},
		From:       map[string]string{"verb": "data.method", "path": "data.route", "elsewhere": "data.geo.status"},
	}
	want := []meter.Dimension{{Name: "path", Value: "GET /a"}, {Name: "status", Value: "200"}, {Name: "verb", Value: "GET"}}
	if diff := cmp.Diff(want, dimensions(m, &record.Reservation{Method: "GET", Route: "GET /a"}, 200)); diff != "" {
		t.Errorf("dimensions (-want +got):\n%s", diff)
	}
}
