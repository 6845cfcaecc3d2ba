// Package seal is the proof side of the journal: how a record becomes a leaf of an RFC 6962 tree, how a payload is hidden behind
// a commitment that survives its erasure, the signed checkpoints of the tree, and the bundles that prove an event or an invoice
// line to somebody who has nothing but the public key. docs/proofs.md describes the forms.
package seal

import (
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
// big-endian bytes. Once the key is gone nobody can test guesses of the payload. It is written out here, since it is computed for
// every record and crypto/hmac allocates.
func Salt(key *[KeySize]byte, position uint64) Commitment {
	const block = 64
	var inner [block + 8]byte
	var outer [block + sha256.Size]byte
	for i := range block {
		inner[i], outer[i] = 0x36, 0x5c
	}
	for i, b := range key {
		inner[i] ^= b
		outer[i] ^= b
	}
	binary.BigEndian.PutUint64(inner[block:], position)
	sum := sha256.Sum256(inner[:])
	copy(outer[block:], sum[:])
	return sha256.Sum256(outer[:])
}

// room is what most records fit into without an allocation.
const room = 1024

// Commit is SHA-256 over 0x01, the salt, the length of the digest in one byte, the digest, and the payload. The digest of an
// event's content is in it and not in the leaf's head, since who knows it can test guesses of the payload.
func Commit(salt Commitment, digest, payload []byte) Commitment {
	var on [room]byte
	b := append(append(on[:0], 1), salt[:]...)
	b = append(append(b, byte(len(digest))), digest...)
	return sha256.Sum256(append(b, payload...))
}

// CommitRecord is the commitment of a record of the log, to be kept when its payload is erased. key is the subject's, head is
// store.Leaf.Head.
func CommitRecord(key []byte, position uint64, head, payload []byte) (Commitment, error) {
	if len(key) != KeySize {
		return Commitment{}, malformed("a subject's key has %d bytes, found %d", KeySize, len(key))
	}
	_, _, digest, err := cut(head)
	if err != nil {
		return Commitment{}, err
	}
	return Commit(Salt((*[KeySize]byte)(key), position), digest, payload), nil
}

// appendData is what a leaf's hash covers: the version, whether there is a commitment, the commitment, the head in two parts. The
// head of a record with a commitment is without its digest.
func appendData(dst, head, rest []byte, c *Commitment) []byte {
	if c == nil {
		return append(append(append(dst, Version, bare), head...), rest...)
	}
	dst = append(append(dst, Version, committed), c[:]...)
	return append(append(dst, head...), rest...)
}

// leafHash is the RFC 6962 leaf hash: SHA-256 over 0x00 and the data.
func leafHash(head, rest []byte, c *Commitment) tlog.Hash {
	var on [room]byte
	return sha256.Sum256(appendData(append(on[:0], 0), head, rest, c))
}

// Hash is the leaf hash of a record: head is store.Leaf.Head, c its commitment or nil.
func Hash(head []byte, c *Commitment) (tlog.Hash, error) {
	if c == nil {
		return leafHash(head, nil, nil), nil
	}
	before, behind, _, err := cut(head)
	if err != nil {
		return tlog.Hash{}, err
	}
	return leafHash(before, behind, c), nil
}

// Split takes the content digest out of a record's head. What is left is a new slice where there was one.
func Split(head []byte) (public, digest []byte, err error) {
	before, behind, digest, err := cut(head)
	if err != nil || digest == nil {
		return head, nil, err
	}
	return append(append(make([]byte, 0, len(head)), before...), behind...), digest, nil
}

// cut finds the digest: what stands before its field, and behind. digest is nil where there is none.
func cut(head []byte) (before, behind, digest []byte, err error) {
	w, err := walk(head)
	if err != nil {
		return nil, nil, nil, err
	}
	for w.next() && w.tag <= tagDigest {
		if w.tag == tagDigest {
			return head[:w.start], w.rest, w.buf, nil
		}
	}
	return head, nil, nil, w.err
}

func malformed(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrProof)...)
}
