// Package period holds half-open intervals, calendar windows and billing periods, zones explicit.
//
// Time comes in as a parameter. What comes out is UTC. A local day begins at the first instant whose local date is that
// day or a later one, whatever the clock does afterwards, so that windows tile: see Zone.StartOfDay.
package period

import "errors"

// What can be wrong with a name; compare with errors.Is.
var (
	ErrZone   = errors.New("unknown time zone")
	ErrWindow = errors.New("unknown window")
)
