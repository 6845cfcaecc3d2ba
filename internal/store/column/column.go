// Package column is how the records' columns hold values, alike in every driver that keeps them in tables. What it reads and cannot be
// a value is store.ErrCorrupt.
package column

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Scanner takes in one column.
type Scanner func(src any) error

// Scan implements sql.Scanner.
func (s Scanner) Scan(src any) error { return s(src) }

// Micros is a time as the tables hold it; no time is NULL.
func Micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// Time scans a time that Micros, or a plain UnixMicro, stored.
func Time(t *time.Time) Scanner {
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

// Digest scans 32 bytes.
func Digest(d *[32]byte) Scanner {
	return func(src any) error {
		b, ok := src.([]byte)
		if !ok || len(b) != len(d) {
			return wrongType(src, "a digest")
		}
		copy(d[:], b)
		return nil
	}
}

// Decimal scans what Decimal.String wrote.
func Decimal(d *money.Decimal) Scanner { return Text(d, money.ParseDecimal) }

// Currency scans a currency's code.
func Currency(c *money.Currency) Scanner { return Text(c, money.ParseCurrency) }

// Text scans a text that parse reads.
func Text[T any](v *T, parse func(string) (T, error)) Scanner {
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

// JSON scans what json.Marshal wrote, as a text.
func JSON[T any](v *T) Scanner {
	return Text(v, func(s string) (out T, err error) {
		err = json.Unmarshal([]byte(s), &out)
		return out, err
	})
}

// Texts scans what TextsOf made; an empty list is nil.
func Texts(list *[]string) Scanner {
	return Text(list, func(s string) (all []string, err error) {
		if s != "[]" {
			err = json.Unmarshal([]byte(s), &all)
		}
		return all, err
	})
}

// TextsOf is a list of texts as the tables hold it.
func TextsOf(list []string) (string, error) {
	if len(list) == 0 {
		return "[]", nil
	}
	b, err := json.Marshal(list)
	return string(b), err
}

// Zones loads each zone once. It is bounded by the zones there are, and safe for concurrent use.
type Zones struct {
	mu     sync.Mutex
	loaded map[string]period.Zone // guarded by mu
}

// Zone scans a zone's name.
func (zs *Zones) Zone(z *period.Zone) Scanner {
	return Text(z, func(name string) (period.Zone, error) {
		zs.mu.Lock()
		defer zs.mu.Unlock()
		zone, ok := zs.loaded[name]
		if ok {
			return zone, nil
		}
		zone, err := period.LoadZone(name)
		if err != nil {
			return zone, err
		}
		if zs.loaded == nil {
			zs.loaded = map[string]period.Zone{}
		}
		zs.loaded[name] = zone
		return zone, nil
	})
}

func wrongType(src any, want string) error {
	return fmt.Errorf("%w: a %T where %s belongs", store.ErrCorrupt, src, want)
}
