// Package export writes a journal's events as Parquet, a file for each UTC day, for tools that read columns. The same journal
// gives the same bytes again.
package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of an export. Rows wait in memory until one of them is reached.
const (
	MaxDays     = 1000    // days in one export, each an open file
	maxWaiting  = 200_000 // rows of all days together
	maxGroup    = 50_000  // rows of one row group
	pageRecords = 1000

	// ManifestName is the file that lists the others.
	ManifestName = "manifest.json"
)

// ErrDays says that there are more than MaxDays days.
var ErrDays = fmt.Errorf("more than %d days at once: export them in parts with --before", MaxDays)

// Row is an event as it counts for one meter; an event that counts for several has a row for each, one that counts for none
// has one without customer, meter and value.
type Row struct {
	Position   int64     `parquet:"position,delta"`
	Source     string    `parquet:"source,dict"`
	ID         string    `parquet:"id"`
	Type       string    `parquet:"type,dict"`
	Subject    string    `parquet:"subject,dict"`
	Time       time.Time `parquet:"time,timestamp(microsecond)"`
	ReceivedAt time.Time `parquet:"received_at,timestamp(microsecond)"`
	Customer   *string   `parquet:"customer,optional,dict"`
	Meter      *string   `parquet:"meter,optional,dict"`
	Value      *string   `parquet:"value,optional,dict"`
	Dimensions string    `parquet:"dimensions,dict"` // JSON object
	Data       string    `parquet:"data"`            // JSON, as it was accepted or last amended
	Revision   int64     `parquet:"revision"`        // position of its newest revision; 0: none
	Voided     bool      `parquet:"voided"`
	Erased     bool      `parquet:"erased"`
}

