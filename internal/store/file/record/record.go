// Package record is the form of a journal record: encoded so that it has one spelling only, can be read alone, and grows by
// fields that an older reader skips. docs/formats/journal.md describes it.
package record

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
)

// Kind says what a record is.
type Kind uint8

// The kinds. Backfill is reserved: a reader refuses it, since leaving it out would make its figures wrong.
const (
	KindEvent    Kind = iota + 1
	KindBatch         // what was appended together: it stands before its events
	KindMark          // adds flags to an event
	KindCut           // splits a customer's buckets
	KindAmend         // gives an event other content, and what it counts for
	KindVoid          // makes an event count for nothing
	KindBackfill      // reserved
	KindSeal          // a document that the tree commits to
	KindErasure       // took the payload of records away; they name it
	KindResolve       // says what an event counts for now
)

// Reference points at another record: of amend, void and resolve, at the event.
type Reference struct {
	Target        uint64 // position
	Reason, Actor string
}

// Record is a decoded record of the log. Which fields a kind uses is in docs/formats/journal.md.
type Record struct {
	Kind       Kind
	Position   uint64
	Flags      store.Flags
	ReceivedAt time.Time

	// An event; a mark uses source, id and Flags.
	Event       meter.Event
	Origin      meter.Origin
	Digest      [16]byte
	Resolutions []meter.Resolution
	Receipt     []byte
	KeyID       string

	// A batch.
	Producer    string
	Node        uint16
	Epoch       uint32
	First, Last uint64
	Totals      []store.AdmittedTotal

	// A cut; its instant is Event.Time.
	CustomerID string

	Signature []byte // over the batch, by SignerKey
	SignerKey string
	// An amend, void or resolve; of an amend also the type, subject, data and digest of Event, and Resolutions.
	Reference *Reference
	Unit      string // of an event: the backfill that it belongs to
	Document  []byte // of a seal
	Command   uint64 // number of the call that wrote it in an ordered log outside, on the first record of the call; 0: none
	// What an erasure leaves behind.
	Commitment []byte // to the payload section, kept when that is erased
	Erased     uint64 // position of the record that erased the payload section
	Salt       []byte

	// Fields of later writers, kept as they are.
	HeadExt, PayloadExt []byte
}

// Head fields. Later versions only add higher tags.
const (
	headFlags = iota + 1
	headOrigin
	headReceived
	headTime
	headSource
	headID
	headType
	headDigest
	headResolution
	headProducer
	headNode
	headEpoch
	headFirst
	headLast
	headTotal
	headCustomer
	headReference
	headSignature
	headSigner
	headCommitment
	headErased
	headDistinct
	headUnit
	headDocument
	headCommand
	headKnown = headCommand
)

// Payload fields: what erasure takes away.
const (
	payloadSubject = iota + 1
	payloadData
	payloadTrace
	payloadReceipt
	payloadKey
	payloadSalt
	payloadKnown = payloadSalt
)

// headEnd stands between head and payload; no field has this key.
const headEnd = 0

// A record in the log: length of the body (4 bytes, little endian), CRC-32C over length and body, body.
// The body begins with kind and position.
const (
	HeaderSize = 8
	BodyMin    = 1 + 8 + 1
	BodyMax    = 16 << 20

	positionOffset = HeaderSize + 1
)

// Append writes the record with its length. Seal writes position and checksum once they are known.
func (r *Record) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0, byte(r.Kind))
	dst = binary.LittleEndian.AppendUint64(dst, r.Position)
	dst = r.appendHead(dst)
	dst = append(dst, headEnd)
	dst = appendBytes(dst, payloadSubject, r.Event.Subject)
	dst = appendBytes(dst, payloadData, r.Event.Data)
	dst = appendBytes(dst, payloadTrace, r.Event.TraceParent)
	dst = appendBytes(dst, payloadReceipt, r.Receipt)
	dst = appendBytes(dst, payloadKey, r.KeyID)
	dst = appendBytes(dst, payloadSalt, r.Salt)
	dst = append(dst, r.PayloadExt...)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-HeaderSize))
	return dst
}

// Seal gives an encoded record its position and checksum.
func Seal(rec []byte, position uint64) {
	binary.LittleEndian.PutUint64(rec[positionOffset:], position)
	binary.LittleEndian.PutUint32(rec[4:], Checksum(rec[:4], rec[HeaderSize:]))
}

