package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	producerColumns = "SELECT id, key, sources, types, created_at, expires_at, revoked_at FROM producers"
	tokenColumns    = "SELECT id, producer_id, digest, hint, created_at, revoked_at FROM producer_tokens"
	pageByID        = " WHERE ($1 = '' OR id < $1) ORDER BY id DESC"

	// liveTokensMax allows one token to take over from another.
	liveTokensMax = 2
)

func scanProducer(row scanner) (p account.Producer, err error) {
	err = row.Scan(&p.ID, &p.Key, column.JSON(&p.Sources), column.JSON(&p.Types), column.Time(&p.CreatedAt), column.Time(&p.ExpiresAt), column.Time(&p.RevokedAt))
	return p, err
}

func scanToken(row scanner) (t account.ProducerToken, err error) {
	err = row.Scan(&t.ID, &t.ProducerID, column.Digest(&t.Digest), &t.Hint, column.Time(&t.CreatedAt), column.Time(&t.RevokedAt))
	return t, err
}

// PutProducer implements store.Producers.
func (r *Records) PutProducer(ctx context.Context, p account.Producer, t account.ProducerToken, a store.Audit) error {
	sources, err := json.Marshal(p.Sources)
	if err != nil {
		return r.wrap("put producer "+p.Key, err)
	}
	types, err := json.Marshal(p.Types)
	if err != nil {
		return r.wrap("put producer "+p.Key, err)
	}
	return r.writeAudited(ctx, "put producer "+p.Key, lockProducers, a, func(tx pgx.Tx) error {
		live, err := list(ctx, tx, scanProducer, producerColumns+" WHERE revoked_at IS NULL")
		if err != nil {
			return err
		}
		for _, other := range live {
			if mine, theirs, ok := account.Overlap(p.Sources, other.Sources); ok && other.ID != p.ID && other.Key != p.Key {
				return conflict("source %s overlaps %s of producer %s", mine, theirs, other.Key)
			}
		}
		if _, err := tx.Exec(ctx, `INSERT INTO producers (id, key, sources, types, created_at, expires_at, revoked_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			p.ID, p.Key, string(sources), string(types), p.CreatedAt.UnixMicro(), column.Micros(p.ExpiresAt), column.Micros(p.RevokedAt)); err != nil {
			return err
		}
		return insertToken(ctx, tx, t)
	})
}

func insertToken(ctx context.Context, tx pgx.Tx, t account.ProducerToken) error {
	_, err := tx.Exec(ctx, "INSERT INTO producer_tokens (id, producer_id, digest, hint, created_at, revoked_at) VALUES ($1, $2, $3, $4, $5, $6)",
		t.ID, t.ProducerID, t.Digest[:], t.Hint, t.CreatedAt.UnixMicro(), column.Micros(t.RevokedAt))
	return err
}

// PutProducerToken implements store.Producers. A taken id or digest is store.ErrExists.
func (r *Records) PutProducerToken(ctx context.Context, t account.ProducerToken, a store.Audit) error {
	return r.writeAudited(ctx, "put producer token "+t.ID, lockProducers, a, func(tx pgx.Tx) error {
		p, err := scanProducer(tx.QueryRow(ctx, producerColumns+" WHERE id = $1", t.ProducerID))
		if err != nil {
			return err
		}
		if !p.RevokedAt.IsZero() {
			return conflict("producer %s is revoked", p.Key)
		}
		var live int
		err = tx.QueryRow(ctx, "SELECT count(*) FROM producer_tokens WHERE producer_id = $1 AND revoked_at IS NULL", p.ID).Scan(&live)
		if err != nil {
			return err
		}
		if live >= liveTokensMax {
			return conflict("the producer has %d live tokens already, revoke one first", live)
		}
		return insertToken(ctx, tx, t)
	})
}

// RevokeProducer implements store.Producers. Revoking a revoked one changes nothing and leaves no audit entry.
func (r *Records) RevokeProducer(ctx context.Context, id string, at time.Time, a store.Audit) (account.Producer, error) {
	return revoke(ctx, r, "producers", producerColumns, id, at, a, scanProducer, func(p *account.Producer) *time.Time { return &p.RevokedAt })
}

// RevokeProducerToken implements store.Producers. Revoking a revoked one changes nothing and leaves no audit entry.
func (r *Records) RevokeProducerToken(ctx context.Context, id string, at time.Time, a store.Audit) (account.ProducerToken, error) {
	return revoke(ctx, r, "producer_tokens", tokenColumns, id, at, a, scanToken, func(t *account.ProducerToken) *time.Time { return &t.RevokedAt })
}

// revoke sets the time of a table's row once; columns selects the row.
func revoke[T any](ctx context.Context, r *Records, table, columns, id string, at time.Time, a store.Audit,
	scan func(scanner) (T, error), revoked func(*T) *time.Time,
) (T, error) {
	var x T
	err := r.write(ctx, "revoke "+id, lockProducers, func(tx pgx.Tx) (err error) {
		if x, err = scan(tx.QueryRow(ctx, columns+" WHERE id = $1 FOR UPDATE", id)); err != nil {
			return err
		}
		if !revoked(&x).IsZero() {
			return nil
		}
		if _, err := tx.Exec(ctx, "UPDATE "+table+" SET revoked_at = $1 WHERE id = $2", at.UnixMicro(), id); err != nil {
			return err
		}
		*revoked(&x) = time.UnixMicro(at.UnixMicro()).UTC()
		return insertAudit(ctx, tx, a)
	})
	if err != nil {
		var none T
		return none, err
	}
	return x, nil
}

// Producer implements store.Producers.
func (r *Records) Producer(ctx context.Context, ref string) (account.Producer, error) {
	p, err := scanProducer(r.db.pool.QueryRow(ctx, producerColumns+" WHERE id = $1 OR key = $1 ORDER BY id = $1 DESC LIMIT 1", ref))
	return p, r.wrap("producer "+ref, err)
}

// ListProducers implements store.Producers.
func (r *Records) ListProducers(ctx context.Context, q store.Query) ([]account.Producer, error) {
	return page(ctx, r, "list producers", q.Limit, scanProducer, producerColumns+pageByID, q.Cursor)
}

// ListProducerTokens implements store.Producers.
func (r *Records) ListProducerTokens(ctx context.Context, q store.Query) ([]account.ProducerToken, error) {
	return page(ctx, r, "list producer tokens", q.Limit, scanToken, tokenColumns+pageByID, q.Cursor)
}