// File is one day in the manifest.
type File struct {
	Day    string `json:"day"`
	Name   string `json:"file"`
	Rows   int64  `json:"rows"`
	Events int64  `json:"events"`
	First  uint64 `json:"first_position"`
	Last   uint64 `json:"last_position"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Manifest says what was exported. TreeSize is the number of leaves of the journal's tree that the rows belong to: the row
// of position p is leaf p − 1.
type Manifest struct {
	Format   int    `json:"format"`
	TreeSize uint64 `json:"tree_size"`
	Before   string `json:"before,omitempty"`
	Files    []File `json:"files"`
}

// Write exports the events with a time before a day (zero: all) into a folder, made if absent, and the manifest last. Files
// of an earlier export are replaced, each at once.
func Write(ctx context.Context, j store.Journal, folder string, before time.Time) (Manifest, error) {
	m := Manifest{Format: 1, Files: []File{}}
	if !before.IsZero() {
		m.Before = before.UTC().Format(time.DateOnly)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return m, fmt.Errorf("export: %w", err)
	}
	if err := j.View(ctx, func(v store.View) error { m.TreeSize = v.Position(); return nil }); err != nil {
		return m, fmt.Errorf("export: %w", err)
	}
	x := &exporter{folder: folder, days: map[string]*day{}}
	err := x.all(ctx, j, before, m.TreeSize)
	if err == nil {
		m.Files, err = x.finish()
	}
	if err != nil {
		return m, errors.Join(fmt.Errorf("export: %w", err), x.abandon())
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, fmt.Errorf("export: %w", err)
	}
	if err := replace(filepath.Join(folder, ManifestName), append(b, '\n')); err != nil {
		return m, fmt.Errorf("export: %w", err)
	}
	return m, nil
}

// exporter has a writer for each day seen.
type exporter struct {
	folder  string
	days    map[string]*day
	waiting int
}

// day is a file being written under a temporary name.
type day struct {
	File
	path    string
	temp    *os.File
	sum     hash.Hash
	w       *parquet.GenericWriter[Row]
	waiting int
}

func (x *exporter) all(ctx context.Context, j store.Journal, before time.Time, upTo uint64) error {
	s := store.Scan{In: period.Interval{End: before}, Limit: pageRecords}
	for {
		page, err := j.Scan(ctx, s)
		if err != nil {
			return err
		}
		for i := range page.Records {
			if r := &page.Records[i]; r.Position <= upTo {
				if err := x.event(r); err != nil {
					return err
				}
			}
		}
		if page.Next == "" {
			return nil
		}
		s.Cursor = page.Next
	}
}

func (x *exporter) event(r *store.Record) error {
	d, err := x.day(r.Event.Time)
	if err != nil {
		return err
	}
	rows, err := rowsOf(r)
	if err != nil {
		return err
	}
	if _, err := d.w.Write(rows); err != nil {
		return err
	}
	if d.Events == 0 {
		d.First = r.Position
	}
	d.Last = r.Position
	d.Events++
	d.Rows += int64(len(rows))
	d.waiting += len(rows)
	x.waiting += len(rows)
	if d.waiting >= maxGroup {
		return x.flush(d)
	}
	if x.waiting >= maxWaiting { // the day with most rows, by name where they are equal: the same journal gives the same groups
		names := slices.Sorted(maps.Keys(x.days))
		most := x.days[names[0]]
		for _, name := range names {
			if x.days[name].waiting > most.waiting {
				most = x.days[name]
			}
		}
		return x.flush(most)
	}
	return nil
}

func (x *exporter) flush(d *day) error {
	x.waiting -= d.waiting
	d.waiting = 0
	return d.w.Flush()
}

func (x *exporter) day(at time.Time) (*day, error) {
	name := at.UTC().Format(time.DateOnly)
	if d := x.days[name]; d != nil {
		return d, nil
	}
	if len(x.days) >= MaxDays {
		return nil, ErrDays
	}
	d := &day{File: File{Day: name, Name: "events-" + name + ".parquet"}, sum: sha256.New()}
	d.path = filepath.Join(x.folder, d.Name)
	var err error
	if d.temp, err = os.OpenFile(d.path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	d.w = parquet.NewGenericWriter[Row](io.MultiWriter(d.temp, d.sum), parquet.Compression(&parquet.Zstd),
		parquet.PageBufferSize(64<<10), parquet.CreatedBy("tallystick", "1", ""))
	x.days[name] = d
	return d, nil
}

// finish gives the files their names.
func (x *exporter) finish() ([]File, error) {
	files := make([]File, 0, len(x.days))
	for _, name := range slices.Sorted(maps.Keys(x.days)) {
		d := x.days[name]
		if err := errors.Join(d.w.Close(), d.temp.Sync()); err != nil {
			return nil, err
		}
		info, err := d.temp.Stat()
		if err != nil {
			return nil, err
		}
		d.Bytes, d.SHA256 = info.Size(), hex.EncodeToString(d.sum.Sum(nil))
		if err := d.temp.Close(); err != nil {
			return nil, err
		}
		if err := os.Rename(d.path+".tmp", d.path); err != nil {
			return nil, err
		}
		files = append(files, d.File)
	}
	return files, syncFolder(x.folder)
}

// abandon removes the unfinished files.
func (x *exporter) abandon() error {
	for _, d := range x.days {
		_ = d.temp.Close() // some are closed already
		if err := os.Remove(d.path + ".tmp"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func rowsOf(r *store.Record) ([]Row, error) {
	base := Row{
		Position: int64(r.Position), Source: r.Event.Source, ID: r.Event.ID, Type: r.Event.Type, Subject: r.Event.Subject,
		Time: r.Event.Time.UTC(), ReceivedAt: r.ReceivedAt.UTC(), Dimensions: "{}", Data: string(r.Event.Data),
		Revision: int64(r.Revision), Voided: r.Voided, Erased: r.Erased,
	}
	if len(r.Resolutions) == 0 {
		return []Row{base}, nil
	}
	rows := make([]Row, 0, len(r.Resolutions))
	for _, res := range r.Resolutions {
		row := base
		value := res.Value.String()
		row.Customer, row.Meter, row.Value = &res.CustomerID, &res.Meter, &value
		dimensions, err := object(res.Dimensions)
		if err != nil {
			return nil, err
		}
		row.Dimensions = dimensions
		rows = append(rows, row)
	}
	return rows, nil
}

func object(all []meter.Dimension) (string, error) {
	m := make(map[string]string, len(all))
	for _, d := range all {
		m[d.Name] = d.Value
	}
	b, err := json.Marshal(m)
	return string(b), err
}

// replace puts content in a file's place at once.
func replace(path string, content []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
