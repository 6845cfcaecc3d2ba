package export_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/file/export"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	j, err := file.Open(file.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	start := time.Date(2026, 3, 1, 23, 59, 58, 0, time.UTC)
	for i := range 5 { // two before midnight, two after, one a year back; the last one counts for nothing
		e := store.Entry{
			Event: meter.Event{
				Source: "shop", ID: fmt.Sprint("e", i), Type: "request", Subject: "acme", Time: start.Add(time.Duration(i) * time.Second), Data: []byte(`{"n":1}`),
			},
			Origin: meter.Reported,
			Resolutions: []meter.Resolution{
				{CustomerID: "cus_1", Meter: "a", Value: money.MustDecimal("1.25"), Dimensions: []meter.Dimension{{Name: "route", Value: "GET /"}}},
				{CustomerID: "cus_1", Meter: "b", Value: money.FromInt(7)},
			},
		}
		if i == 4 {
			e.Event.Time, e.Resolutions = start.AddDate(-1, 0, 0), nil
		}
		if _, err := j.Append(t.Context(), store.Batch{Producer: "p", ReceivedAt: start.Add(time.Hour), Entries: []store.Entry{e}}); err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(t.TempDir(), "out")
	m, err := export.Write(t.Context(), j, folder, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var days []string
	for _, f := range m.Files {
		days = append(days, fmt.Sprint(f.Day, " ", f.Events, " ", f.Rows))
		b, err := os.ReadFile(filepath.Join(folder, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != f.SHA256 || int64(len(b)) != f.Bytes {
			t.Errorf("%s is not the file in the manifest", f.Name)
		}
	}
	if diff := cmp.Diff([]string{"2025-03-01 1 1", "2026-03-01 2 4", "2026-03-02 2 4"}, days); diff != "" || m.TreeSize != 10 {
		t.Error(m.TreeSize, diff)
	}
	rows, err := parquet.ReadFile[export.Row](filepath.Join(folder, "events-2026-03-01.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	customer, meterKey, value := "cus_1", "a", "1.25"
	want := export.Row{
		Position: 2, Source: "shop", ID: "e0", Type: "request", Subject: "acme", Time: start, ReceivedAt: start.Add(time.Hour),
		Customer: &customer, Meter: &meterKey, Value: &value, Dimensions: `{"route":"GET /"}`, Data: `{"n":1}`,
	}
	if diff := cmp.Diff(want, rows[0]); diff != "" || len(rows) != 4 {
		t.Error(len(rows), diff)
	}
	again, err := export.Write(t.Context(), j, folder, time.Time{})
	if diff := cmp.Diff(m, again); diff != "" || err != nil {
		t.Error("a second export differs", err, diff)
	}
	b, err := os.ReadFile(filepath.Join(folder, export.ManifestName))
	var read export.Manifest
	if err != nil || json.Unmarshal(b, &read) != nil || cmp.Diff(m, read) != "" {
		t.Error("the manifest on disk differs", err)
	}
	part, err := export.Write(t.Context(), j, t.TempDir(), time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))
	if err != nil || len(part.Files) != 2 || part.Before != "2026-03-02" {
		t.Error(part, err)
	}
}
