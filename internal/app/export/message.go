package export

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
)

// The types of messages.
const (
	Recorded = "tally.usage.recorded" // an event, as it was accepted
	Revised  = "tally.usage.revised"  // it has other content, or counts otherwise
	Voided   = "tally.usage.voided"   // it counts for nothing any more
	Erased   = "tally.usage.erased"   // content of events was taken away; what they count for stays
	Posted   = "tally.ledger.entry"   // a movement of money
)

// cloudEvent is a message's body: CloudEvents 1.0 in JSON, with the partitioning extension.
type cloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Time            time.Time `json:"time"`
	Subject         string    `json:"subject,omitempty"`      // the customer's id
	PartitionKey    string    `json:"partitionkey,omitempty"` // the same, as the key of what is sent
	DataContentType string    `json:"datacontenttype"`
	Data            any       `json:"data"`
}

// usageData is what a message says of an event.
type usageData struct {
	Position   uint64    `json:"position"` // of the record in the journal
	Revision   int       `json:"revision"` // 0 as recorded, then 1, 2, …
	Change     string    `json:"change"`   // recorded, amended, voided, resolved
	CustomerID string    `json:"customer_id,omitempty"`
	Event      eventData `json:"event"`
	Origin     string    `json:"origin,omitempty"` // admitted or reported; of recorded only
	RecordedAt time.Time `json:"recorded_at"`
	Backfill   string    `json:"backfill,omitempty"`
	Erased     bool      `json:"erased,omitempty"` // subject and data are gone
	Counts     []count   `json:"counts"`           // what it counts for from now on
	Actor      string    `json:"actor,omitempty"`
	Reason     string    `json:"reason,omitempty"`
}

type eventData struct {
	Source      string          `json:"source"`
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject,omitempty"`
	Time        time.Time       `json:"time"`
	Data        json.RawMessage `json:"data,omitempty"`
	TraceParent string          `json:"traceparent,omitempty"`
}

type count struct {
	CustomerID     string            `json:"customer_id"`
	Meter          string            `json:"meter"`
	Value          money.Decimal     `json:"value"`
	CatalogVersion int64             `json:"catalog_version"`
	Dimensions     map[string]string `json:"dimensions,omitempty"`
	Distinct       string            `json:"distinct,omitempty"`
}

// erasedData says that content is gone: of all records from First to Last, or, without these, of one person up to Position. Who
// that was the journal tells nobody from the order on, so Reason, which holds the request's number, is what leads there.
type erasedData struct {
	Position   uint64    `json:"position"`
	First      uint64    `json:"first,omitempty"`
	Last       uint64    `json:"last,omitempty"`
	RecordedAt time.Time `json:"recorded_at"`
	Actor      string    `json:"actor,omitempty"`
	Reason     string    `json:"reason,omitempty"`
}

type entryData struct {
	Number int64 `json:"number"` // in the order of storing
	ledger.Entry
}

// leaf is a record of the journal as it is kept until it is told.
type leaf struct {
	seal.Head
	seal.Content
	erased bool
}

// readLeaf copies what is told of a record; tells is false when nothing is.
func readLeaf(l store.Leaf) (r leaf, tells bool, err error) {
	if len(l.Head) == 0 {
		return r, false, fmt.Errorf("record %d has no head: %w", l.Position, store.ErrCorrupt)
	}
	switch l.Head[0] {
	case seal.KindEvent, seal.KindAmend, seal.KindVoid, seal.KindResolve, seal.KindErasure:
	default: // batches, flags, cuts and seals change nothing that is told
		return r, false, nil
	}
	if r.Head, err = seal.ParseHead(l.Head); err != nil {
		return r, false, fmt.Errorf("record %d: %w: %w", l.Position, store.ErrCorrupt, err)
	}
	if r.Content, err = seal.ParsePayload(l.Payload); err != nil {
		return r, false, fmt.Errorf("record %d: %w: %w", l.Position, store.ErrCorrupt, err)
	}
	r.Data = append([]byte(nil), r.Data...)
	r.Digest, r.Document = nil, nil // they point into the journal's memory
	r.erased = l.Commitment != nil
	return r, true, nil
}

func (s *Service) message(id, kind, customer string, at time.Time, data any) (store.Message, error) {
	body, err := json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: id, Source: s.cfg.Source, Type: kind, Time: at, Subject: customer, PartitionKey: customer,
		DataContentType: "application/json", Data: data,
	})
	if err != nil {
		return store.Message{}, fmt.Errorf("message %s: %w", id, err)
	}
	return store.Message{ID: id, Type: kind, Key: customer, Body: body}, nil
}

