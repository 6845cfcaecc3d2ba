package document

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// The columns of usage tables. Those of dimensions follow, as "dimensions.region".
const (
	lineColumns  = "number,invoice_id,line,line_id,price,meter"
	dayColumns   = lineColumns + ",kind,date,zone,from,to,quantity,events"
	eventColumns = lineColumns + ",time,source,id,decision_id,quantity"
)

// UsageDay is what a line's meter measured on one day of the customer, or for one value of its dimensions on it.
type UsageDay struct {
	period.Interval
	Values   []string // of the table's dimensions
	Quantity money.Decimal
	Events   int64
}

// UsageEvent is one event of a line.
type UsageEvent struct {
	At         time.Time
	Source, ID string
	DecisionID string // empty: reported from outside
	Quantity   money.Decimal
}

// UsageCSV writes what is behind the lines of one invoice as a table, RFC 4180, row by row: of days or of events.
type UsageCSV struct {
	rows *csv.Writer
	doc  *Document
}

// NewDayCSV makes a table of days, with columns for dimensions. Flush writes what is held back.
func NewDayCSV(w io.Writer, d *Document, dimensions []string) (*UsageCSV, error) {
	head := strings.Split(dayColumns, ",")
	for _, name := range dimensions {
		head = append(head, "dimensions."+name)
	}
	return newUsageCSV(w, d, head)
}

// NewEventCSV makes a table of events.
func NewEventCSV(w io.Writer, d *Document) (*UsageCSV, error) {
	return newUsageCSV(w, d, strings.Split(eventColumns, ","))
}

func newUsageCSV(w io.Writer, d *Document, head []string) (*UsageCSV, error) {
	u := &UsageCSV{csv.NewWriter(w), d}
	u.rows.UseCRLF = true
	return u, u.write(head)
}

func (u *UsageCSV) write(cells []string) error {
	if err := u.rows.Write(cells); err != nil {
		return fmt.Errorf("usage of invoice %s: %w", u.doc.ID, err)
	}
	return nil
}

// of are the columns that name a line.
func (u *UsageCSV) of(l *invoice.Line) []string {
	return []string{cell(Number(u.doc.Series, u.doc.Number)), cell(u.doc.ID), strconv.Itoa(l.Number), cell(l.ID), cell(l.Price), cell(l.Meter)}
}

// Day appends a day of a line.
func (u *UsageCSV) Day(l *invoice.Line, d *UsageDay) error {
	row := append(u.of(l), "day", d.Start.In(u.doc.Zone.Location()).Format(time.DateOnly), u.doc.Zone.String(), stamp(d.Start), stamp(d.End),
		d.Quantity.String(), strconv.FormatInt(d.Events, 10))
	for _, v := range d.Values {
		row = append(row, cell(v))
	}
	return u.write(row)
}

// Late appends what the days of a line have and its quantity does not, with its sign turned: so the column adds up to the
// quantity. dimensions is how many the table has.
func (u *UsageCSV) Late(l *invoice.Line, late money.Decimal, dimensions int) error {
	row := append(u.of(l), "late", "", u.doc.Zone.String(), stamp(l.Period.Start), stamp(l.Period.End), late.Neg().String(), "")
	return u.write(append(row, make([]string, dimensions)...))
}

// Event appends an event of a line.
func (u *UsageCSV) Event(l *invoice.Line, e *UsageEvent) error {
	return u.write(append(u.of(l), stamp(e.At), cell(e.Source), cell(e.ID), cell(e.DecisionID), e.Quantity.String()))
}

// Flush writes what is held back.
func (u *UsageCSV) Flush() error {
	u.rows.Flush()
	return u.rows.Error()
}
