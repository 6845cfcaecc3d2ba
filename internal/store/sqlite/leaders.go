package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

var _ store.Leaders = (*Records)(nil)

const (
	leadSetting = "lead" // the lead that stands or stood, as JSON
	leadMax     = time.Hour
)

// lead is a store.Lead as it is stored; Until in microseconds.
type lead struct {
	Fence           uint64
	Holder, Address string
	Until           int64
}

func (l lead) public() store.Lead {
	if l.Fence == 0 {
		return store.Lead{}
	}
	return store.Lead{Fence: l.Fence, Holder: l.Holder, Address: l.Address, Until: time.UnixMicro(l.Until).UTC()}
}

func readLead(ctx context.Context, q queryer) (l lead, now int64, err error) {
	var text string
	err = q.QueryRowContext(ctx, "SELECT coalesce((SELECT value FROM settings WHERE name = ?), '{}'), CAST(unixepoch('subsec') * 1000000 AS INTEGER)", leadSetting).
		Scan(&text, &now)
	if err == nil {
		if err = json.Unmarshal([]byte(text), &l); err != nil {
			err = fmt.Errorf("%w: who leads: %w", store.ErrCorrupt, err)
		}
	}
	return l, now, err
}

// changeLead stores what change made of the lead, if it says so.
func (r *Records) changeLead(ctx context.Context, what string, change func(l *lead, now int64) (changed bool, err error)) (l lead, err error) {
	err = r.write(ctx, what, func(tx *sql.Tx) error {
		var now int64
		if l, now, err = readLead(ctx, tx); err != nil {
			return err
		}
		changed, err := change(&l, now)
		if err != nil || !changed {
			return err
		}
		text, err := json.Marshal(l)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", leadSetting, string(text))
		return err
	})
	return l, err
}

func checkHold(hold time.Duration) error {
	if hold <= 0 || hold > leadMax {
		return fmt.Errorf("records: lead: it is held for up to %s, not %s: %w", leadMax, hold, store.ErrInvalid)
	}
	return nil
}

// TakeLead implements store.Leaders. One process has the file, so that nobody else takes it; its writes check no fence.
func (r *Records) TakeLead(ctx context.Context, holder, address string, hold time.Duration) (store.Lead, error) {
	if err := checkHold(hold); err != nil {
		return store.Lead{}, err
	}
	if holder == "" {
		return store.Lead{}, fmt.Errorf("records: take the lead: the holder has no name: %w", store.ErrInvalid)
	}
	l, err := r.changeLead(ctx, "take the lead", func(l *lead, now int64) (bool, error) {
		if l.Until > now {
			return false, nil
		}
		*l = lead{Fence: l.Fence + 1, Holder: holder, Address: address, Until: now + hold.Microseconds()}
		return true, nil
	})
	return l.public(), err
}

// KeepLead implements store.Leaders. One that ran out is kept as long as nobody took it.
func (r *Records) KeepLead(ctx context.Context, fence uint64, hold time.Duration) (store.Lead, error) {
	if err := checkHold(hold); err != nil {
		return store.Lead{}, err
	}
	l, err := r.changeLead(ctx, "keep the lead", func(l *lead, now int64) (bool, error) {
		if l.Fence != fence || l.Holder == "" {
			return false, conflict("another server has taken the lead from fence %d", fence)
		}
		l.Until = now + hold.Microseconds()
		return true, nil
	})
	if err != nil {
		return store.Lead{}, err
	}
	return l.public(), nil
}

// YieldLead implements store.Leaders.
func (r *Records) YieldLead(ctx context.Context, fence uint64) error {
	_, err := r.changeLead(ctx, "yield the lead", func(l *lead, now int64) (bool, error) {
		if l.Fence != fence || l.Holder == "" {
			return false, nil
		}
		*l = lead{Fence: fence + 1, Until: now}
		return true, nil
	})
	return err
}

// Leader implements store.Leaders.
func (r *Records) Leader(ctx context.Context) (store.Lead, error) {
	l, _, err := readLead(ctx, r.reader)
	return l.public(), r.wrap("leader", err)
}
