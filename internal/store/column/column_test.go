package column_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

// TestWhatWasWritten: what a column holds is read as it was.
func TestWhatWasWritten(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1_700_000_000_123_456).UTC()
	for _, want := range []time.Time{{}, at} {
		got := time.Unix(1, 0)
		if err := column.Time(&got).Scan(column.Micros(want)); err != nil || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%v: %v, %v", want, got, err)
		}
	}
	var d [32]byte
	if err := column.Digest(&d).Scan(bytes.Repeat([]byte{7}, 32)); err != nil || d[0] != 7 || d[31] != 7 {
		t.Errorf("digest %x, %v", d, err)
	}
	var n money.Decimal
	if err := column.Decimal(&n).Scan("12.50"); err != nil || n.String() != "12.5" {
		t.Errorf("decimal %v, %v", n, err)
	}
	var c money.Currency
	if err := column.Currency(&c).Scan("EUR"); err != nil || c.Code() != "EUR" {
		t.Errorf("currency %v, %v", c, err)
	}
	for _, want := range [][]string{nil, {"a", "b"}} {
		text, err := column.TextsOf(want)
		got := []string{"before"}
		if err != nil || column.Texts(&got).Scan(text) != nil || !cmp.Equal(got, want) {
			t.Errorf("%v: %q: %v, %v", want, text, got, err)
		}
	}
	var zones column.Zones
	for range 2 { // loaded, then kept
		var z period.Zone
		if err := zones.Zone(&z).Scan("Europe/Berlin"); err != nil || z.String() != "Europe/Berlin" {
			t.Errorf("zone %v, %v", z, err)
		}
	}
}

// TestDamage: what is no such value is ErrCorrupt.
func TestDamage(t *testing.T) {
	t.Parallel()
	var zones column.Zones
	for name, tt := range map[string]struct {
		s   column.Scanner
		src any
	}{
		"time":           {column.Time(new(time.Time)), "yesterday"},
		"short digest":   {column.Digest(new([32]byte)), []byte{1}},
		"decimal":        {column.Decimal(new(money.Decimal)), "ten"},
		"decimal number": {column.Decimal(new(money.Decimal)), int64(10)},
		"currency":       {column.Currency(new(money.Currency)), "euro"},
		"list":           {column.Texts(new([]string)), "{"},
		"JSON":           {column.JSON(new(map[string]int)), `{"a":"b"}`},
		"zone":           {zones.Zone(new(period.Zone)), "Mars/Base"},
	} {
		if err := tt.s.Scan(tt.src); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
