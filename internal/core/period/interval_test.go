package period

import (
	"encoding/json"
	"testing"
	"time"
)

func TestInterval(t *testing.T) {
	t.Parallel()
	a, b := at("2025-01-01T00:00:00Z"), at("2025-01-02T00:00:00Z")
	tests := []struct {
		in       Interval
		at       time.Time
		contains bool
		empty    bool
	}{
		{Interval{a, b}, a, true, false},
		{Interval{a, b}, a.Add(-1), false, false},
		{Interval{a, b}, b.Add(-1), true, false},
		{Interval{a, b}, b, false, false},
		{Interval{Start: a}, b.AddDate(1000, 0, 0), true, false},
		{Interval{Start: a}, a.Add(-1), false, false},
		{Interval{a, a}, a, false, true},
		{Interval{b, a}, a, false, true},
	}
	for _, tt := range tests {
		if tt.in.Contains(tt.at) != tt.contains || tt.in.Empty() != tt.empty {
			t.Errorf("%v: contains %v is %v, empty is %v", tt.in, tt.at, tt.in.Contains(tt.at), tt.in.Empty())
		}
	}
	for in, want := range map[Interval]string{
		{a, b}:     `{"start":"2025-01-01T00:00:00Z","end":"2025-01-02T00:00:00Z"}`,
		{Start: a}: `{"start":"2025-01-01T00:00:00Z"}`,
	} {
		out, err := json.Marshal(in)
		var back Interval
		if err != nil || string(out) != want || json.Unmarshal(out, &back) != nil || back != in {
			t.Errorf("%s, %v; want %s; back %v", out, err, want, back)
		}
	}
}

func TestFormatAndTruncate(t *testing.T) {
	t.Parallel()
	paris := MustZone("Europe/Paris").Location()
	tests := []struct {
		in   time.Time
		want string
	}{
		{time.Date(2025, 7, 1, 12, 0, 0, 0, paris), "2025-07-01T10:00:00Z"},
		{time.Date(2025, 7, 1, 12, 0, 0, 123456789, time.UTC), "2025-07-01T12:00:00.123456Z"},
		{time.Date(2025, 7, 1, 12, 0, 0, 500e6, time.UTC), "2025-07-01T12:00:00.5Z"},
		{time.Date(2025, 7, 1, 12, 0, 0, 999, time.UTC), "2025-07-01T12:00:00Z"},
		{time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC), "1969-12-31T23:59:59.999999Z"},
		{time.Time{}, "0001-01-01T00:00:00Z"},
	}
	for _, tt := range tests {
		if got := Format(tt.in); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
		cut := Truncate(tt.in)
		if Format(cut) != tt.want || cut.Location() != time.UTC || cut != Truncate(cut) {
			t.Errorf("%v is cut to %v", tt.in, cut)
		}
	}
	if now := time.Now(); Truncate(now) != time.UnixMicro(now.UnixMicro()).UTC() {
		t.Error("a monotonic reading is left")
	}
}

func TestBucketStart(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"2025-01-01T00:00:00Z":         "2025-01-01T00:00:00Z",
		"2025-01-01T00:14:59.999999Z":  "2025-01-01T00:00:00Z",
		"2025-01-01T05:44:59.5+05:45":  "2024-12-31T23:45:00Z",
		"2025-01-01T05:45:00+05:45":    "2025-01-01T00:00:00Z",
		"1969-12-31T23:59:59.999999Z":  "1969-12-31T23:45:00Z",
		"2025-06-15T12:59:59.9999999Z": "2025-06-15T12:45:00Z",
	}
	for in, want := range tests {
		if got := BucketStart(at(in)); Format(got) != want || got.Location() != time.UTC {
			t.Errorf("%s is in the bucket of %v, want %s", in, got, want)
		}
	}
}
