package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/app/usage"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// tablePage is how many events or groups are held at once.
const tablePage = 1000

// usageTables is the usage behind an invoice.
func (a *api) usageTables() {
	a.stream(operation{
		method: http.MethodGet, path: "/v1/invoices/{id}/usage.csv", id: "get-invoice-usage", tag: "invoices",
		summary: "The usage behind an invoice's lines as a table, by day or event by event", description: "The column quantity adds up to the line's " +
			"quantity: by day, a row of the kind late takes off what came after the close.",
	}, formats()[2].ContentType, []*huma.Param{
		inPath("id"), inQuery("line", "A number from 1, or an iln_ id; absent: all lines of usage"),
		{Name: "by", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"day", "event"}, Default: "day"}},
		inQuery("group_by", "By day: dimensions of the meter to tell apart, with commas between them"),
	}, a.usageTable)
}

func (a *api) usageTable(w http.ResponseWriter, r *http.Request) error {
	if err := known(r, "line", "by", "group_by"); err != nil {
		return err
	}
	ctx, q := r.Context(), r.URL.Query()
	by := firstOf(q.Get("by"), "day")
	if by != "day" && by != "event" {
		return invalid("by", "must be day or event", "leave it out for days")
	}
	i, err := a.cfg.Bill.Invoice(ctx, r.PathValue("id"))
	if err != nil {
		return notFoundAs(err, "finalized invoice")
	}
	lines, err := linesOfUsage(i, q.Get("line"))
	if err != nil {
		return err
	}
	if err := a.cfg.Flush(ctx); err != nil {
		return err
	}
	d, err := a.documentOf(ctx, i)
	if err != nil {
		return err
	}
	attach(w, d.FileName()+"-usage.csv", formats()[2].ContentType)
	if by == "event" {
		return a.eventTable(ctx, w, &d, lines)
	}
	var dimensions []string
	if names := q.Get("group_by"); names != "" {
		dimensions = strings.Split(names, ",")
	}
	return a.dayTable(ctx, w, &d, lines, dimensions)
}

// linesOfUsage picks a line by number or id, or all that have usage.
func linesOfUsage(i invoice.Invoice, line string) ([]invoice.Line, error) {
	var out []invoice.Line
	for n, l := range i.Lines {
		if l.Kind == invoice.UsageLine && (line == "" || line == l.ID || line == strconv.Itoa(n+1)) {
			out = append(out, l)
		}
	}
	if line != "" && len(out) == 0 {
		return nil, newProblem(codeNotFound, "There is no such line of usage on the invoice.")
	}
	return out, nil
}

// eventTable writes the events of lines, oldest first.
func (a *api) eventTable(ctx context.Context, w http.ResponseWriter, d *document.Document, lines []invoice.Line) error {
	table, err := document.NewEventCSV(w, d)
	if err != nil {
		return err
	}
	for i := range lines {
		for next := ""; ; {
			t, err := a.cfg.Bill.Trace(ctx, d.ID, strconv.Itoa(lines[i].Number), next, tablePage)
			if err != nil {
				return err
			}
			for _, r := range t.Events {
				e := a.eventOf(r, d.CustomerID, lines[i].Meter)
				row := document.UsageEvent{At: r.Event.Time, Source: r.Event.Source, ID: r.Event.ID, DecisionID: e.DecisionID}
				for _, res := range r.Resolutions {
					if res.Meter == lines[i].Meter && res.CustomerID == d.CustomerID {
						row.Quantity = res.Value
					}
				}
				if err := table.Event(&lines[i], &row); err != nil {
					return err
				}
			}
			if next = t.Next; next == "" {
				break
			}
		}
	}
	return table.Flush()
}

// dayTable writes the days of lines, by groups of dimensions.
func (a *api) dayTable(ctx context.Context, w http.ResponseWriter, d *document.Document, lines []invoice.Line, dimensions []string) error {
	table, err := document.NewDayCSV(w, d, dimensions)
	if err != nil {
		return err
	}
	for i := range lines {
		if err := a.days(ctx, table, d, &lines[i], dimensions); err != nil {
			return err
		}
	}
	return table.Flush()
}

func (a *api) days(ctx context.Context, table *document.UsageCSV, d *document.Document, l *invoice.Line, dimensions []string) error {
	q := usage.Query{
		Customers: []string{d.CustomerID}, Meter: l.Meter, In: l.Period, Window: usage.Day, Zone: d.Zone.String(), GroupBy: dimensions, Limit: tablePage,
	}
	for name, value := range l.Filter {
		q.Where = append(q.Where, meter.Dimension{Name: name, Value: value})
	}
	slices.SortFunc(q.Where, func(a, b meter.Dimension) int { return strings.Compare(a.Name, b.Name) })
	var sum money.Decimal
	for {
		u, err := a.cfg.Usage.Ask(ctx, q)
		if errors.Is(err, account.ErrNotFound) {
			return newProblem(codeNotFound, "The catalog no longer has the line's meter.")
		}
		if err != nil {
			return err
		}
		for _, it := range u.Items {
			values := make([]string, len(dimensions))
			for i := range it.Dimensions {
				values[i] = it.Dimensions[i].Value
			}
			for _, window := range it.Windows {
				row := document.UsageDay{Interval: window.Interval, Values: values, Quantity: window.Value, Events: window.Events}
				if err := table.Day(l, &row); err != nil {
					return err
				}
				if sum, err = sum.Add(window.Value); err != nil {
					return err
				}
			}
		}
		if q.Cursor = u.Next; q.Cursor != "" {
			continue
		}
		late, err := sum.Sub(l.Quantity)
		if err != nil || late.IsZero() || !u.Meter.Aggregation.Additive() {
			return err
		}
		return table.Late(l, late, len(dimensions))
	}
}
