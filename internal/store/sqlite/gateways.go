package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const gatewayKeyColumns = "SELECT id, node, public, from_epoch, created_at FROM gateway_keys"

// epochsKept bounds the progress rows of a node.
const epochsKept = 1000

func scanGatewayKey(row scanner) (k store.GatewayKey, err error) {
	err = row.Scan(&k.ID, &k.Node, column.Digest(&k.Public), &k.FromEpoch, column.Time(&k.CreatedAt))
	return k, err
}

// PutGatewayKey implements store.Gateways.
func (r *Records) PutGatewayKey(ctx context.Context, k store.GatewayKey, a store.Audit) (store.GatewayKey, error) {
	err := r.write(ctx, "put gateway key "+k.ID, func(tx *sql.Tx) error {
		have, err := scanGatewayKey(tx.QueryRowContext(ctx, gatewayKeyColumns+" WHERE public = ?", k.Public[:]))
		switch {
		case err == nil && have.Node != k.Node:
			return fmt.Errorf("%w: it is the key of gateway %d", store.ErrExists, have.Node)
		case err == nil:
			k = have
			return nil
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		var newest int64
		if err := tx.QueryRowContext(ctx, newestEpoch, int64(k.Node)).Scan(&newest); err != nil {
			return err
		}
		k.FromEpoch = uint32(newest + 1)
		if _, err := tx.ExecContext(ctx, "INSERT INTO gateway_keys (id, node, public, from_epoch, created_at) VALUES (?, ?, ?, ?, ?)",
			k.ID, int64(k.Node), k.Public[:], int64(k.FromEpoch), k.CreatedAt.UnixMicro()); err != nil {
			return err
		}
		return insertAudit(ctx, tx, a)
	})
	if err != nil {
		return store.GatewayKey{}, err
	}
	return k, nil
}

// GatewayKeys implements store.Gateways.
func (r *Records) GatewayKeys(ctx context.Context) ([]store.GatewayKey, error) {
	all, err := list(ctx, r.reader, scanGatewayKey, gatewayKeyColumns+" ORDER BY node, from_epoch, rowid")
	return all, r.wrap("list gateway keys", err)
}

// NewestEpoch implements store.Gateways.
func (r *Records) NewestEpoch(ctx context.Context, node uint16) (epoch uint32, err error) {
	err = r.reader.QueryRowContext(ctx, newestEpoch, int64(node)).Scan(&epoch)
	return epoch, r.wrap("newest epoch", err)
}

// PutProgress implements store.Gateways.
func (r *Records) PutProgress(ctx context.Context, p store.Progress) error {
	return r.write(ctx, "put gateway progress", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE gateway_progress SET sequence = ?, covered = ? WHERE node = ? AND epoch = ?",
			int64(p.Sequence), p.Covered, int64(p.Node), int64(p.Epoch))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO gateway_progress (node, epoch, sequence, covered) VALUES (?, ?, ?, ?)",
			int64(p.Node), int64(p.Epoch), int64(p.Sequence), p.Covered); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM gateway_progress WHERE node = ?1 AND epoch <=
			(SELECT epoch FROM gateway_progress WHERE node = ?1 ORDER BY epoch DESC LIMIT 1 OFFSET ?2)`, int64(p.Node), epochsKept)
		return err
	})
}

// Progress implements store.Gateways.
func (r *Records) Progress(ctx context.Context, node uint16) ([]store.Progress, error) {
	scan := func(row scanner) (p store.Progress, err error) {
		err = row.Scan(&p.Node, &p.Epoch, &p.Sequence, &p.Covered)
		return p, err
	}
	all, err := list(ctx, r.reader, scan, "SELECT node, epoch, sequence, covered FROM gateway_progress WHERE node = ? ORDER BY epoch DESC", int64(node))
	return all, r.wrap("gateway progress", err)
}

// AddFinding implements store.Gateways.
func (r *Records) AddFinding(ctx context.Context, f store.Finding) error {
	return r.write(ctx, "add gateway finding", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO gateway_findings (node, reason, count, first_at, last_at, detail) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET count = count + excluded.count, last_at = excluded.last_at, detail = excluded.detail`,
			int64(f.Node), f.Reason, f.Count, f.First.UnixMicro(), f.Last.UnixMicro(), f.Detail)
		return err
	})
}

// Findings implements store.Gateways.
func (r *Records) Findings(ctx context.Context) ([]store.Finding, error) {
	scan := func(row scanner) (f store.Finding, err error) {
		err = row.Scan(&f.Node, &f.Reason, &f.Count, column.Time(&f.First), column.Time(&f.Last), &f.Detail)
		return f, err
	}
	all, err := list(ctx, r.reader, scan, "SELECT node, reason, count, first_at, last_at, detail FROM gateway_findings ORDER BY node, reason")
	return all, r.wrap("list gateway findings", err)
}
