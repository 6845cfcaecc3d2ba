package period

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestZoneDataIsTheRecordedRelease(t *testing.T) {
	t.Parallel()
	// The checksum of lib/time/zoneinfo.zip whose update.bash says DATA=2025c.
	const version, want = "2025c", "8f55634d05f8bca1f7bc7c69c5933428c69357e0bdf565e5ba224e3f88ff12e8"
	sum := sha256.Sum256([]byte(zoneData))
	if got := hex.EncodeToString(sum[:]); got != want || TZVersion != version {
		t.Errorf("zone data %s is called %s; record the checksum and release together", got, TZVersion)
	}
}

func TestZoneFiles(t *testing.T) {
	t.Parallel()
	archive, err := zip.NewReader(strings.NewReader(zoneData), int64(len(zoneData)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		want, err := fs.ReadFile(archive, f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := zoneFile(f.Name); !ok || got != string(want) {
			t.Errorf("%s: %v, %d bytes, want %d", f.Name, ok, len(got), len(want))
		}
	}
}

func TestLoadZone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"UTC", "Europe/Paris", "Asia/Kathmandu", "America/Argentina/Buenos_Aires", "Etc/GMT+5"} {
		z, err := LoadZone(name)
		if err != nil || z.String() != name {
			t.Errorf("%s: %s, %v", name, z, err)
		}
	}
	for _, name := range []string{
		"", "Local", "europe/paris", "Europe", "Europe/", "../Europe/Paris", "/etc/localtime", "Mars/Phobos", strings.Repeat("x", 100),
	} {
		z, err := LoadZone(name)
		if !errors.Is(err, ErrZone) {
			t.Errorf("%q: %v, want ErrZone", name, err)
		}
		if diff := cmp.Diff(Zone{}, z); diff != "" {
			t.Errorf("%q: %s", name, diff)
		}
	}
}

