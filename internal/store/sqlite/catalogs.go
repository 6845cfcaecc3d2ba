package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const catalogColumns = "SELECT version, source, digest, applied_at, applied_by FROM catalogs"

func scanCatalog(row scanner) (v store.CatalogVersion, err error) {
	err = row.Scan(&v.Version, &v.Source, column.Digest(&v.Digest), column.Time(&v.AppliedAt), &v.AppliedBy)
	return v, err
}

// PutCatalog implements store.Catalogs. The version stored is expected+1, whatever v says.
func (r *Records) PutCatalog(ctx context.Context, v store.CatalogVersion, expected int64) error {
	return r.write(ctx, "put catalog", func(tx *sql.Tx) error {
		var latest int64
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM catalogs").Scan(&latest); err != nil {
			return err
		}
		if latest != expected {
			return conflict("the latest catalog version is %d, not %d", latest, expected)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO catalogs (version, source, digest, applied_at, applied_by) VALUES (?, ?, ?, ?, ?)",
			latest+1, notNull(v.Source), v.Digest[:], v.AppliedAt.UnixMicro(), v.AppliedBy)
		return err
	})
}

// notNull keeps an empty blob from being NULL.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Catalog implements store.Catalogs.
func (r *Records) Catalog(ctx context.Context, version int64) (store.CatalogVersion, error) {
	query, args := catalogColumns+" ORDER BY version DESC LIMIT 1", []any{}
	if version != 0 {
		query, args = catalogColumns+" WHERE version = ?", []any{version}
	}
	v, err := scanCatalog(r.reader.QueryRowContext(ctx, query, args...))
	return v, r.wrap(fmt.Sprintf("catalog version %d", version), err)
}

// ListCatalogs implements store.Catalogs.
func (r *Records) ListCatalogs(ctx context.Context, q store.Query) ([]store.CatalogVersion, error) {
	before := int64(math.MaxInt64)
	if q.Cursor != "" {
		n, err := strconv.ParseInt(q.Cursor, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("records: list catalogs: cursor %q: %w", q.Cursor, store.ErrNotFound)
		}
		before = n
	}
	return page(ctx, r, "list catalogs", q.Limit, scanCatalog, catalogColumns+" WHERE version < ? ORDER BY version DESC", before)
}
