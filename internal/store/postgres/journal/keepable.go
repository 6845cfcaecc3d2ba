package journal

import (
	"fmt"
	"strings"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
)

// maxIndexed bounds what stands in an index of PostgreSQL, which takes a third of a page.
const maxIndexed = 2 << 10

// keepable refuses what columns of text and their indexes do not take. One such call must not fail the others of its group.
func keepable(customer, meterKey string) error {
	if strings.ContainsRune(customer, 0) || strings.ContainsRune(meterKey, 0) {
		return invalid("customer and meter have no zero bytes in PostgreSQL")
	}
	if len(customer)+len(meterKey) > maxIndexed {
		return invalid("customer and meter have at most %d bytes together in PostgreSQL", maxIndexed)
	}
	return nil
}

func keepableAll(all []meter.Resolution) error {
	for i := range all {
		if err := keepable(all[i].CustomerID, all[i].Meter); err != nil {
			return fmt.Errorf("resolution %d: %w", i, err)
		}
	}
	return nil
}

func keepableBatch(b *store.Batch) error {
	for i := range b.Entries {
		e := &b.Entries[i]
		if len(e.Unit) > maxIndexed || strings.ContainsRune(e.Unit, 0) {
			return invalid("entry %d: a unit has at most %d bytes and no zero byte in PostgreSQL", i, maxIndexed)
		}
		if err := keepableAll(e.Resolutions); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	for i := range b.Totals {
		if err := keepable(b.Totals[i].CustomerID, b.Totals[i].Meter); err != nil {
			return fmt.Errorf("admitted total %d: %w", i, err)
		}
	}
	return nil
}
