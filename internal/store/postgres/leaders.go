package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	leadColumns = "fence, holder, address, until_at"
	channel     = "tally" // of NOTIFY; a message is a topic, a space and a payload
	payloadMax  = 7000
	holdMax     = time.Hour
)

func scanLead(row scanner) (l store.Lead, err error) {
	err = row.Scan(&l.Fence, &l.Holder, &l.Address, column.Time(&l.Until))
	return l, err
}

func checkHold(hold time.Duration) error {
	if hold <= 0 || hold > holdMax {
		return fmt.Errorf("records: lead: it is held for up to %s, not %s: %w", holdMax, hold, store.ErrInvalid)
	}
	return nil
}

// TakeLead implements store.Leaders. Taking over changes the key of the one row, which waits for the transactions that hold it:
// those of the leader before that are about to end. What begins later finds its fence gone.
func (r *Records) TakeLead(ctx context.Context, holder, address string, hold time.Duration) (l store.Lead, err error) {
	if err := checkHold(hold); err != nil {
		return l, err
	}
	if holder == "" {
		return l, fmt.Errorf("records: take the lead: the holder has no name: %w", store.ErrInvalid)
	}
	err = r.unfenced(ctx, "take the lead", func(tx pgx.Tx) error {
		l, err = scanLead(tx.QueryRow(ctx, `UPDATE leadership SET fence = fence + 1, holder = $1, address = $2, until_at = tally_micros() + $3
			WHERE until_at <= tally_micros() RETURNING `+leadColumns, holder, address, hold.Microseconds()))
		if errors.Is(err, pgx.ErrNoRows) {
			l, err = scanLead(tx.QueryRow(ctx, "SELECT "+leadColumns+" FROM leadership"))
			return err
		}
		if err != nil {
			return err
		}
		return tell(ctx, tx, store.TopicLead, holder)
	})
	return l, err
}

// KeepLead implements store.Leaders. One that ran out is kept as long as nobody took it.
func (r *Records) KeepLead(ctx context.Context, fence uint64, hold time.Duration) (l store.Lead, err error) {
	if err := checkHold(hold); err != nil {
		return l, err
	}
	err = r.unfenced(ctx, "keep the lead", func(tx pgx.Tx) error {
		l, err = scanLead(tx.QueryRow(ctx, "UPDATE leadership SET until_at = tally_micros() + $2 WHERE fence = $1 AND holder <> '' RETURNING "+leadColumns,
			fenceNumber(fence), hold.Microseconds()))
		if errors.Is(err, pgx.ErrNoRows) {
			return conflict("another server has taken the lead from fence %d", fence)
		}
		return err
	})
	return l, err
}

// YieldLead implements store.Leaders. Who yielded cannot keep it any more: the fence rises at once.
func (r *Records) YieldLead(ctx context.Context, fence uint64) error {
	return r.unfenced(ctx, "yield the lead", func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, "UPDATE leadership SET fence = fence + 1, holder = '', address = '', until_at = tally_micros() WHERE fence = $1 AND holder <> ''",
			fenceNumber(fence))
		if err != nil || done.RowsAffected() == 0 {
			return err
		}
		return tell(ctx, tx, store.TopicLead, "")
	})
}

// Leader implements store.Leaders.
func (r *Records) Leader(ctx context.Context) (store.Lead, error) {
	l, err := scanLead(r.db.leads.QueryRow(ctx, "SELECT "+leadColumns+" FROM leadership"))
	if err == nil && l.Fence == 0 {
		l = store.Lead{}
	}
	return l, r.wrap("leader", err)
}

// unfenced is write without a fence and without a lock, on the connections for that.
func (r *Records) unfenced(ctx context.Context, what string, do func(tx pgx.Tx) error) error {
	return r.writeOn(ctx, r.db.leads, what, "BEGIN", do)
}

// fenceNumber is a fence as the table holds it; those beyond it never were.
func fenceNumber(fence uint64) int64 {
	if fence > math.MaxInt64 {
		return -1
	}
	return int64(fence)
}

func tell(ctx context.Context, tx pgx.Tx, topic store.Topic, payload string) error {
	_, err := tx.Exec(ctx, "SELECT pg_notify($1, $2)", channel, string(topic)+" "+payload)
	return err
}

// Notify implements store.Changes.
func (r *Records) Notify(ctx context.Context, topic store.Topic, payload string) error {
	if topic == "" || strings.ContainsRune(string(topic), ' ') || len(payload) > payloadMax {
		return fmt.Errorf("records: notify of %q: a topic is one word and a payload has up to %d bytes: %w", topic, payloadMax, store.ErrInvalid)
	}
	return r.unfenced(ctx, "notify", func(tx pgx.Tx) error { return tell(ctx, tx, topic, payload) })
}

// Listen implements store.Changes. It has a connection of its own. The end of ctx is its error.
func (r *Records) Listen(ctx context.Context, each func(topic store.Topic, payload string)) error {
	if r.db.closed.Load() {
		return fmt.Errorf("records: listen: %w", store.ErrClosed)
	}
	conn, err := pgx.ConnectConfig(ctx, r.db.pool.Config().ConnConfig)
	if err != nil {
		return r.wrap("listen", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // it only listened
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return r.wrap("listen", err)
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return r.wrap("listen", err)
		}
		topic, payload, _ := strings.Cut(n.Payload, " ")
		each(store.Topic(topic), payload)
	}
}
