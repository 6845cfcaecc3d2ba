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

// converge waits until every node is ready and every gateway refuses every customer for good: the whole limit can be reached.
func (w *world) converge(l *load) {
	w.t.Helper()
	ctx := patient(w.t)
	for _, n := range w.fleet.Nodes() {
		if err := n.Ready(ctx); err != nil {
			w.t.Error(err)
		}
	}
	l.fresh()
	for !l.exhausted() {
		if ctx.Err() != nil {
			for _, c := range l.customers {
				c.mu.Lock()
				w.t.Errorf("%s: after %v not every gateway refuses: answered %d of %d, refused in a row %v, %s",
					c.key, patience, len(c.answered), limits[c.plan], c.denied, counts(c.codes))
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
	limit, usage, calls := limits[c.plan], w.usage(c.key, "api_calls"), w.upstream.count(c.key)
	w.t.Logf("round %d: %s answered %d, without an answer %d, upstream %d, usage %d of %d; %s",
		round, c.key, len(c.answered), c.lost, calls, usage, limit, counts(c.codes))
	if calls > limit || len(c.answered) > limit || usage > limit {
		w.t.Errorf("round %d: the hard limit %d of %s is passed", round, limit, c.key)
	}
	if usage != limit {
		w.t.Errorf("round %d: %s can reach %d of %d", round, c.key, usage, limit)
	}
	if usage < calls || c.twice > 0 || usage-len(c.answered) > c.lost {
		w.t.Errorf("round %d: usage %d does not fit %d answers (%d twice), %d requests without one, %d calls upstream",
			round, usage, len(c.answered), c.twice, c.lost, calls)
	}
	there, listed := w.events(c.key), 0
	for id, n := range there {
		if listed += n; n != 1 {
			w.t.Errorf("round %d: event %s of %s is there %d times", round, id, c.key, n)
		}
	}
	if listed != usage {
		w.t.Errorf("round %d: %s has %d events, and usage %d", round, c.key, listed, usage)
	}
	for id := range c.answered {
		if there[id] != 1 {
			w.t.Errorf("round %d: %s was answered 200 and is there %d times", round, id, there[id])
		}
	}
}

// events lists the customer's api_calls: how often each id is there.
func (w *world) events(customer string) map[string]int {
	w.t.Helper()
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	out, cursor := map[string]int{}, ""
	for {
		var page struct {
			Items []struct{ ID string }
			Next  *string
		}
		q := url.Values{"customer": {customer}, "meter": {"api_calls"}, "limit": {"1000"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		if err := w.api(client, http.MethodGet, "/v1/events?"+q.Encode(), nil, &page); err != nil {
			w.t.Fatal(err)
		}
		for _, x := range page.Items {
			out[x.ID]++
		}
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
