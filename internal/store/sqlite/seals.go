package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	checkpointColumns  = "SELECT size, root, time, note FROM checkpoints"
	sealedCloseColumns = "SELECT subscription_id, period_start, period_end, invoice_id, position FROM sealed_closes"
)

// secureDelete makes SQLite overwrite what is deleted: a forgotten key must not stay in a free page.
const secureDelete = "PRAGMA secure_delete = 1"

func readFence(ctx context.Context, q queryer) (fence uint64, err error) {
	err = q.QueryRowContext(ctx, "SELECT fence FROM sealer WHERE one = 1").Scan(&fence)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return fence, err
}

// Fence implements store.Seals.
func (r *Records) Fence(ctx context.Context) (uint64, error) {
	fence, err := readFence(ctx, r.reader)
	return fence, r.wrap("fence", err)
}

// TakeFence implements store.Seals.
func (r *Records) TakeFence(ctx context.Context, seen uint64) (uint64, error) {
	err := r.write(ctx, "take the fence", func(tx *sql.Tx) error {
		if err := fenced(ctx, tx, seen); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO sealer (one, fence) VALUES (1, ?1) ON CONFLICT DO UPDATE SET fence = ?1", int64(seen)+1) //nolint:gosec // one a start
		return err
	})
	if err != nil {
		return 0, err
	}
	return seen + 1, nil
}

// fenced refuses who is not the present sealer.
func fenced(ctx context.Context, tx queryer, fence uint64) error {
	have, err := readFence(ctx, tx)
	if err != nil {
		return err
	}
	if have != fence {
		return conflict("another sealer has taken over: its fence is %d, this one's %d", have, fence)
	}
	return nil
}

func scanCheckpoint(row scanner) (c store.Checkpoint, err error) {
	err = row.Scan(&c.Size, column.Digest(&c.Root), column.Time(&c.Time), &c.Note)
	return c, err
}

// PutCheckpoint implements store.Seals.
func (r *Records) PutCheckpoint(ctx context.Context, fence uint64, c store.Checkpoint) error {
	if c.Size == 0 || c.Size > math.MaxInt64 {
		return fmt.Errorf("records: put checkpoint: size %d is out of range: %w", c.Size, store.ErrInvalid)
	}
	return r.write(ctx, "put checkpoint", func(tx *sql.Tx) error {
		if err := fenced(ctx, tx, fence); err != nil {
			return err
		}
		var last uint64
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(size), 0) FROM checkpoints").Scan(&last); err != nil {
			return err
		}
		if c.Size <= last {
			return conflict("there is a checkpoint of %d leaves, one of %d would not grow the tree", last, c.Size)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO checkpoints (size, root, time, note) VALUES (?, ?, ?, ?)",
			int64(c.Size), c.Root[:], c.Time.UnixMicro(), c.Note)
		return err
	})
}

// Checkpoints implements store.Seals.
func (r *Records) Checkpoints(ctx context.Context, before uint64, limit int) ([]store.Checkpoint, error) {
	if before == 0 || before > math.MaxInt64 {
		before = math.MaxInt64
	}
	return page(ctx, r, "list checkpoints", limit, scanCheckpoint, checkpointColumns+" WHERE size < ? ORDER BY size DESC", int64(before))
}

// CheckpointOver implements store.Seals.
func (r *Records) CheckpointOver(ctx context.Context, position uint64) (store.Checkpoint, error) {
	if position > math.MaxInt64 {
		position = math.MaxInt64
	}
	c, err := scanCheckpoint(r.reader.QueryRowContext(ctx, checkpointColumns+" WHERE size >= ? ORDER BY size LIMIT 1", int64(position)))
	return c, r.wrap("checkpoint", err)
}

func scanSealedClose(row scanner) (c store.SealedClose, err error) {
	err = row.Scan(&c.SubscriptionID, column.Time(&c.Period.Start), column.Time(&c.Period.End), &c.InvoiceID, &c.Position)
	return c, err
}

func readSealedClose(ctx context.Context, q queryer, c store.SealedClose) (store.SealedClose, error) {
	if c.InvoiceID != "" {
		return scanSealedClose(q.QueryRowContext(ctx, sealedCloseColumns+" WHERE invoice_id = ?", c.InvoiceID))
	}
	return scanSealedClose(q.QueryRowContext(ctx, sealedCloseColumns+closeKey, c.SubscriptionID, c.Period.Start.UnixMicro(), c.Period.End.UnixMicro()))
}

// PutSealedCloses implements store.Seals.
func (r *Records) PutSealedCloses(ctx context.Context, fence uint64, list []store.SealedClose) error {
	return r.writeMany(ctx, "put sealed closes", func(tx transaction) error {
		if err := fenced(ctx, tx, fence); err != nil {
			return err
		}
		for _, c := range list {
			if c.Position == 0 || c.Position > math.MaxInt64 {
				return fmt.Errorf("subscription %s: position %d is out of range: %w", c.SubscriptionID, c.Position, store.ErrInvalid)
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO sealed_closes (subscription_id, period_start, period_end, invoice_id, position)
				VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				c.SubscriptionID, c.Period.Start.UnixMicro(), c.Period.End.UnixMicro(), c.InvoiceID, int64(c.Position)); err != nil {
				return err
			}
		}
		return nil
	})
}

// SealedClose implements store.Seals.
func (r *Records) SealedClose(ctx context.Context, c store.SealedClose) (store.SealedClose, error) {
	c, err := readSealedClose(ctx, r.reader, c)
	return c, r.wrap("sealed close", err)
}

// SubjectKeys implements store.SubjectKeys.
func (r *Records) SubjectKeys(ctx context.Context, subjects []string, fresh [][32]byte) ([][32]byte, error) {
	if len(subjects) != len(fresh) {
		return nil, fmt.Errorf("records: subject keys: %d subjects and %d fresh keys: %w", len(subjects), len(fresh), store.ErrInvalid)
	}
	keys := make([][32]byte, len(subjects))
	const query = "SELECT key FROM subject_keys WHERE subject = ?"
	var absent []int
	for i, subject := range subjects {
		err := r.reader.QueryRowContext(ctx, query, subject).Scan(column.Digest(&keys[i]))
		if errors.Is(err, sql.ErrNoRows) {
			absent = append(absent, i)
		} else if err != nil {
			return nil, r.wrap("subject keys", err)
		}
	}
	if len(absent) == 0 {
		return keys, nil
	}
	err := r.write(ctx, "subject keys", func(tx *sql.Tx) error {
		for _, i := range absent {
			if _, err := tx.ExecContext(ctx, "INSERT INTO subject_keys (subject, key) VALUES (?, ?) ON CONFLICT DO NOTHING", subjects[i], fresh[i][:]); err != nil {
				return err
			}
			if err := tx.QueryRowContext(ctx, query, subjects[i]).Scan(column.Digest(&keys[i])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// ForgetSubject implements store.SubjectKeys. Deleted bytes are overwritten in the file; the write-ahead log is folded in and
// emptied, so that none of it keeps the key.
func (r *Records) ForgetSubject(ctx context.Context, subject string) error {
	if _, err := r.writer.ExecContext(ctx, secureDelete); err != nil {
		return r.wrap("forget a subject", err)
	}
	err := r.write(ctx, "forget a subject", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM subject_keys WHERE subject = ?", subject)
		return err
	})
	if err != nil {
		return err
	}
	_, err = r.writer.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return r.wrap("forget a subject", err)
}
