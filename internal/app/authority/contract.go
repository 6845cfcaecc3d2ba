// Package authority is the one that grants quota: per customer, one lock, one truth. Gateways hold what it grants as leases and
// decide on them alone; what a gateway lacks it asks for here.
//
// A lease is a share of one counter's limit: units of a window, requests at once, or a part of a bucket (rate and burst with it).
// The shares of all holders together never pass the limit, whatever crashes, and whoever is late: a unit lease of a window that
// the records keep is durable before it is answered, and stays charged until its holder says what it was spent on.
package authority

import (
	"context"
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// What an Authority says, wrapped with what happened.
var (
	// ErrUnreachable: nobody knows whether anything was granted. Each limit's failure mode says what follows.
	ErrUnreachable = errors.New("the quota authority cannot be reached")
	// ErrEpoch: another process has taken the node over; this one must stop.
	ErrEpoch = errors.New("another run of this gateway has begun")
)

// Bounds of one call.
const (
	MaxAsks  = 128  // counters in one Draw
	MaxBacks = 4096 // leases in one Return
)

// RenewWithin is how long a call may take that renews what its node holds. The authority waits so much longer before it gives to
// others what has lapsed.
const RenewWithin = 2 * time.Second

// Authority grants leases. It is safe for concurrent use; a Holder's own locks must not be held while it is called, since it may
// ask that very holder for something back.
type Authority interface {
	// Begin durably takes the node's next epoch, and tells what the earlier ones left open. boot and at are as for store.Leases.
	Begin(ctx context.Context, node uint16, boot string, at time.Time) (Welcome, error)
	// Draw grants what it can of all asks, in their order. What is granted is durable where the kind needs it. Before anything is
	// denied, idle leases of other holders are recalled, for at most RecallMax.
	Draw(ctx context.Context, d Draw) ([]Answer, error)
	// Return tells what leases were spent on, shrinks or closes them. Repeating it is harmless.
	Return(ctx context.Context, node uint16, epoch uint32, backs []Back) error
}

// RecallMax bounds how long one Draw waits for other holders.
const RecallMax = 100 * time.Millisecond

// Welcome begins an epoch.
type Welcome struct {
	Epoch uint32
	// Open are the leases of the node's earlier epochs that were never closed. The node closes them when it knows from its spool what
	// they were spent on, or has them written off.
	Open []store.Lease
	// Alone says that no other node has a lease open: counters are the node's own until another one comes.
	Alone bool
}

// Draw asks for more on counters of one customer.
type Draw struct {
	Node           uint16
	Epoch          uint32
	CustomerID     string
	SubscriptionID string // what the gateway decides under; another one in force here is answered all the same, by the newer
	CatalogVersion int64
	Now            int64 // the gateway's business clock, microseconds
	// Seq rises with everything that the node says of a counter in its epoch, in Draws and in Backs, given back on recall or not.
	// What arrives with an older one than the newest is not acted upon. The holder for its part leaves an answer unused when it has
	// said anything of that counter since it asked, and asks again. 0: not checked.
	Seq  uint64
	Asks []Ask
}

// Ask is about one counter. Quantities are in the meter's scale.
type Ask struct {
	Counter   store.CounterKey
	WindowEnd int64 // microseconds; 0 without a window
	Kind      quota.Kind
	Limits    []string // keys of the limits that use the counter: the tightest bounds it
	Whose     quota.Whose
	// Need is the least that would help: the cost of the request at hand. Want ≥ Need is what the holder would like to have beyond
	// what it holds.
	Need, Want int64
	// Spent is what this holder's lease was spent on so far, cumulative like Answer.Granted. Above it: an actual cost that passed
	// its estimate, or what a soft limit let through.
	Spent int64
	// Of a bucket Need is what the holder's share lacks, and Rate, Per, Burst are the share that it holds. Heard is as in Back: whether
	// what is missing of the share was given away, with a debt that may never arrive, or is an addition that never came.
	Rate, Per, Burst int64
	Heard            uint64
	// Fresh: the holder has no state of the counter and takes what it is told of Base, Debt and Last as it is. One that gave a
	// counter up says so by a closed Back first, and has had the answer.
	Fresh bool
	// Open is what requests of the holder that run now have reserved on the meter outside of this counter's lease: it came into
	// use after they began. Only read with Fresh.
	Open int64
}

// Answer is the counter's lease after the call, cumulative, so that an answer that was lost does no harm. A lease that was
// closed and is taken up again counts from 0; what it was spent on before is in Base.
type Answer struct {
	Granted int64 // units that the holder may consume in all, or requests that it may have running
	// Of a bucket: the holder's share now, in a fine Per (quota.Limit.Fine). Debt, in units×Per at Last, is what came with the part
	// that was added to the share that the ask named; with a Fresh ask that is all of it. Last is on the authority's clock: a
	// holder with another one takes the instant at which the answer arrived.
	Rate, Per, Burst int64
	Debt, Last       int64
	Stamp            uint64 // of a bucket: names this answer, see Back.Heard; of all runs of the authority, as long as its clock does not go back
	Base             int64  // consumed in the window apart from this lease: other leases, reported usage, usage before there was a limit
	Ceiling          int64  // the limit's, grace included, in units; of the tightest one
	// Ceilings are those of each of Ask.Limits, in their order; nil: all are Ceiling.
	Ceilings []int64
	Shared   bool // somebody else holds, or may hold, a part
	// AskAgain and ClearsAt are set when less than Need was granted: see quota.State.
	AskAgain, ClearsAt int64
	// ValidFor bounds the use of what lives in memory only (buckets, requests at once, short windows), on the holder's monotonic
	// clock from the moment at which it sent the call. Each Draw or Return of the node renews all that it holds, if it was answered
	// without error within RenewWithin; all of it has lapsed when another run of the authority answers. What has lapsed is gone, and taken
	// up again with a Fresh ask. 0: until the window ends.
	ValidFor time.Duration
}

// Back is the state of one lease at its holder.
type Back struct {
	Counter store.CounterKey
	Kind    quota.Kind // as asked; of leases of Welcome.Open it may be 0
	Epoch   uint32     // an earlier one for leases of Welcome.Open; 0: the present
	Seq     uint64     // see Draw.Seq; 0 only of an earlier epoch, or where the node's Draws have none either
	// Heard is the Stamp of the newest answer that came into the holder's state of a bucket, now or before it lost it; 0: none. It is
	// no Seq: a Draw that comes late, or twice, to an authority that knows nothing of it any more is answered once more, and that answer's
	// debt never arrives. Where the last answer is not known to have arrived, a bucket's debt counts twice for a while.
	Heard uint64
	// Spent is cumulative. For an earlier epoch it counts from where that lease did: without store.Lease.Settled.
	Spent int64
	// Keep is what the holder keeps of the grant, cumulative like Granted: Spent ≤ Keep. Of a bucket the new share is Rate, Per,
	// Burst, and Debt at Last the debt that goes with what is given back: as of the instant of giving, which is Last. Had is the burst
	// of the share before this giving. What the authority knows of beyond it was given with a message that has not arrived, or is
	// lost at the holder: its debt is not known, and it comes back as used up.
	Keep             int64
	Rate, Per, Burst int64
	Debt, Last       int64
	Had              int64
	Closed           bool
	WrittenOff       int64 // of a closed one: charged without being known to be spent
}

// Holder is a gateway as the authority sees it. It may be asked from many goroutines, also while one of its own calls runs.
type Holder interface {
	// Recall gives back what is idle of the counters, at once: all of it but what requests in flight hold, or half of what was used
	// lately. Nothing is left out silently: a counter that is not held is answered as closed, and numbered like all else. After giving something away the
	// holder treats the counter as Shared. Epochs are named, since a newer run of the node may have begun in between.
	Recall(ctx context.Context, counters []store.CounterKey) ([]Back, error)
	// Tell says what the holder has of the counters and what it was spent on, as Keep and Spent, and gives nothing back. Buckets, and
	// counters of which it is not sure, are left out.
	Tell(ctx context.Context, counters []store.CounterKey) ([]Back, error)
	// Ship hands over all that was decided before the call, so that the journal knows it.
	Ship(ctx context.Context) error
}
