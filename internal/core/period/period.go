// Package period holds half-open intervals, calendar windows and billing periods, zones explicit.
package period

import (
	"errors"
	"time"
)

// TZVersion is the release of the zone data embedded in the binary.
const TZVersion = "2025c"

var (
	ErrZone   = errors.New("unknown time zone")
	ErrWindow = errors.New("unknown window")
)

// Interval is [Start, End) in UTC, microsecond resolution. A zero End is "without end".
type Interval struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

func (i Interval) Contains(t time.Time) bool { panic("skeleton") }
func (i Interval) Empty() bool               { panic("skeleton") }

// Zone is an IANA zone loaded only from the embedded zone data.
type Zone struct{ loc *time.Location }

func LoadZone(name string) (Zone, error)                     { panic("skeleton") } // "" is an error; "UTC" works; never reads the machine's zoneinfo
func MustZone(name string) Zone                              { panic("skeleton") }
func (z Zone) String() string                                { panic("skeleton") }
func (z Zone) Location() *time.Location                      { panic("skeleton") }
func (z Zone) Date(t time.Time) (y int, m time.Month, d int) { panic("skeleton") }

// StartOfDay is the first instant of that local day (a midnight that DST skips begins at the first instant of the day).
func (z Zone) StartOfDay(y int, m time.Month, d int) time.Time { panic("skeleton") }

type Window uint8

const (
	Hour Window = iota + 1
	Day
	Week // starts on Monday
	Month
	BillingPeriod
)

func ParseWindow(s string) (Window, error) { panic("skeleton") } // hour day week month billing_period
func (w Window) String() string            { panic("skeleton") }

// Anchor places a subscription's monthly billing periods: they begin at the first instant of local day Day
// (1..31, clamped to the month's last day and coming back), the first one at Start itself.
type Anchor struct {
	Start time.Time
	Day   int
	Zone  Zone
}

// Period is the billing period that contains t; ok is false before Start.
func (a Anchor) Period(t time.Time) (p Interval, ok bool) { panic("skeleton") }

// Periods lists the billing periods from Start that began at or before until (at most max, oldest first).
func (a Anchor) Periods(until time.Time, max int) []Interval { panic("skeleton") }

// Containing is the window around t in zone z; for BillingPeriod the anchor decides. Windows of one kind tile time
// without gap or overlap, DST changes included. ok is false only for BillingPeriod before the anchor's start.
func (w Window) Containing(t time.Time, z Zone, a Anchor) (i Interval, ok bool) { panic("skeleton") }

const BucketLength = 15 * time.Minute

// BucketStart is the 15-minute UTC grid point at or before t.
func BucketStart(t time.Time) time.Time { panic("skeleton") }

// Truncate cuts to the microsecond and to UTC without monotonic reading.
func Truncate(t time.Time) time.Time { panic("skeleton") }

// Format prints RFC 3339 in UTC with microseconds only where needed, "Z".
func Format(t time.Time) string { panic("skeleton") }
