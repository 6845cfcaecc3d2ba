package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/export"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/books"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// Bounds of what the home page shows.
const (
	rateSeconds    = 60
	recentShown    = 20
	customersShown = 20  // on the home page
	customersPage  = 100 // on the customers' page
	faultsShown    = 10  // rows of the books that do not agree
)

// The books of a large deployment take a while. Live parts share one reading, and spend at most one part in readingShare
// of the time on it.
const (
	readingFresh = 500 * time.Millisecond
	readingShare = 10
	readingOld   = 30 * time.Second
)

// totals is the latest reading of the books and of what is accrued. mu owns the fields and is held while reading.
type totals struct {
	mu      sync.Mutex
	reading reading
	begun   time.Time
	took    time.Duration
}

type reading struct {
	books   bill.Books
	accrued []bill.Accrual
}

// read takes the figures at a new cut, or for a live part those that are fresh enough. Business time only moves forward, so
// an advance makes them old.
func (c *console) read(ctx context.Context, live bool) (reading, error) {
	t := &c.totals
	t.mu.Lock()
	defer t.mu.Unlock()
	now := c.Clock.Now()
	fresh := min(max(readingFresh, t.took*readingShare), readingOld)
	if live && !t.begun.IsZero() && now.Sub(t.begun) < fresh {
		return t.reading, nil
	}
	b, err := c.Bill.Books(ctx, "")
	if err != nil {
		return reading{}, err
	}
	accrued, err := c.Bill.Accrued(ctx)
	if err != nil {
		return reading{}, err
	}
	t.reading, t.begun, t.took = reading{b, accrued}, now, c.Clock.Now().Sub(now)
	return t.reading, nil
}

// homeView is all that the home page shows.
type homeView struct {
	reading
	behind    bool
	now       time.Time
	offset    time.Duration
	test      bool
	stats     enforce.Stats
	rates     []enforce.Rate
	recent    []enforce.Recent
	customers []customerRow
	more      int   // customers that are not listed
	unmatched int64 // events
	exports   []export.Counted
}

// customerRow is a customer with what they used in the present period, by meter.
type customerRow struct {
	account.Customer
	plan string
	used []string
}

func (c *console) home(r *http.Request) (answer, error) {
	v, err := c.view(r.Context(), false)
	if err != nil {
		return answer{}, err
	}
	return answer{page: homePage(c.frame(r, "Home"), v)}, nil
}

// live is the part of the home page that asks for itself each second.
func (c *console) live(r *http.Request) (answer, error) {
	v, err := c.view(r.Context(), true)
	if err != nil {
		return answer{}, err
	}
	return answer{page: homeLive(v)}, nil
}

func (c *console) view(ctx context.Context, live bool) (v homeView, err error) {
	v.behind = c.Flush(ctx)
	v.stats, v.rates, v.recent = c.Enforce.Stats(), c.Enforce.Rates(rateSeconds), c.Enforce.Recent("", recentShown)
	if v.reading, err = c.read(ctx, live); err != nil {
		return homeView{}, err
	}
	v.now, v.offset, v.test = c.Clock.Now(), c.Clock.Offset(), c.Clock.Test()
	v.unmatched = c.cfg.Inbox.Count()
	if c.cfg.Exports != nil {
		v.exports = c.cfg.Exports()
	}
	all := c.Govern.Customers()
	shown := all[:min(len(all), customersShown)]
	v.customers, v.more = c.rows(shown, v.books, v.now), len(all)-len(shown)
	return v, nil
}

// rows finds the customers' plans and what they used in the period that contains now.
func (c *console) rows(customers []account.Customer, b bill.Books, now time.Time) []customerRow {
	used := map[string][]string{}
	for _, row := range b.Rows {
		if !row.Period.Empty() && row.Period.Contains(now) {
			used[row.CustomerID] = append(used[row.CustomerID], ui.Count(row.Metered)+" "+ui.Words(row.Meter))
		}
	}
	out := make([]customerRow, 0, len(customers))
	for _, cust := range customers {
		row := customerRow{Customer: cust, used: used[cust.ID]}
		if sub, ok := c.Govern.ActiveSubscription(cust.ID, now); ok {
			row.plan = sub.Plan
		}
		out = append(out, row)
	}
	return out
}

