package postgres

import (
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// micros is a time as the tables hold it; no time is NULL.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// column scans one column through read.
type column func(src any) error

// Scan implements sql.Scanner.
func (c column) Scan(src any) error { return c(src) }

// timeOf scans a time that micros, or a plain UnixMicro, stored.
func timeOf(t *time.Time) column {
	return func(src any) error {
		switch n := src.(type) {
		case nil:
			*t = time.Time{}
		case int64:
			*t = time.UnixMicro(n).UTC()
		default:
			return wrongType(src, "a time")
		}
		return nil
	}
}

func digestOf(d *[32]byte) column {
	return func(src any) error {
		b, ok := src.([]byte)
		if !ok || len(b) != len(d) {
			return wrongType(src, "a digest")
		}
		copy(d[:], b)
		return nil
	}
}

func decimalOf(d *money.Decimal) column {
	return textOf(d, money.ParseDecimal)
}

func currencyOf(c *money.Currency) column {
	return textOf(c, money.ParseCurrency)
}

func (r *Records) zoneOf(z *period.Zone) column {
	return textOf(z, func(name string) (period.Zone, error) {
		r.db.zonesMu.Lock()
		defer r.db.zonesMu.Unlock()
		zone, ok := r.db.zones[name]
		if ok {
			return zone, nil
		}
		zone, err := period.LoadZone(name)
		if err == nil {
			r.db.zones[name] = zone
		}
		return zone, err
	})
}

func textOf[T any](v *T, parse func(string) (T, error)) column {
	return func(src any) (err error) {
		s, ok := src.(string)
		if !ok {
			return wrongType(src, "a text")
		}
		if *v, err = parse(s); err != nil {
			return fmt.Errorf("%w: %q: %w", store.ErrCorrupt, s, err)
		}
		return nil
	}
}

func wrongType(src any, want string) error {
	return fmt.Errorf("%w: a %T where %s belongs", store.ErrCorrupt, src, want)
}
