package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	nodeColumns      = "SELECT node, name, created_at, revoked_at FROM gateway_nodes"
	nodeTokenColumns = "SELECT id, node, digest, hint, created_at, revoked_at FROM gateway_tokens"

	firstNode, lastNode = 2, 1<<16 - 1
)

func scanNode(row scanner) (n store.GatewayNode, err error) {
	err = row.Scan(&n.Node, &n.Name, column.Time(&n.CreatedAt), column.Time(&n.RevokedAt))
	return n, err
}

func scanNodeToken(row scanner) (t store.NodeToken, err error) {
	err = row.Scan(&t.ID, &t.Node, column.Digest(&t.Digest), &t.Hint, column.Time(&t.CreatedAt), column.Time(&t.RevokedAt))
	return t, err
}

// PutNodeToken implements store.GatewayNodes.
func (r *Records) PutNodeToken(ctx context.Context, name string, t store.NodeToken, a store.Audit) (n store.GatewayNode, _ store.NodeToken, err error) {
	err = r.writeAudited(ctx, "put gateway token "+t.ID, a, func(tx *sql.Tx) error {
		if n, err = scanNode(tx.QueryRowContext(ctx, nodeColumns+" WHERE name = ?", name)); errors.Is(err, sql.ErrNoRows) {
			n, err = insertNode(ctx, tx, name, t.CreatedAt)
		}
		if err != nil {
			return err
		}
		if !n.RevokedAt.IsZero() {
			return conflict("gateway %s is revoked", name)
		}
		var live int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM gateway_tokens WHERE node = ? AND revoked_at IS NULL", int64(n.Node)).Scan(&live); err != nil {
			return err
		}
		if live >= liveTokensMax {
			return conflict("the gateway has %d live tokens already, revoke one first", live)
		}
		t.Node = n.Node
		_, err := tx.ExecContext(ctx, "INSERT INTO gateway_tokens (id, node, digest, hint, created_at) VALUES (?, ?, ?, ?, ?)",
			t.ID, int64(t.Node), t.Digest[:], t.Hint, t.CreatedAt.UnixMicro())
		return err
	})
	if err != nil {
		return store.GatewayNode{}, store.NodeToken{}, err
	}
	return n, t, nil
}

// insertNode gives a new node the number behind the highest one, also behind those that signed without a registration.
func insertNode(ctx context.Context, tx *sql.Tx, name string, at time.Time) (n store.GatewayNode, err error) {
	var next int64
	err = tx.QueryRowContext(ctx, "SELECT max(?, coalesce((SELECT max(node) FROM gateway_nodes), 0) + 1, coalesce((SELECT max(node) FROM gateway_keys), 0) + 1)", firstNode).Scan(&next)
	if err != nil {
		return n, err
	}
	if next > lastNode {
		return n, fmt.Errorf("%w: there are %d gateways, the most there may be", store.ErrFull, lastNode)
	}
	n = store.GatewayNode{Node: uint16(next), Name: name, CreatedAt: time.UnixMicro(at.UnixMicro()).UTC()}
	_, err = tx.ExecContext(ctx, "INSERT INTO gateway_nodes (node, name, created_at) VALUES (?, ?, ?)", next, name, at.UnixMicro())
	return n, err
}

// RevokeNode implements store.GatewayNodes. Revoking a revoked one changes nothing and leaves no audit entry.
func (r *Records) RevokeNode(ctx context.Context, node uint16, at time.Time, a store.Audit) (n store.GatewayNode, err error) {
	err = r.write(ctx, fmt.Sprintf("revoke gateway %d", node), func(tx *sql.Tx) error {
		if n, err = scanNode(tx.QueryRowContext(ctx, nodeColumns+" WHERE node = ?", int64(node))); err != nil || !n.RevokedAt.IsZero() {
			return err
		}
		n.RevokedAt = time.UnixMicro(at.UnixMicro()).UTC()
		if _, err := tx.ExecContext(ctx, "UPDATE gateway_nodes SET revoked_at = ? WHERE node = ?", at.UnixMicro(), int64(node)); err != nil {
			return err
		}
		return insertAudit(ctx, tx, a)
	})
	if err != nil {
		return store.GatewayNode{}, err
	}
	return n, nil
}

// RevokeNodeToken implements store.GatewayNodes. Revoking a revoked one changes nothing and leaves no audit entry.
func (r *Records) RevokeNodeToken(ctx context.Context, id string, at time.Time, a store.Audit) (store.NodeToken, error) {
	return revoke(ctx, r, "gateway_tokens", nodeTokenColumns, id, at, a, scanNodeToken, func(t *store.NodeToken) *time.Time { return &t.RevokedAt })
}

// GatewayNodes implements store.GatewayNodes.
func (r *Records) GatewayNodes(ctx context.Context) ([]store.GatewayNode, []store.NodeToken, error) {
	nodes, err := list(ctx, r.reader, scanNode, nodeColumns+" ORDER BY node")
	if err != nil {
		return nil, nil, r.wrap("list gateways", err)
	}
	tokens, err := list(ctx, r.reader, scanNodeToken, nodeTokenColumns+" ORDER BY id")
	return nodes, tokens, r.wrap("list gateway tokens", err)
}
