package chaos_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The bucket of the plan paced. It takes ten seconds to refill, longer than another server takes to lead: what is forgotten then of
// what it owes shows.
const (
	bucketRate  = 10 // a second
	bucketBurst = 100
)

// clockSlack is by how much the clocks of two gateways may differ: they read one clock, each at an instant of its own.
const clockSlack = time.Millisecond

// shipped waits until the events of all that was answered are there.
func (w *world) shipped(c *customer) {
	w.t.Helper()
	for ctx := patient(w.t); ctx.Err() == nil; w.wait(100 * time.Millisecond) {
		missing := len(c.answered)
		for _, e := range w.events(c.key) {
			if c.answered[e.ID] {
				missing--
			}
		}
		if missing <= 0 {
			return
		}
	}
}

// checkPace wants that no stretch of time admitted more than the bucket allows, by the gateways' clocks at their decisions, and
// counts the rounds in which it was asked for more than that: where the leader is killed twice, little is admitted.
func (w *world) checkPace(round int, c *customer, there []event) {
	w.t.Helper()
	f := fullest(there)
	w.t.Logf("round %d: %s answered %d, without an answer %d, upstream %d, events %d, denied %d; in its fullest stretch %d in %v of at most %d; %s",
		round, c.key, len(c.answered), c.lost, w.upstream.count(c.key), len(there), c.refused, f.admitted, f.took, f.most(), counts(c.codes))
	if f.admitted > f.most() {
		w.t.Errorf("round %d: the bucket of %d/s and %d of %s is passed: %d admitted in %v from %v on, at most %d",
			round, bucketRate, bucketBurst, c.key, f.admitted, f.took, f.from.Format(time.RFC3339Nano), f.most())
	}
	if len(there) >= bucketBurst && c.refused > 0 {
		w.paced++
	}
}

// stretch of time, from an event to another one, both included.
type stretch struct {
	from     time.Time
	took     time.Duration
	admitted int
}

// most is what the bucket allows in it.
func (s stretch) most() int {
	return bucketBurst + int(bucketRate*(s.took+clockSlack)/time.Second)
}

// beyond is what it admitted beyond what refilled in it, in the time that refills it, times the rate.
func (s stretch) beyond() time.Duration {
	return time.Duration(s.admitted)*time.Second - bucketRate*s.took
}

// fullest is the stretch that admitted the most beyond what refilled in it.
func fullest(events []event) (out stretch) {
	slices.SortFunc(events, func(a, b event) int { return a.Time.Compare(b.Time) })
	first := 0 // where the fullest that ends here begins; which of two beginnings is the better one does not depend on the end
	for last, e := range events {
		ending := func(i int) stretch { return stretch{events[i].Time, e.Time.Sub(events[i].Time), last - i + 1} }
		if ending(last).beyond() >= ending(first).beyond() {
			first = last
		}
		if s := ending(first); last == 0 || s.beyond() > out.beyond() {
			out = s
		}
	}
	return out
}

// TestFullest compares the stretch with the best of all.
func TestFullest(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var events []event
		at := time.Unix(0, 0)
		for range 1 + random.IntN(60) {
			if random.IntN(4) > 0 {
				at = at.Add(time.Duration(random.IntN(60)) * time.Millisecond)
			}
			events = append(events, event{Time: at})
		}
		best := time.Duration(-1)
		for i := range events {
			for k := range events[i:] {
				best = max(best, stretch{events[i].Time, events[i+k].Time.Sub(events[i].Time), k + 1}.beyond())
			}
		}
		random.Shuffle(len(events), func(i, k int) { events[i], events[k] = events[k], events[i] })
		if got := fullest(events); got.beyond() != best {
			t.Errorf("seed %d: %+v, %v beyond what refills, not the best, %v", seed, got, got.beyond(), best)
		}
	}
}
