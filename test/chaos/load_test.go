package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of the load.
const (
	connections = 6  // of each customer with a limit of a day to each gateway
	paceMakers  = 3  // connections of the customer with a bucket: enough for one gateway alone to ask for more than it refills
	batch       = 10 // events of a report
	reporters   = 3
	forGood     = 3 * time.Second  // of refusals at a gateway: one may stand for a second though others give back what they held
	reportWait  = 20 * time.Second // for a receipt; servers hold requests while nobody leads
)

// customer of one round.
type customer struct {
	key, plan, secret string

	mu       sync.Mutex      // guards all below
	answered map[string]bool // event ids of answers 200
	twice    int
	lost     int                  // requests without an answer
	codes    map[string]int       // of all other answers
	denied   map[string]int       // 429 in a row, by gateway
	since    map[string]time.Time // of the first of them
	refused  int                  // 429 in all
	admitted map[string]int       // 200 since the faults ended, by gateway
}

// connections is how many the customer has to each gateway.
func (c *customer) connections() int {
	if c.plan == "paced" {
		return paceMakers
	}
	return connections
}

// report is a batch that was sent until its receipt came.
type report struct {
	customer string
	ids      []string
}

// load keeps all customers busy through all gateways, and reports events with known ids.
type load struct {
	w         *world
	round     int
	customers []*customer
	stop      chan struct{}
	hurry     atomic.Bool // no rest between requests
	wg        sync.WaitGroup

	mu       sync.Mutex // guards all below
	receipts []report
	retries  int
}

func (w *world) load(round int) *load {
	l := &load{w: w, round: round, stop: make(chan struct{})}
	for i, plan := range []string{"tight", "tight", "wide", "paced"} {
		c := &customer{
			key: fmt.Sprintf("round-%d-%d", round, i+1), plan: plan, answered: map[string]bool{}, codes: map[string]int{},
			denied: map[string]int{}, since: map[string]time.Time{}, admitted: map[string]int{},
		}
		var ignored any
		var made struct{ Secret string }
		w.command(&ignored, "customers", "create", c.key, "--zone", noonZone(time.Now()))
		w.command(&ignored, "subscriptions", "create", c.key, plan)
		w.command(&made, "keys", "create", c.key)
		c.secret = made.Secret
		l.customers = append(l.customers, c)
	}
	for _, n := range w.fleet.Gateways {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4 * connections, DisableCompression: true}, Timeout: patience}
		w.t.Cleanup(client.CloseIdleConnections)
		for _, c := range l.customers {
			for range c.connections() {
				l.wg.Go(func() { l.call(c, n.Name, "http://"+n.Door+"/hello", client) })
			}
		}
	}
	for i := range reporters {
		l.wg.Go(func() { l.report(i) })
	}
	return l
}

// call sends requests until the load stops.
func (l *load) call(c *customer, gate, url string, client *http.Client) {
	for {
		rest := c.note(gate, ask(client, url, c.secret))
		if !l.hurry.Load() {
			rest += 30 * time.Millisecond
		}
		select {
		case <-l.stop:
			return
		case <-time.After(rest):
		}
	}
}

// answer is what became of a request.
type answer struct {
	status      int
	event, code string
	err         error
}

func ask(client *http.Client, url, secret string) (a answer) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	a.event, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Decision-Id"), "dec_"), ".")
	body, err := io.ReadAll(resp.Body)
	if a.status == http.StatusOK {
		return a // the client has seen it, body or not
	}
	var p struct{ Code string }
	a.err = errors.Join(err, json.Unmarshal(body, &p))
	a.code = p.Code
	return a
}

// note counts an answer, and says how long to wait before the next request.
func (c *customer) note(gate string, a answer) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case a.err != nil:
		c.lost++
		c.denied[gate] = 0
		return 50 * time.Millisecond
	case a.status == http.StatusOK:
		if c.answered[a.event] {
			c.twice++
		}
		c.answered[a.event] = true
		c.admitted[gate]++
		c.denied[gate] = 0
		return 0
	case a.status == http.StatusTooManyRequests:
		if c.denied[gate] == 0 {
			c.since[gate] = time.Now()
		}
		c.denied[gate]++
		c.refused++
	default:
		c.denied[gate] = 0
	}
	c.codes[a.code]++
	return 20 * time.Millisecond
}

// converged says whether every gateway refuses every customer with a limit of a day for good, and admits the one with a bucket.
func (l *load) converged() bool {
	for _, c := range l.customers {
		for _, n := range l.w.fleet.Gateways {
			if !c.converged(n.Name) {
				return false
			}
		}
	}
	return true
}

func (c *customer) converged(gate string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.plan == "paced" {
		return c.admitted[gate] > 0
	}
	return c.denied[gate] >= 3*connections && time.Since(c.since[gate]) >= forGood
}

// fresh forgets answers of the time of the faults, and hurries.
func (l *load) fresh() {
	l.hurry.Store(true)
	for _, c := range l.customers {
		c.mu.Lock()
		clear(c.denied)
		clear(c.admitted)
		c.mu.Unlock()
	}
}

// report sends batches one after the other, each until it has its receipt, and ends with a receipt.
func (l *load) report(reporter int) {
	client := &http.Client{Timeout: reportWait, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		r := report{customer: l.customers[0].key}
		for i := range batch {
			r.ids = append(r.ids, fmt.Sprintf("%d-%d-%d-%d", l.round, reporter, n, i))
		}
		began := time.Now()
		for {
			_, err := l.w.post(client, r)
			if err == nil {
				break
			}
			if time.Since(began) > patience {
				l.w.t.Errorf("no receipt for %v: %v", patience, err)
				return
			}
			l.mu.Lock()
			l.retries++
			l.mu.Unlock()
			client.CloseIdleConnections() // perhaps to another server
			<-time.After(100 * time.Millisecond)
		}
		l.mu.Lock()
		l.receipts = append(l.receipts, r)
		l.mu.Unlock()
		select {
		case <-l.stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// post reports a batch to whichever server the balancer chooses. Without an error every event of it is acknowledged.
func (w *world) post(client *http.Client, r report) (duplicates int, err error) {
	var events []map[string]string
	for _, id := range r.ids {
		events = append(events, map[string]string{"specversion": "1.0", "source": "chaos", "id": id, "type": "job", "subject": r.customer})
	}
	body, err := json.Marshal(events)
	if err != nil {
		return 0, err
	}
	var receipt struct{ Accepted, Duplicate int }
	if err := w.api(client, http.MethodPost, "/v1/events", body, &receipt); err != nil {
		return 0, err
	}
	if receipt.Accepted+receipt.Duplicate != len(r.ids) {
		return 0, fmt.Errorf("a receipt for %d + %d of %d events", receipt.Accepted, receipt.Duplicate, len(r.ids))
	}
	return receipt.Duplicate, nil
}

// api asks any server.
func (w *world) api(client *http.Client, method, path string, body []byte, v any) error {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+w.fleet.API.Addr+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+w.fleet.Token)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/cloudevents-batch+json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	return json.Unmarshal(text, v)
}

func (l *load) end() {
	close(l.stop)
	l.wg.Wait()
}
