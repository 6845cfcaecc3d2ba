// Package receive takes the gateways' batches to the journal. A Sender signs and numbers them at the gateway's end; a Receiver
// checks them at the journal's: forged, foreign and missing batches are refused and kept as findings, repeated ones have no
// effect. What a gateway signs is described in docs/formats/gateway-batches.md.
package receive

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

// domain keeps a batch's signature from passing as anything else's.
const domain = "tallystick gateway batch\x00"

const (
	signatureVersion = 1
	headBytes        = 1 + 4 + 8 + 8 + 8 // version, epoch, sequence, from, to
	// SignatureBytes is the length of store.Batch.Signature: the head of the statement and an Ed25519 signature.
	SignatureBytes = headBytes + ed25519.SignatureSize
)

var errStatement = errors.New("malformed signature")

// Statement is what a gateway says of a batch besides its content.
type Statement struct {
	Node     uint16
	Epoch    uint32 // the run that sends it; the batch's own epoch is that of its totals
	Sequence uint64 // from 1 in each run
	From, To int64  // the offsets of the spool that the batch stands for: all that was settled there is in it
}

// KeyIDOf names a public key.
func KeyIDOf(public [ed25519.PublicKeySize]byte) string {
	sum := sha256.Sum256(public[:])
	return account.FormatID("gwk", [16]byte(sum[:16]))
}

// Signer signs a gateway node's batches.
type Signer struct {
	key ed25519.PrivateKey
	id  string
}

// NewSigner takes the 32 bytes of secrets/gateway.key.
func NewSigner(seed []byte) (*Signer, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("receive: the gateway's key has %d bytes, not %d", len(seed), ed25519.SeedSize)
	}
	s := &Signer{key: ed25519.NewKeyFromSeed(seed)}
	s.id = KeyIDOf(s.Public())
	return s, nil
}

// Public is the key that verifies.
func (s *Signer) Public() (public [ed25519.PublicKeySize]byte) {
	copy(public[:], s.key[ed25519.SeedSize:])
	return public
}

// Sign sets the batch's Signature and KeyID.
func (s *Signer) Sign(st Statement, b *store.Batch) {
	head := st.head(make([]byte, 0, SignatureBytes))
	b.Signature = append(head, ed25519.Sign(s.key, message(st, b))...)
	b.KeyID = s.id
}

func (st Statement) head(dst []byte) []byte {
	dst = append(dst, signatureVersion)
	dst = binary.BigEndian.AppendUint32(dst, st.Epoch)
	dst = binary.BigEndian.AppendUint64(dst, st.Sequence)
	dst = binary.BigEndian.AppendUint64(dst, uint64(st.From))
	return binary.BigEndian.AppendUint64(dst, uint64(st.To))
}

// StatementOf reads what a batch's signature says; Verify says whether it is true.
func StatementOf(b *store.Batch) (st Statement, err error) {
	if len(b.Signature) != SignatureBytes || b.Signature[0] != signatureVersion {
		return st, fmt.Errorf("%w: %d bytes", errStatement, len(b.Signature))
	}
	s := b.Signature[1:]
	st = Statement{
		Node: b.Node, Epoch: binary.BigEndian.Uint32(s), Sequence: binary.BigEndian.Uint64(s[4:]),
		From: int64(binary.BigEndian.Uint64(s[12:])), To: int64(binary.BigEndian.Uint64(s[20:])),
	}
	if st.Sequence == 0 || st.Sequence >= 1<<63 || st.From < 0 || st.To < st.From {
		return st, fmt.Errorf("%w: sequence %d from %d to %d", errStatement, st.Sequence, st.From, st.To)
	}
	return st, nil
}

// Verify says whether the holder of a key signed the batch as it is.
func Verify(public [ed25519.PublicKeySize]byte, b *store.Batch) bool {
	st, err := StatementOf(b)
	return err == nil && ed25519.Verify(public[:], message(st, b), b.Signature[headBytes:])
}

// message is what is signed: the domain, the statement, the batch's own fields, and SHA-256 over its entries and marks. Numbers
// are big-endian, texts stand behind their length in 4 bytes.
func message(st Statement, b *store.Batch) []byte {
	m := make([]byte, 0, 256+64*len(b.Totals))
	m = append(m, domain...)
	m = binary.BigEndian.AppendUint16(m, st.Node)
	m = st.head(m)
	m = appendText(m, b.Producer)
	m = binary.BigEndian.AppendUint32(m, b.Epoch)
	m = binary.BigEndian.AppendUint64(m, b.First)
	m = binary.BigEndian.AppendUint64(m, b.Last)
	m = appendTime(m, b.ReceivedAt)
	m = appendCount(m, len(b.Totals))
	for i := range b.Totals {
		t := &b.Totals[i]
		m = appendText(m, t.CustomerID)
		m = appendText(m, t.Meter)
		m = binary.BigEndian.AppendUint64(m, uint64(t.PeriodStart))
		m = appendText(m, t.Total.String())
	}
	m = appendCount(m, len(b.Entries))
	m = appendCount(m, len(b.Marks))
	return content(m, b)
}

// content appends the digest of entries and marks.
func content(dst []byte, b *store.Batch) []byte {
	h := sha256.New()
	room := make([]byte, 0, 4<<10)
	for i := range b.Entries {
		room = entry(room[:0], &b.Entries[i])
		write(h, room)
	}
	for i := range b.Marks {
		m := &b.Marks[i]
		room = appendText(room[:0], m.Source)
		room = appendText(room, m.ID)
		room = binary.BigEndian.AppendUint16(room, uint16(m.Flags))
		write(h, room)
	}
	return h.Sum(dst)
}

func write(h hash.Hash, b []byte) { _, _ = h.Write(b) } // a hash never fails

func entry(dst []byte, e *store.Entry) []byte {
	dst = appendText(dst, e.Event.Source)
	dst = appendText(dst, e.Event.ID)
	dst = appendText(dst, e.Event.Type)
	dst = appendText(dst, e.Event.Subject)
	dst = appendTime(dst, e.Event.Time)
	dst = appendText(dst, e.Event.Data)
	dst = appendText(dst, e.Event.TraceParent)
	dst = append(dst, byte(e.Origin))
	dst = binary.BigEndian.AppendUint16(dst, uint16(e.Flags))
	dst = appendText(dst, e.Receipt)
	dst = appendText(dst, e.KeyID)
	dst = appendText(dst, e.Unit)
	dst = appendCount(dst, len(e.Resolutions))
	for i := range e.Resolutions {
		r := &e.Resolutions[i]
		dst = appendText(dst, r.CustomerID)
		dst = appendText(dst, r.Meter)
		dst = binary.BigEndian.AppendUint64(dst, uint64(r.CatalogVersion))
		dst = appendText(dst, r.Value.String())
		dst = appendText(dst, r.Distinct)
		dst = appendCount(dst, len(r.Dimensions))
		for _, d := range r.Dimensions {
			dst = appendText(dst, d.Name)
			dst = appendText(dst, d.Value)
		}
	}
	return dst
}

func appendText[T string | []byte](dst []byte, s T) []byte {
	return append(appendCount(dst, len(s)), s...)
}

func appendCount(dst []byte, n int) []byte { return binary.BigEndian.AppendUint32(dst, uint32(n)) }

func appendTime(dst []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(t.UnixMicro()))
}
