package period

import (
	_ "embed" // holds the zone data
	"fmt"
	"time"
)

// TZVersion is the release of the zone data embedded in the binary. It stands on every invoice.
const TZVersion = "2025c"

// zoneData is lib/time/zoneinfo.zip of a Go release. To replace it, copy the file and change TZVersion (DATA in Go's
// lib/time/update.bash) and the checksum in the test.
//
//go:embed zoneinfo/zoneinfo.zip
var zoneData string

// Zone is an IANA zone loaded only from the embedded zone data. The zero Zone is UTC.
type Zone struct{ loc *time.Location }

// LoadZone finds a zone by its exact IANA name, "UTC" among them. Any other name, "" and "Local" too, is ErrZone. It
// never looks at the machine's zone data, so every machine draws the same windows. It costs some microseconds and
// kilobytes: keep the Zone on a hot path.
func LoadZone(name string) (Zone, error) {
	data, ok := zoneFile(name)
	if !ok {
		if len(name) > 64 {
			return Zone{}, fmt.Errorf("%w: the name is too long", ErrZone)
		}
		return Zone{}, fmt.Errorf("%w: %q is not an IANA name such as Europe/Paris", ErrZone, name)
	}
	loc, err := time.LoadLocationFromTZData(name, []byte(data))
	if err != nil {
		return Zone{}, fmt.Errorf("embedded zone %s: %w", name, err)
	}
	return Zone{loc}, nil
}

// zoneFile walks the directory at the end of the archive, whose files are not compressed. archive/zip would build all
// 600 entries for each zone, which takes twenty times as long. The offsets are those of the zip format; nothing is
// checked twice, because a test compares every zone with archive/zip.
func zoneFile(name string) (data string, ok bool) {
	const trailer, entry, header = 22, 46, 30 // fixed lengths of the three records
	last := len(zoneData) - trailer
	count, at := number(last+10, 2), number(last+16, 4)
	for range count {
		nameLen := number(at+28, 2)
		if zoneData[at+entry:at+entry+nameLen] == name {
			size, file := number(at+20, 4), number(at+42, 4)
			file += header + number(file+26, 2) + number(file+28, 2)
			return zoneData[file : file+size], size > 0 // folders are empty
		}
		at += entry + nameLen + number(at+30, 2) + number(at+32, 2)
	}
	return "", false
}

// number is the little-endian number of that many bytes in the archive.
func number(at, size int) (n int) {
	for i := range size {
		n |= int(zoneData[at+i]) << (8 * i)
	}
	return n
}

// MustZone is LoadZone for constants and tests; it panics on an error.
func MustZone(name string) Zone {
	z, err := LoadZone(name)
	if err != nil {
		panic(err)
	}
	return z
}

// String is the IANA name.
func (z Zone) String() string { return z.Location().String() }

// Location is the zone for package time, never nil.
func (z Zone) Location() *time.Location {
	if z.loc == nil {
		return time.UTC
	}
	return z.loc
}

// Equal reports whether both have one name, and with it one set of rules.
func (z Zone) Equal(other Zone) bool { return z.String() == other.String() }

// MarshalText is the IANA name.
func (z Zone) MarshalText() ([]byte, error) { return []byte(z.String()), nil }

// UnmarshalText is LoadZone. On an error z stays as it was.
func (z *Zone) UnmarshalText(b []byte) error {
	v, err := LoadZone(string(b))
	if err != nil {
		return err
	}
	*z = v
	return nil
}

// Date is the local day whose window contains t. It is the date on the clock, except in minutes that a clock set back
// across midnight runs again: the day that has begun stays.
func (z Zone) Date(t time.Time) (y int, m time.Month, d int) {
	y, m, d = t.In(z.Location()).Date()
	for {
		next := time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
		if z.startOf(next).After(t) {
			return y, m, d
		}
		y, m, d = next.Date()
	}
}

// StartOfDay is the first instant, in UTC, whose local date is that day or a later one: midnight; where DST skips
// midnight, the first instant of the day; where midnight comes twice, the first; for a day that the zone skipped, the
// start of the next. Days and months out of range carry over, as in time.Date.
func (z Zone) StartOfDay(y int, m time.Month, d int) time.Time {
	return z.startOf(time.Date(y, m, d, 0, 0, 0, 0, time.UTC))
}

// startOf is the first instant at which the local clock shows wall or later. The wall time is written as if in UTC.
func (z Zone) startOf(wall time.Time) time.Time {
	const farthest = 24 * time.Hour // no offset from UTC is larger
	t := wall.Add(-farthest)
	for {
		first := wall.Add(-z.offset(t))
		if first.Before(t) {
			first = t // the clock jumped over wall
		}
		end, ok := z.steadyUntil(t)
		if !ok || first.Before(end) {
			return first
		}
		t = end
	}
}

// offset is how far the local clock is ahead of UTC at t.
func (z Zone) offset(t time.Time) time.Duration {
	_, seconds := t.In(z.Location()).Zone()
	return time.Duration(seconds) * time.Second
}

// steadyUntil is an instant after t before which the offset does not change; it need not change there. ok is false if
// it never changes again.
func (z Zone) steadyUntil(t time.Time) (end time.Time, ok bool) {
	_, end = t.In(z.Location()).ZoneBounds()
	if end.IsZero() {
		return time.Time{}, false
	}
	if !end.After(t) {
		// Where rules go on for ever, ZoneBounds ends a year after 365 days, on the last day of a leap year before t.
		// Rules are by UTC year, so nothing is missed by going on to the next.
		end = time.Date(t.UTC().Year()+1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return end.UTC(), true
}