// usageID names what happened to an event: the same for ever, in every export, also when the journal was moved to another store.
func usageID(source, id string, revision int) string {
	return "usage/" + url.PathEscape(source) + "/" + url.PathEscape(id) + "/" + strconv.Itoa(revision)
}

func counts(all []meter.Resolution) []count {
	out := make([]count, len(all))
	for i, r := range all {
		out[i] = count{CustomerID: r.CustomerID, Meter: r.Meter, Value: r.Value, CatalogVersion: r.CatalogVersion, Distinct: r.Distinct}
		for _, d := range r.Dimensions {
			if out[i].Dimensions == nil {
				out[i].Dimensions = map[string]string{}
			}
			out[i].Dimensions[d.Name] = d.Value
		}
	}
	return out
}

// told is one message for each customer that an event counts for, or did before. Where it is nobody's, its source is the key.
func (s *Service) told(kind string, d usageData, at time.Time, now, before []meter.Resolution) ([]store.Message, error) {
	d.Counts = counts(now)
	id := usageID(d.Event.Source, d.Event.ID, d.Revision)
	customers := customersOf(now, before)
	if len(customers) == 0 {
		customers = append(customers, "")
	}
	var out []store.Message
	for i, c := range customers {
		this := id
		if i > 0 {
			this += "/" + c
		}
		d.CustomerID = c
		m, err := s.message(this, kind, c, at, d)
		if err != nil {
			return nil, err
		}
		if c == "" {
			m.Key = d.Event.Source
		}
		out = append(out, m)
	}
	return out, nil
}

func customersOf(lists ...[]meter.Resolution) (all []string) {
	seen := map[string]bool{}
	for _, list := range lists {
		for _, r := range list {
			if !seen[r.CustomerID] {
				seen[r.CustomerID] = true
				all = append(all, r.CustomerID)
			}
		}
	}
	return all
}

func (s *Service) recorded(r *leaf) ([]store.Message, error) {
	d := usageData{
		Position: r.Position, Change: "recorded", RecordedAt: r.ReceivedAt, Backfill: r.Unit, Erased: r.erased, Origin: "reported",
		Event: eventData{Source: r.Source, ID: r.ID, Type: r.Type, Subject: r.Subject, Time: r.Time, Data: r.Data, TraceParent: r.Trace},
	}
	if r.Origin == meter.Admitted {
		d.Origin = "admitted"
	}
	return s.told(Recorded, d, r.Time, r.Resolutions, nil)
}

// revised tells the revision at a position. history is the event's, oldest first; erased: the event's own content is gone.
func (s *Service) revised(r *leaf, history []store.Revised, erased bool) ([]store.Message, error) {
	for i := 1; i < len(history); i++ {
		h := &history[i]
		if h.Position != r.Position {
			continue
		}
		d := usageData{
			Position: r.Position, Revision: i, RecordedAt: h.At, Actor: h.Actor, Reason: h.Reason, Erased: r.erased || erased,
			Event: eventData{
				Source: h.Event.Source, ID: h.Event.ID, Type: h.Event.Type, Subject: h.Event.Subject, Time: h.Event.Time, Data: h.Event.Data,
				TraceParent: h.Event.TraceParent,
			},
		}
		kind := Revised
		switch h.Kind {
		case store.Amend:
			d.Change = "amended"
		case store.Resolve:
			d.Change = "resolved"
		case store.Void:
			d.Change, kind = "voided", Voided
		}
		return s.told(kind, d, h.At, h.Resolutions, before(history[:i]))
	}
	return nil, fmt.Errorf("record %d revises an event whose history does not have it: %w", r.Position, store.ErrCorrupt)
}

// before is what an event counted for last. What counted before a void is told again by what follows it.
func before(history []store.Revised) []meter.Resolution {
	last := history[len(history)-1]
	if last.Kind == store.Void && len(history) > 1 {
		return before(history[:len(history)-1])
	}
	return last.Resolutions
}

func (s *Service) erasure(r *leaf) (store.Message, error) {
	id := "erasure/" + strconv.FormatUint(r.Position, 10)
	return s.message(id, Erased, "", r.ReceivedAt, erasedData{
		Position: r.Position, First: r.First, Last: r.Last, RecordedAt: r.ReceivedAt, Actor: r.Actor, Reason: r.Reason,
	})
}

func (s *Service) posted(e store.NumberedEntry) (store.Message, error) {
	return s.message("ledger/"+e.Key, Posted, e.CustomerID, e.At, entryData{e.Number, e.Entry})
}
