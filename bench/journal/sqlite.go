package main

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// liteGroup is how many events one transaction takes, as the journal's groups.
const liteGroup = 8192

// lite does in SQLite what the journal does: keeps events, knows their ids for ever and rolls them up, in one transaction for
// all that wait.
type lite struct {
	db      *sql.DB
	waiting chan liteCall
}

type liteCall struct {
	batch store.Batch
	done  chan error
}

type liteKey struct {
	customer, meter string
	bucket          int64
}

type liteSum struct{ count, sum int64 }

func runSQLite(ctx context.Context, dir string, l *load, span time.Duration) (m measured, err error) {
	since := processor()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return m, err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "lite.db")+"?_txlock=immediate&_pragma=page_size(8192)&_pragma=journal_mode(WAL)"+
		"&_pragma=synchronous(FULL)&_pragma=cache_size(-1048576)&_pragma=wal_autocheckpoint(20000)")
	if err != nil {
		return m, err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()); l.spent(&m, since) }()
	for _, s := range []string{
		"CREATE TABLE events (id TEXT NOT NULL UNIQUE, source TEXT, type TEXT, subject TEXT, at INTEGER, data BLOB, customer TEXT, meter TEXT, value INTEGER)",
		"CREATE TABLE rollups (customer TEXT, meter TEXT, bucket INTEGER, events INTEGER, total INTEGER, PRIMARY KEY (customer, meter, bucket)) WITHOUT ROWID",
	} {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return m, err
		}
	}
	b := &lite{db: db, waiting: make(chan liteCall, l.producers)}
	var wg sync.WaitGroup
	wg.Go(func() { b.serve(ctx) })
	m.rate, err = l.drive(ctx, span, func(batch store.Batch) error {
		c := liteCall{batch, make(chan error, 1)}
		b.waiting <- c
		return <-c.done
	})
	close(b.waiting)
	wg.Wait()
	return m, err
}

// serve commits groups until no more come.
func (b *lite) serve(ctx context.Context) {
	for first := range b.waiting {
		group, events := []liteCall{first}, len(first.batch.Entries)
		for more := true; more && events < liteGroup; {
			select {
			case c, open := <-b.waiting:
				if more = open; open {
					group = append(group, c)
					events += len(c.batch.Entries)
				}
			default:
				more = false
			}
		}
		err := b.commit(ctx, group)
		for _, c := range group {
			c.done <- err
		}
	}
}

func (b *lite) commit(ctx context.Context, group []liteCall) (err error) {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	sums, err := insert(ctx, tx, group)
	if err != nil {
		return err
	}
	upsert, err := tx.PrepareContext(ctx, "INSERT INTO rollups VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events, total = total + excluded.total")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, upsert.Close()) }()
	for k, s := range sums {
		if _, err := upsert.ExecContext(ctx, k.customer, k.meter, k.bucket, s.count, s.sum); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// insert puts the events in that are new, and sums them.
func insert(ctx context.Context, tx *sql.Tx, group []liteCall) (sums map[liteKey]liteSum, err error) {
	put, err := tx.PrepareContext(ctx, "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, put.Close()) }()
	sums = map[liteKey]liteSum{}
	for _, c := range group {
		for i := range c.batch.Entries {
			e := &c.batch.Entries[i]
			r := &e.Resolutions[0]
			value, err := r.Value.Scaled(0)
			if err != nil {
				return nil, err
			}
			done, err := put.ExecContext(ctx, e.Event.ID, e.Event.Source, e.Event.Type, e.Event.Subject, e.Event.Time.UnixMicro(), e.Event.Data, r.CustomerID, r.Meter, value)
			if err != nil {
				return nil, err
			}
			if n, err := done.RowsAffected(); err != nil || n == 0 {
				if err != nil {
					return nil, err
				}
				continue
			}
			k := liteKey{r.CustomerID, r.Meter, e.Event.Time.Truncate(period.BucketLength).UnixMicro()}
			s := sums[k]
			sums[k] = liteSum{s.count + 1, s.sum + value}
		}
	}
	return sums, nil
}
