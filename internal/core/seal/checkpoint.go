package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// originPrefix stands before a deployment's id in the first line of its checkpoints and in the name of its key.
const originPrefix = "tallystick/"

// CheckpointMax bounds a checkpoint's text, signature included.
const CheckpointMax = 4 << 10

// EmptyRoot is the root of a tree without leaves.
func EmptyRoot() tlog.Hash { return sha256.Sum256(nil) }

// Origin names a deployment's tree.
func Origin(deployment string) string { return originPrefix + deployment }

// Checkpoint says what the tree was at a time. Its text is four lines: origin, size, root as base64, time.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	Time   time.Time // business time, whole seconds
}

func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n%s\n", c.Origin, c.Size, c.Root, c.Time.UTC().Format(time.RFC3339))
}

// NewKey makes the deployment's signing key and the public one that verifies it, both in note form.
func NewKey(random io.Reader, origin string) (signer, verifier string, err error) {
	return note.GenerateKey(random, origin)
}

// Sign is the checkpoint as a signed note.
func (c Checkpoint) Sign(signer note.Signer) ([]byte, error) {
	msg, err := note.Sign(&note.Note{Text: c.text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign a checkpoint: %w", err)
	}
	return msg, nil
}

// Open checks a checkpoint with the public key, in note form, and reads it. A note has one form only here: one signature, and
// nothing more in the text than Checkpoint has. ErrProof.
func Open(msg []byte, key string) (Checkpoint, error) {
	verifier, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return Checkpoint{}, malformed("the key is not a public note key such as tallystick/…+…+…; `tally checkpoint --key` prints it: %v", err)
	}
	if len(msg) > CheckpointMax {
		return Checkpoint{}, malformed("a checkpoint has at most %d bytes", CheckpointMax)
	}
	n, err := note.Open(msg, note.VerifierList(verifier))
	if _, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		return Checkpoint{}, malformed("the checkpoint is not signed by the key of %s with hash %08x", verifier.Name(), verifier.KeyHash())
	}
	if err != nil {
		return Checkpoint{}, malformed("the checkpoint's signature: %v", err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 || !exact(n.Sigs[0].Base64) {
		return Checkpoint{}, malformed("the checkpoint does not have exactly one signature")
	}
	if c.Origin != verifier.Name() {
		return Checkpoint{}, malformed("the checkpoint is of %s, the key of %s", c.Origin, verifier.Name())
	}
	return c, nil
}

// exact says whether base64 has no second spelling of the same bytes.
func exact(s string) bool {
	b, err := base64.StdEncoding.DecodeString(s)
	return err == nil && base64.StdEncoding.EncodeToString(b) == s
}

// parseCheckpoint reads a text of which only Open knows that it is signed.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 5 || lines[4] != "" {
		return Checkpoint{}, malformed("a checkpoint has four lines: origin, size, root, time")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, malformed("the checkpoint's size %q is no number", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, malformed("the checkpoint's root %q is no hash", lines[2])
	}
	at, err := time.Parse(time.RFC3339, lines[3])
	if err != nil {
		return Checkpoint{}, malformed("the checkpoint's time %q is not RFC 3339", lines[3])
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: root, Time: at}
	if !bytes.Equal([]byte(c.text()), []byte(text)) || !strings.HasPrefix(c.Origin, originPrefix) {
		return Checkpoint{}, malformed("the checkpoint is not in its only form")
	}
	return c, nil
}