func (r *Record) appendHead(dst []byte) []byte {
	dst = appendUint(dst, headFlags, uint64(r.Flags))
	dst = appendUint(dst, headOrigin, uint64(r.Origin))
	dst = appendInt(dst, headReceived, r.ReceivedAt.UnixMicro())
	dst = appendInt(dst, headTime, r.Event.Time.UnixMicro())
	dst = appendBytes(dst, headSource, r.Event.Source)
	dst = appendBytes(dst, headID, r.Event.ID)
	dst = appendBytes(dst, headType, r.Event.Type)
	if r.Digest != [16]byte{} {
		dst = appendBytes(dst, headDigest, r.Digest[:])
	}
	for i := range r.Resolutions {
		dst = appendNested(dst, headResolution, func(dst []byte) []byte { return appendResolution(dst, &r.Resolutions[i]) })
	}
	dst = appendBytes(dst, headProducer, r.Producer)
	dst = appendUint(dst, headNode, uint64(r.Node))
	dst = appendUint(dst, headEpoch, uint64(r.Epoch))
	dst = appendUint(dst, headFirst, r.First)
	dst = appendUint(dst, headLast, r.Last)
	for i := range r.Totals {
		dst = appendNested(dst, headTotal, func(dst []byte) []byte { return appendTotal(dst, &r.Totals[i]) })
	}
	dst = appendBytes(dst, headCustomer, r.CustomerID)
	if ref := r.Reference; ref != nil {
		dst = appendNested(dst, headReference, func(dst []byte) []byte {
			dst = binary.AppendUvarint(dst, ref.Target)
			return appendSized(appendSized(dst, ref.Reason), ref.Actor)
		})
	}
	dst = appendBytes(dst, headSignature, r.Signature)
	dst = appendBytes(dst, headSigner, r.SignerKey)
	dst = appendBytes(dst, headCommitment, r.Commitment)
	dst = appendUint(dst, headErased, r.Erased)
	for i := range r.Resolutions {
		if text := r.Resolutions[i].Distinct; text != "" {
			dst = appendNested(dst, headDistinct, func(dst []byte) []byte {
				return appendSized(binary.AppendUvarint(dst, uint64(i)), text)
			})
		}
	}
	dst = appendBytes(dst, headUnit, r.Unit)
	dst = appendBytes(dst, headDocument, r.Document)
	dst = appendUint(dst, headCommand, r.Command)
	return append(dst, r.HeadExt...)
}

func appendResolution(dst []byte, r *meter.Resolution) []byte {
	dst = appendSized(appendSized(dst, r.CustomerID), r.Meter)
	dst = binary.AppendUvarint(dst, zigzag(r.CatalogVersion))
	dst = appendSized(dst, r.Value.String())
	dst = binary.AppendUvarint(dst, uint64(len(r.Dimensions)))
	for _, d := range r.Dimensions {
		dst = appendSized(appendSized(dst, d.Name), d.Value)
	}
	return dst
}

func appendTotal(dst []byte, t *store.AdmittedTotal) []byte {
	dst = appendSized(appendSized(dst, t.CustomerID), t.Meter)
	dst = binary.AppendUvarint(dst, zigzag(t.PeriodStart))
	return appendSized(dst, t.Total.String())
}

// Split calls each for the records of a frame's payload with their offset in it, after checking them.
func Split(payload []byte, each func(offset int, body []byte) error) error {
	for at := 0; at < len(payload); {
		rest := payload[at:]
		if len(rest) < HeaderSize+BodyMin {
			return fmt.Errorf("%w: a record has no end", ErrMalformed)
		}
		size := int(binary.LittleEndian.Uint32(rest))
		if size < BodyMin || size > min(BodyMax, len(rest)-HeaderSize) {
			return fmt.Errorf("%w: a record has a bad length", ErrMalformed)
		}
		body := rest[HeaderSize : HeaderSize+size]
		if Checksum(rest[:4], body) != binary.LittleEndian.Uint32(rest[4:]) {
			return fmt.Errorf("%w: checksum of a record", ErrMalformed)
		}
		if err := each(at, body); err != nil {
			return err
		}
		at += HeaderSize + size
	}
	return nil
}

// Body is the body of an encoded record, whatever stands behind it.
func Body(buf []byte) []byte {
	return buf[HeaderSize:][:binary.LittleEndian.Uint32(buf)]
}
