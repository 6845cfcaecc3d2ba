package chaos_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// round makes customers, fires faults under load, heals, waits until all have converged, and checks.
func (w *world) round(round int) {
	w.t.Helper()
	began := time.Now()
	l := w.load(round)
	fired := w.fire(round)
	broken := time.Since(began)
	w.converge(l)
	l.end()
	var story []string
	times := map[string]int{}
	for _, f := range fired {
		times[f.kind]++
		story = append(story, f.what)
	}
	w.t.Logf("round %d: %s", round, counts(times))
	w.t.Logf("round %d: %s", round, strings.Join(story, "; "))
	w.check(l)
	ends := map[string]int{}
	for _, n := range w.fleet.Nodes() {
		if e := n.Ends(); e > 0 {
			ends[n.Name] = e
		}
	}
	if len(ends) > 0 {
		w.t.Logf("round %d: ended by themselves since the beginning and were started again: %s", round, counts(ends))
	}
	w.t.Logf("round %d: %.1f s of faults, %.1f s in all", round, broken.Seconds(), time.Since(began).Seconds())
}

func counts(m map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s ×%d", k, m[k]))
	}
	return strings.Join(out, ", ")
}

// converge waits until every node is ready and every gateway refuses every customer for good, so that the whole limit can be
// reached, and admits the customer with a bucket again.
func (w *world) converge(l *load) {
	w.t.Helper()
	ctx := patient(w.t)
	for _, n := range w.fleet.Nodes() {
		if err := n.Ready(ctx); err != nil {
			w.t.Error(err)
		}
	}
	l.fresh()
	for !l.converged() {
		if ctx.Err() != nil {
			for _, c := range l.customers {
				c.mu.Lock()
				w.t.Errorf("%s on %s: after %v not every gateway does: answered %d of %d, since the faults %v, refused in a row %v, %s",
					c.key, c.plan, patience, len(c.answered), limits[c.plan], c.admitted, c.denied, counts(c.codes))
				c.mu.Unlock()
			}
			return
		}
		w.wait(10 * time.Millisecond)
	}
}

// check compares what the clients, the API behind the gateways and the deployment say.
func (w *world) check(l *load) {
	w.t.Helper()
	w.books()
	for _, c := range l.customers {
		w.checkCustomer(l.round, c)
	}
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	acknowledged, again := 0, 0
	for _, r := range l.receipts {
		acknowledged += len(r.ids)
		n, err := w.post(client, r)
		if err != nil {
			w.t.Errorf("round %d: %v", l.round, err)
			return
		}
		again += n
	}
	if again != acknowledged {
		w.t.Errorf("round %d: of %d acknowledged events only %d are there", l.round, acknowledged, again)
	}
	if jobs := w.usage(l.customers[0].key, "jobs"); jobs != acknowledged {
		w.t.Errorf("round %d: %d reported events were acknowledged, %d are counted", l.round, acknowledged, jobs)
	}
	w.t.Logf("round %d: reported %d events, acknowledged all, %d retries, each there once", l.round, acknowledged, l.retries)
}

func (w *world) checkCustomer(round int, c *customer) {
	w.t.Helper()
	if c.plan == "paced" { // it was asked until just now
		w.shipped(c)
	}
	usage, calls, there := w.usage(c.key, "api_calls"), w.upstream.count(c.key), w.events(c.key)
	if c.plan == "paced" {
		w.checkPace(round, c, there)
	} else {
		w.checkLimit(round, c, usage, calls)
	}
	if usage < calls || c.twice > 0 || usage-len(c.answered) > c.lost {
		w.t.Errorf("round %d: usage %d does not fit %d answers (%d twice), %d requests without one, %d calls upstream",
			round, usage, len(c.answered), c.twice, c.lost, calls)
	}
	times := map[string]int{}
	for _, e := range there {
		times[e.ID]++
	}
	for id, n := range times {
		if n != 1 {
			w.t.Errorf("round %d: event %s of %s is there %d times", round, id, c.key, n)
		}
	}
	if len(there) != usage {
		w.t.Errorf("round %d: %s has %d events, and usage %d", round, c.key, len(there), usage)
	}
	for id := range c.answered {
		if times[id] != 1 {
			w.t.Errorf("round %d: %s was answered 200 and is there %d times", round, id, times[id])
		}
	}
}

// checkLimit wants the limit of a day reached, and not passed.
func (w *world) checkLimit(round int, c *customer, usage, calls int) {
	w.t.Helper()
	limit := limits[c.plan]
	w.t.Logf("round %d: %s answered %d, without an answer %d, upstream %d, usage %d of %d; %s",
		round, c.key, len(c.answered), c.lost, calls, usage, limit, counts(c.codes))
	if calls > limit || len(c.answered) > limit || usage > limit {
		w.t.Errorf("round %d: the hard limit %d of %s is passed", round, limit, c.key)
	}
	if usage != limit {
		w.t.Errorf("round %d: %s can reach %d of %d", round, c.key, usage, limit)
	}
}

// event is one of a customer's api_calls. Its time is the instant of the gateway's decision, in microseconds.
type event struct {
	ID   string
	Time time.Time
}

// events lists the customer's api_calls.
func (w *world) events(customer string) (out []event) {
	w.t.Helper()
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	cursor := ""
	for {
		var page struct {
			Items []event
			Next  *string
		}
		q := url.Values{"customer": {customer}, "meter": {"api_calls"}, "limit": {"1000"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		if err := w.api(client, http.MethodGet, "/v1/events?"+q.Encode(), nil, &page); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, page.Items...)
		if page.Next == nil {
			return out
		}
		cursor = *page.Next
	}
}

// books wants the balance to be 0 and nothing written off.
func (w *world) books() {
	w.t.Helper()
	var books struct {
		Findings   json.RawMessage
		Difference json.Number
		WrittenOff json.Number `json:"written_off"`
	}
	w.command(&books, "books")
	if string(books.Findings) != "[]" || books.Difference != "0" || books.WrittenOff != "0" { // an answer without them is none
		w.t.Errorf("books: difference %q, written off %q, findings %s", books.Difference, books.WrittenOff, books.Findings)
	}
}

func (w *world) usage(customer, meter string) int {
	w.t.Helper()
	var usage struct{ Value json.Number }
	w.command(&usage, "usage", customer, "--meter", meter)
	n, err := usage.Value.Int64()
	if err != nil {
		w.t.Fatal(err)
	}
	return int(n)
}
