// Package seal is the proof side of the journal: how a record becomes a leaf of an RFC 6962 tree, how a payload is hidden behind
// a commitment that survives its erasure, the signed checkpoints of the tree, and the bundles that prove an event or an invoice
// line to somebody who has nothing but the public key. docs/proofs.md describes the forms.
package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrProof is wrapped by every complaint about something that does not prove what it says.
var ErrProof = errors.New("the proof does not hold")

// Version is the first byte of every leaf.
const Version = 1

// KeySize is the length of a subject's key in bytes.
const KeySize = 32

// What stands behind the version: whether the leaf carries a commitment to a payload.
const (
	bare      = 0
	committed = 1
)

// Commitment hides a payload until it is shown with its salt.
type Commitment = [sha256.Size]byte

// Salt is what makes the commitment of one record unguessable: HMAC-SHA-256 under the subject's key of the position, as 8
// big-endian bytes. Once the key is gone nobody can test guesses of the payload.
func Salt(key []byte, position uint64) Commitment {
	mac := hmac.New(sha256.New, key)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], position)
	_, _ = mac.Write(b[:]) // a hash does not fail
	return Commitment(mac.Sum(nil))
}

// Commit is SHA-256 over 0x01, the salt, the length of the digest in one byte, the digest, and the payload. The digest of an
// event's content is in it and not in the leaf's head, since who knows it can test guesses of the payload.
func Commit(salt Commitment, digest, payload []byte) Commitment {
	h := sha256.New()
	_, _ = h.Write([]byte{1})
	_, _ = h.Write(salt[:])
	_, _ = h.Write([]byte{byte(len(digest))})
	_, _ = h.Write(digest)
	_, _ = h.Write(payload)
	return Commitment(h.Sum(nil))
}

// CommitRecord is the commitment of a record of the log, to be kept when its payload is erased. head is store.Leaf.Head.
func CommitRecord(key []byte, position uint64, head, payload []byte) (Commitment, error) {
	_, digest, err := Split(head)
	if err != nil {
		return Commitment{}, err
	}
	return Commit(Salt(key, position), digest, payload), nil
}

// Data is what a leaf's hash covers: the version, whether there is a commitment, the commitment, the head. The head of a record
// with a commitment is without its digest (see Split).
func Data(dst, head []byte, c *Commitment) []byte {
	if c == nil {
		return append(append(dst, Version, bare), head...)
	}
	dst = append(append(dst, Version, committed), c[:]...)
	return append(dst, head...)
}

// Hash is the RFC 6962 leaf hash of a record: head is store.Leaf.Head, c its commitment or nil.
func Hash(head []byte, c *Commitment) (tlog.Hash, error) {
	if c != nil {
		var err error
		if head, _, err = Split(head); err != nil {
			return tlog.Hash{}, err
		}
	}
	return tlog.RecordHash(Data(make([]byte, 0, 2+sha256.Size+len(head)), head, c)), nil
}

// Split takes the content digest out of a record's head. What is left is a new slice where there was one.
func Split(head []byte) (public, digest []byte, err error) {
	w, err := walk(head)
	if err != nil {
		return nil, nil, err
	}
	for w.next() {
		if w.tag == tagDigest {
			public = append(make([]byte, 0, len(head)), head[:w.start]...)
			return append(public, w.rest...), w.buf, nil
		}
	}
	if w.err != nil {
		return nil, nil, w.err
	}
	return head, nil, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrProof)...)
}
