// Package wire has the messages between a server and its gateways: JSON, bounded, of one protocol version. docs/many-gateways.md
// describes the exchange.
package wire

import (
	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Protocol is the version that both ends must have.
const Protocol = 2

// Bounds of bodies and of lines of the stream, in bytes.
const (
	CallMax  = 4 << 20
	BatchMax = 64 << 20
	LineMax  = 32 << 20
	// EventsMax bounds the events that one call asks about.
	EventsMax = 1000
)

// RunHeader names the run of the server that answers. Another run knows nothing of what was leased in memory only.
const RunHeader = "Tally-Run"

// Prefix is what the paths of all calls begin with.
const Prefix = "/v1/nodes/"

// Paths of the calls; all are POST but the stream and catalogs.
const (
	PathJoin    = "/v1/nodes/join"
	PathBegin   = "/v1/nodes/begin"
	PathDraw    = "/v1/nodes/draw"
	PathDraws   = "/v1/nodes/draws" // many in one call; the answers are lines, each as soon as it is known
	PathReturn  = "/v1/nodes/return"
	PathBatches = "/v1/nodes/batches"
	PathPast    = "/v1/nodes/past"
	PathAnswers = "/v1/nodes/answers"
	PathBeat    = "/v1/nodes/beat"
	PathLeave   = "/v1/nodes/leave"
	PathStream  = "/v1/nodes/stream"
	PathCatalog = "/v1/nodes/catalogs/" // and a version
)

// Join begins everything: it registers the key that the gateway signs with.
type Join struct {
	Protocol int    `json:"protocol"`
	Public   []byte `json:"public"` // Ed25519
	Version  string `json:"version"`
}

// Joined is what a gateway may know.
type Joined struct {
	Protocol int    `json:"protocol"`
	Node     uint16 `json:"node"`
	Name     string `json:"name"`
	Mode     string `json:"mode"`
	Pepper   []byte `json:"pepper"` // digests of API keys are made with it
	Now      int64  `json:"now"`    // business time, microseconds
}

// Begin takes the next epoch.
type Begin struct {
	Boot string `json:"boot"`
	At   int64  `json:"at"` // the gateway's own clock, microseconds
}

// Begun is the epoch, and the decision key of this node and epoch alone.
type Begun struct {
	Welcome
	KeyNumber byte   `json:"key_number"`
	Subkey    []byte `json:"subkey"`
}

// Fault is an error's answer.
type Fault struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Codes of faults, beside the problem codes of the API.
const (
	CodeEpoch    = "epoch"       // another run has begun
	CodeRefused  = "refused"     // a batch that will never be taken
	CodeConflict = "conflict"    // of the store
	CodeFull     = "store_full"  // of the store
	CodeNotFound = "not_found"   //
	CodeInvalid  = "invalid"     //
	CodeProtocol = "protocol"    // of another version
	CodeAway     = "unavailable" // try again
	CodeToken    = "token_unknown"
	CodeRevoked  = "token_revoked"
	CodeCert     = "certificate_missing"
)

// Message is one line of the stream; one field is set.
type Message struct {
	Hello *Hello `json:"hello,omitempty"` // the first one
	Reset bool   `json:"reset,omitempty"` // everything follows, up to a done
	Facts *Facts `json:"facts,omitempty"`
	Done  *Done  `json:"done,omitempty"`
	Call  *Call  `json:"call,omitempty"`
	Beat  *Beat  `json:"beat,omitempty"`
}

// Hello says whose stream it is.
type Hello struct {
	Session string `json:"session"` // to be repeated in answers and beats
	Run     string `json:"run"`     // of the server; revisions of another one mean nothing
	Now     int64  `json:"now"`     // business time, microseconds
}

// Done says up to which change the picture is complete.
type Done struct {
	Revision uint64 `json:"revision"`
}

// Beat keeps the stream alive.
type Beat struct {
	Now int64 `json:"now"` // business time, microseconds
}

// What a server asks of a gateway.
const (
	CallRecall  = "recall"  // give back what is idle of the counters
	CallTell    = "tell"    // what is held of the counters, and what it was spent on
	CallShip    = "ship"    // hand over what was decided
	CallSettle  = "settle"  // the same, when all that was decided before At has ended
	CallAdvance = "advance" // business time is At
	CallCounted = "counted" // usage of Customers was reported from outside; no answer is waited for
	CallMove    = "move"    // another server takes over: calls may take a moment longer. No answer
	CallHeld    = "held"    // do something with an explicit reservation that the gateway has
)

// Call asks something of a gateway; it is answered by Answer.
type Call struct {
	ID        uint64    `json:"id"`
	What      string    `json:"what"`
	Counters  []Counter `json:"counters,omitempty"`
	Customers []string  `json:"customers,omitempty"`
	At        int64     `json:"at,omitempty"` // microseconds

	Held *enforce.HeldCall `json:"held,omitempty"`
}

// Answers are a gateway's.
type Answers struct {
	Session string   `json:"session"`
	Answers []Answer `json:"answers"`
}

// Answer is one call's.
type Answer struct {
	ID    uint64 `json:"id"`
	Backs []Back `json:"backs,omitempty"`
	Error string `json:"error,omitempty"`
	Held  *Held  `json:"held,omitempty"`
}

// State is what a gateway tells of itself, with each beat.
type State struct {
	Session  string `json:"session"`
	Epoch    uint32 `json:"epoch"`
	Revision uint64 `json:"revision"`
	Now      int64  `json:"now"` // its business time, microseconds
	Spool    int64  `json:"spool_bytes"`
	Lag      int64  `json:"spool_lag_bytes"`
	Open     int64  `json:"open"` // requests that run
	Version  string `json:"version"`
}

// Leave says that a gateway is about to go: no call about its explicit reservations is made any more when it is answered.
type Leave struct {
	Session string `json:"session"`
}

// Past asks for what the journal knows.
type Past struct {
	Events   []string `json:"events,omitempty"` // ids of the gateway's own
	Customer string   `json:"customer,omitempty"`
	Meter    string   `json:"meter,omitempty"`
	From, To int64    `json:",omitempty"` // microseconds; To 0: no end
}

// PastAnswer answers it.
type PastAnswer struct {
	Known []bool `json:"known,omitempty"` // of each of Events
	Used  string `json:"used"`            // decimal
}

// Counter is a store.CounterKey; its window may be none.
type Counter struct {
	store.CounterKey
	Window uint8
}

// CounterOf makes one.
func CounterOf(k store.CounterKey) Counter { return Counter{k, uint8(k.Window)} }

// Key is the way back.
func (c Counter) Key() store.CounterKey {
	k := c.CounterKey
	k.Window = period.Window(c.Window)
	return k
}

// each makes a list of another type.
func each[A, B any](list []A, f func(A) B) []B {
	if list == nil {
		return nil
	}
	out := make([]B, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

// Counters makes a list.
func Counters(list []store.CounterKey) []Counter { return each(list, CounterOf) }

// Keys is the way back.
func Keys(list []Counter) []store.CounterKey { return each(list, Counter.Key) }

// Back is an authority.Back.
type Back struct {
	authority.Back
	Counter Counter
}

// BacksOf makes a list.
func BacksOf(list []authority.Back) []Back {
	return each(list, func(b authority.Back) Back { return Back{b, CounterOf(b.Counter)} })
}

// Backs is the way back.
func Backs(list []Back) []authority.Back {
	return each(list, func(b Back) authority.Back {
		b.Back.Counter = b.Counter.Key()
		return b.Back
	})
}

// Return is what a gateway gives back.
type Return struct {
	Epoch uint32
	Backs []Back
}

// Ask is an authority.Ask.
type Ask struct {
	authority.Ask
	Counter Counter
}

// Draw is an authority.Draw. Its node is that of the token.
type Draw struct {
	authority.Draw
	Asks []Ask
}

// DrawOf makes one.
func DrawOf(d authority.Draw) Draw {
	return Draw{d, each(d.Asks, func(a authority.Ask) Ask { return Ask{a, CounterOf(a.Counter)} })}
}

// DrawsMax bounds the draws of one call.
const DrawsMax = 256

// Drawn answers one draw of many.
type Drawn struct {
	N       int                // which of them, from 0
	Answers []authority.Answer `json:",omitempty"`
	Status  int                `json:",omitempty"` // as of an HTTP answer; with a fault only
	Fault   *Fault             `json:",omitempty"`
}

// Value is the way back.
func (d Draw) Value() authority.Draw {
	out := d.Draw
	out.Asks = each(d.Asks, func(a Ask) authority.Ask {
		a.Ask.Counter = a.Counter.Key()
		return a.Ask
	})
	return out
}

// Lease is a store.Lease.
type Lease struct {
	store.Lease
	Window uint8
}

// Welcome is an authority.Welcome.
type Welcome struct {
	authority.Welcome
	Open []Lease
}

// WelcomeOf makes one.
func WelcomeOf(w authority.Welcome) Welcome {
	return Welcome{w, each(w.Open, func(l store.Lease) Lease { return Lease{l, uint8(l.Window)} })}
}

// Value is the way back.
func (w Welcome) Value() authority.Welcome {
	out := w.Welcome
	out.Open = each(w.Open, func(l Lease) store.Lease {
		l.Lease.Window = period.Window(l.Window)
		return l.Lease
	})
	return out
}

// Customer is an account.Customer.
type Customer struct {
	account.Customer
	Zone string
}

// Key is an account.APIKey.
type Key struct {
	account.APIKey
	Digest []byte
}

// Picture is a govern.Picture.
type Picture struct {
	govern.Picture
	Customer Customer
}

// Facts are govern.Facts.
type Facts struct {
	Catalogs []store.CatalogVersion `json:"catalogs,omitempty"`
	Pictures []Picture              `json:"pictures,omitempty"`
	Keys     []Key                  `json:"keys,omitempty"`
}

// FactsOf makes them.
func FactsOf(f govern.Facts) *Facts {
	return &Facts{
		Catalogs: f.Catalogs,
		Pictures: each(f.Pictures, func(p govern.Picture) Picture {
			return Picture{p, Customer{p.Customer, p.Customer.Zone.String()}}
		}),
		Keys: each(f.Keys, func(k account.APIKey) Key { return Key{k, k.Digest[:]} }),
	}
}

// Zones loads each zone once. It is owned by one goroutine and bounded by the zones that there are.
type Zones map[string]period.Zone

func (z Zones) load(name string) (period.Zone, error) {
	if zone, ok := z[name]; ok {
		return zone, nil
	}
	zone, err := period.LoadZone(name)
	if err == nil {
		z[name] = zone
	}
	return zone, err
}

// Value is the way back.
func (f *Facts) Value(zones Zones) (out govern.Facts, err error) {
	out.Catalogs = f.Catalogs
	for _, p := range f.Pictures {
		v := p.Picture
		v.Customer = p.Customer.Customer
		if v.Customer.Zone, err = zones.load(p.Customer.Zone); err != nil {
			return out, err
		}
		out.Pictures = append(out.Pictures, v)
	}
	for _, k := range f.Keys {
		v := k.APIKey
		copy(v.Digest[:], k.Digest)
		out.Keys = append(out.Keys, v)
	}
	return out, nil
}