// customers lists all of them by key, a page at a time, those whose key or name has a text.
func (c *console) customers(r *http.Request) (answer, error) {
	find, after := strings.TrimSpace(r.URL.Query().Get("find")), r.URL.Query().Get("after")
	c.Flush(r.Context())
	all := c.Govern.Customers()
	all = slices.DeleteFunc(slices.Clone(all), func(cust account.Customer) bool {
		lower := strings.ToLower(find)
		return cust.Key <= after || !strings.Contains(strings.ToLower(cust.Key), lower) && !strings.Contains(strings.ToLower(cust.Name), lower)
	})
	next := ""
	if len(all) > customersPage {
		all = all[:customersPage]
		next = all[customersPage-1].Key
	}
	figures, err := c.read(r.Context(), true)
	if err != nil {
		return answer{}, err
	}
	rows := c.rows(all, figures.books, c.Clock.Now())
	return answer{page: customersPageOf(c.frame(r, "Customers"), rows, find, next)}, nil
}

// denied is all refusals for the caller's side.
func (v homeView) denied() int64 {
	s := v.stats
	return s.DeniedKey + s.DeniedSubscription + s.DeniedRate + s.DeniedQuota + s.DeniedSpend +
		s.DeniedConcurrency + s.DeniedCredits + s.DeniedEntitlement + s.DeniedAbnormal + s.DeniedUnpaid
}

// last is the latest whole second.
func (v homeView) last() enforce.Rate {
	if len(v.rates) == 0 {
		return enforce.Rate{}
	}
	return v.rates[len(v.rates)-1]
}

// chart is the decisions of each of the last seconds.
func (v homeView) chart() ui.Chart {
	c := ui.Chart{Least: 1}
	var admitted, denied int64
	for _, r := range v.rates {
		admitted, denied = admitted+r.Admitted, denied+r.Denied
		c.Columns = append(c.Columns, ui.Column{
			Title: fmt.Sprintf("%s UTC: %d admitted, %d denied", ui.TimeOfDay(time.Unix(r.Second, 0), period.Zone{}), r.Admitted, r.Denied),
			Parts: []money.Decimal{money.FromInt(r.Admitted), money.FromInt(r.Denied)},
		})
	}
	c.Name = fmt.Sprintf("Decisions per second over the last %d seconds: %d admitted, %d denied. The figures stand in the table below.", len(v.rates), admitted, denied)
	return c
}

// busy are the seconds in which something was decided, newest first.
func (v homeView) busy() []enforce.Rate {
	var out []enforce.Rate
	for _, r := range slices.Backward(v.rates) {
		if r.Admitted > 0 || r.Denied > 0 {
			out = append(out, r)
		}
	}
	return out
}

// faults are the rows of the books that do not agree.
func (v homeView) faults() []books.Row {
	var out []books.Row
	for _, row := range v.books.Rows {
		if !row.Difference.IsZero() && len(out) < faultsShown {
			out = append(out, row)
		}
	}
	return out
}

// apart are those of the meters that do not add up, where what is rated is not what is metered.
func (v homeView) apart() []books.Measured {
	var out []books.Measured
	for _, m := range v.books.Apart {
		if !m.Difference.IsZero() && len(out) < faultsShown {
			out = append(out, m)
		}
	}
	return out
}

// customersAfter is the next page of the customers.
func customersAfter(find, key string) string {
	return "/customers?" + url.Values{"find": {find}, "after": {key}}.Encode()
}

// decimals is a whole number as the API writes it.
func decimals(n int64) string { return strconv.FormatInt(n, 10) }

func failing(all []export.Counted) bool {
	return slices.ContainsFunc(all, func(e export.Counted) bool { return e.State() == "failing" })
}

// exportBehind is how much an export has to tell yet.
func exportBehind(s export.Status) string {
	if s.BehindRecords == 0 && s.BehindEntries == 0 {
		return "up to date"
	}
	return ui.Int(int64(min(s.BehindRecords, 1<<62))) + " records and " + ui.Int(s.BehindEntries) + " entries behind" //nolint:gosec // bounded
}