// The machine's zone data must not matter: here it says that Paris is Kathmandu.
func TestLoadZoneIgnoresTheMachine(t *testing.T) {
	other := filepath.Join(t.TempDir(), "Europe")
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	archive, err := zip.NewReader(strings.NewReader(zoneData), int64(len(zoneData)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := archive.Open("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.Create(filepath.Join(other, "Paris"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReadFrom(f); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZONEINFO", filepath.Dir(other))
	t.Setenv("TZ", "Asia/Kathmandu")

	at := time.Date(2025, 1, 15, 0, 0, 0, 0, time.UTC)
	if fooled, err := time.LoadLocation("Europe/Paris"); err != nil || at.In(fooled).Format("-07:00") != "+05:45" {
		t.Fatalf("the trap does not work: %v", err)
	}
	if got := at.In(MustZone("Europe/Paris").Location()).Format("-07:00"); got != "+01:00" {
		t.Errorf("Paris is at %s", got)
	}
}

func TestZoneText(t *testing.T) {
	t.Parallel()
	type holder struct {
		Z Zone   `json:"z"`
		W Window `json:"w"`
	}
	in := holder{MustZone("Europe/Dublin"), BillingPeriod}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `{"z":"Europe/Dublin","w":"billing_period"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var out holder
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
	if err := json.Unmarshal([]byte(`{"z":"Nowhere"}`), &out); !errors.Is(err, ErrZone) || out.Z.String() != "Europe/Dublin" {
		t.Errorf("%v, %s", err, out.Z)
	}
	if (Zone{}).String() != "UTC" || (Zone{}).Location() != time.UTC {
		t.Error("the zero Zone is not UTC")
	}
}

func TestStartOfDay(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, zone, day, want string
	}{
		{"plain", "Europe/Paris", "2025-07-14", "2025-07-13T22:00:00Z"},
		{"quarter hour offset", "Asia/Kathmandu", "2025-01-01", "2024-12-31T18:15:00Z"},
		{"midnight skipped", "America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"},
		{"midnight skipped", "Africa/Cairo", "2024-04-26", "2024-04-25T22:00:00Z"},
		{"midnight twice, the first", "America/Havana", "2024-11-03", "2024-11-03T04:00:00Z"},
		{"back across midnight at 00:01", "America/Goose_Bay", "2010-11-07", "2010-11-07T03:00:00Z"},
		{"back at the stroke of midnight", "America/Sao_Paulo", "2018-02-18", "2018-02-18T03:00:00Z"},
		{"half hour of DST", "Australia/Lord_Howe", "2024-10-06", "2024-10-05T13:30:00Z"},
		{"day before a skipped one", "Pacific/Apia", "2011-12-29", "2011-12-29T10:00:00Z"},
		{"skipped day", "Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z"},
		{"day after a skipped one", "Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z"},
		{"summer is standard", "Europe/Dublin", "2025-07-01", "2025-06-30T23:00:00Z"},
		{"day lived twice", "America/Juneau", "1867-10-18", "1867-10-17T08:57:41Z"},
		{"far future", "Europe/Paris", "2500-07-01", "2500-06-30T22:00:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.zone, func(t *testing.T) {
			t.Parallel()
			day, err := time.Parse(time.DateOnly, tt.day)
			if err != nil {
				t.Fatal(err)
			}
			got := MustZone(tt.zone).StartOfDay(day.Date())
			if Format(got) != tt.want || got.Location() != time.UTC {
				t.Errorf("got %v, want %s", got, tt.want)
			}
		})
	}
	if got := Format(MustZone("UTC").StartOfDay(2025, 14, 0)); got != "2026-01-31T00:00:00Z" {
		t.Errorf("out of range: %s", got)
	}
}

// A rollup bucket never holds two local days: between two changes of the clock a midnight is on the grid because the
// offset is, and around each change every day is looked at.
func TestEveryMidnightIsOnTheGrid(t *testing.T) {
	t.Parallel()
	from, to := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
	archive, err := zip.NewReader(strings.NewReader(zoneData), int64(len(zoneData)))
	if err != nil {
		t.Fatal(err)
	}
	zones := 0
	for _, f := range archive.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		z, err := LoadZone(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		zones++
		changes := []time.Time{from}
		for at := from; ; {
			end, ok := z.steadyUntil(at)
			if !ok || end.After(to) {
				break
			}
			changes = append(changes, end)
			at = end
		}
		for _, at := range changes {
			local := at.In(z.Location())
			if _, offset := local.Zone(); offset%900 != 0 {
				t.Errorf("%s: offset %d from %v", z, offset, at)
			}
			for d := -2; d <= 2; d++ {
				y, m, day := local.Date()
				if start := z.StartOfDay(y, m, day+d); !start.Equal(BucketStart(start)) {
					t.Errorf("%s: the day begins at %v", z, start)
				}
			}
		}
	}
	if zones < 590 {
		t.Errorf("only %d zones", zones)
	}
}

// The same from 1972 on, day by day, where it is most likely to fail.
func TestNastyMidnightsAreOnTheGrid(t *testing.T) {
	t.Parallel()
	for _, name := range nastyZones() {
		z := MustZone(name)
		for day := time.Date(1972, 2, 1, 0, 0, 0, 0, time.UTC); day.Year() < 2036; day = day.AddDate(0, 0, 1) {
			if start := z.StartOfDay(day.Date()); start.Unix()%900 != 0 {
				t.Errorf("%s: %s begins at %v", name, day.Format(time.DateOnly), start)
			}
		}
	}
}

// Without care the last day of a leap year never ends: see Zone.steadyUntil.
func TestLastDayOfLeapYear(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"America/New_York", "Europe/Paris", "Africa/Cairo", "Pacific/Auckland"} {
		z := MustZone(name)
		for _, year := range []int{2024, 2028, 2096} {
			now := time.Date(year, 12, 31, 12, 30, 0, 0, z.Location())
			want := Interval{now.Add(-750 * time.Minute).UTC(), now.Add(690 * time.Minute).UTC()}
			checkWindow(t, Day, z, Anchor{}, want)
			want = Interval{now.Add(-30 * time.Minute).UTC(), now.Add(30 * time.Minute).UTC()}
			checkWindow(t, Hour, z, Anchor{}, want)
		}
	}
}
