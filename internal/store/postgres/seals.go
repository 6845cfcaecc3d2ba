package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	checkpointColumns  = "SELECT size, root, time, note FROM checkpoints"
	sealedCloseColumns = "SELECT subscription_id, period_start, period_end, invoice_id, position FROM sealed_closes"
)

func readFence(ctx context.Context, q queryer) (fence uint64, err error) {
	err = q.QueryRow(ctx, "SELECT fence FROM sealer WHERE one = 1").Scan(&fence)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return fence, err
}

// Fence implements store.Seals.
func (r *Records) Fence(ctx context.Context) (uint64, error) {
	fence, err := readFence(ctx, r.db.pool)
	return fence, r.wrap("fence", err)
}

// TakeFence implements store.Seals.
func (r *Records) TakeFence(ctx context.Context, seen uint64) (uint64, error) {
	err := r.write(ctx, "take the fence", lockSeals, func(tx pgx.Tx) error {
		if err := fenced(ctx, tx, seen); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO sealer (one, fence) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET fence = $1", int64(seen)+1) //nolint:gosec // one a start
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
	return r.write(ctx, "put checkpoint", lockSeals, func(tx pgx.Tx) error {
		if err := fenced(ctx, tx, fence); err != nil {
			return err
		}
		var last uint64
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(size), 0) FROM checkpoints").Scan(&last); err != nil {
			return err
		}
		if c.Size <= last {
			return conflict("there is a checkpoint of %d leaves, one of %d would not grow the tree", last, c.Size)
		}
		_, err := tx.Exec(ctx, "INSERT INTO checkpoints (size, root, time, note) VALUES ($1, $2, $3, $4)",
			int64(c.Size), c.Root[:], c.Time.UnixMicro(), c.Note)
		return err
	})
}

// Checkpoints implements store.Seals.
func (r *Records) Checkpoints(ctx context.Context, before uint64, limit int) ([]store.Checkpoint, error) {
	if before == 0 || before > math.MaxInt64 {
		before = math.MaxInt64
	}
	return page(ctx, r, "list checkpoints", limit, scanCheckpoint, checkpointColumns+" WHERE size < $1 ORDER BY size DESC", int64(before))
}

// CheckpointOver implements store.Seals.
func (r *Records) CheckpointOver(ctx context.Context, position uint64) (store.Checkpoint, error) {
	if position > math.MaxInt64 {
		position = math.MaxInt64
	}
	c, err := scanCheckpoint(r.db.pool.QueryRow(ctx, checkpointColumns+" WHERE size >= $1 ORDER BY size LIMIT 1", int64(position)))
	return c, r.wrap("checkpoint", err)
}

func scanSealedClose(row scanner) (c store.SealedClose, err error) {
	err = row.Scan(&c.SubscriptionID, column.Time(&c.Period.Start), column.Time(&c.Period.End), &c.InvoiceID, &c.Position)
	return c, err
}

func readSealedClose(ctx context.Context, q queryer, c store.SealedClose) (store.SealedClose, error) {
	if c.InvoiceID != "" {
		return scanSealedClose(q.QueryRow(ctx, sealedCloseColumns+" WHERE invoice_id = $1", c.InvoiceID))
	}
	return scanSealedClose(q.QueryRow(ctx, sealedCloseColumns+closeKey, c.SubscriptionID, c.Period.Start.UnixMicro(), c.Period.End.UnixMicro()))
}

// PutSealedCloses implements store.Seals.
func (r *Records) PutSealedCloses(ctx context.Context, fence uint64, list []store.SealedClose) error {
	return r.write(ctx, "put sealed closes", lockSeals, func(tx pgx.Tx) error {
		if err := fenced(ctx, tx, fence); err != nil {
			return err
		}
		for _, c := range list {
			if c.Position == 0 || c.Position > math.MaxInt64 {
				return fmt.Errorf("subscription %s: position %d is out of range: %w", c.SubscriptionID, c.Position, store.ErrInvalid)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO sealed_closes (subscription_id, period_start, period_end, invoice_id, position)
				VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
				c.SubscriptionID, c.Period.Start.UnixMicro(), c.Period.End.UnixMicro(), c.InvoiceID, int64(c.Position)); err != nil {
				return err
			}
		}
		return nil
	})
}

// SealedClose implements store.Seals.
func (r *Records) SealedClose(ctx context.Context, c store.SealedClose) (store.SealedClose, error) {
	c, err := readSealedClose(ctx, r.db.pool, c)
	return c, r.wrap("sealed close", err)
}

// SubjectKeys implements store.SubjectKeys.
func (r *Records) SubjectKeys(ctx context.Context, subjects []string, fresh [][32]byte) ([][32]byte, error) {
	if len(subjects) != len(fresh) {
		return nil, fmt.Errorf("records: subject keys: %d subjects and %d fresh keys: %w", len(subjects), len(fresh), store.ErrInvalid)
	}
	have, err := readSubjectKeys(ctx, r.db.pool, subjects)
	if err != nil {
		return nil, r.wrap("subject keys", err)
	}
	absent := map[string][]byte{}
	for i, subject := range subjects {
		if _, ok := have[subject]; !ok && absent[subject] == nil {
			absent[subject] = fresh[i][:]
		}
	}
	if len(absent) > 0 {
		if err := r.addSubjectKeys(ctx, absent, have); err != nil {
			return nil, err
		}
	}
	keys := make([][32]byte, len(subjects))
	for i, subject := range subjects {
		keys[i] = have[subject]
	}
	return keys, nil
}

// addSubjectKeys stores keys of subjects that have none, and adds to have what is stored then.
func (r *Records) addSubjectKeys(ctx context.Context, absent map[string][]byte, have map[string][32]byte) error {
	names := slices.Sorted(maps.Keys(absent)) // in order, so that two calls do not wait for each other
	keys := make([][]byte, len(names))
	for i, name := range names {
		keys[i] = absent[name]
	}
	return r.write(ctx, "subject keys", noLock, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO subject_keys (subject, key) SELECT * FROM unnest($1::text[], $2::bytea[]) ON CONFLICT DO NOTHING", names, keys)
		if err != nil {
			return err
		}
		stored, err := readSubjectKeys(ctx, tx, names)
		if err != nil {
			return err
		}
		if len(stored) < len(names) { // one was forgotten since
			return errAgain
		}
		maps.Copy(have, stored)
		return nil
	})
}

func readSubjectKeys(ctx context.Context, q queryer, subjects []string) (map[string][32]byte, error) {
	type subjectKey struct {
		subject string
		key     [32]byte
	}
	all, err := list(ctx, q, func(row scanner) (k subjectKey, err error) {
		err = row.Scan(&k.subject, column.Digest(&k.key))
		return k, err
	}, "SELECT subject, key FROM subject_keys WHERE subject = ANY($1)", subjects)
	out := make(map[string][32]byte, len(all))
	for _, k := range all {
		out[k.subject] = k.key
	}
	return out, err
}

// ForgetSubject implements store.SubjectKeys. No query finds the key again; its bytes stay in the database's files until they
// are overwritten, in its write-ahead log and in backups until those are dropped. docs/postgresql.md says how long that is.
func (r *Records) ForgetSubject(ctx context.Context, subject string) error {
	return r.write(ctx, "forget a subject", noLock, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM subject_keys WHERE subject = $1", subject)
		return err
	})
}
