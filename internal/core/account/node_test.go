package account

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestNodeSecrets(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{9})
	s, err := NewNodeSecret(random)
	if err != nil || !strings.HasPrefix(s, "tally_gw_") || len(NodeHint(s)) != 4 || CheckNodeSecret(s) != nil {
		t.Fatalf("secret %q, hint %q, %v", s, NodeHint(s), err)
	}
	if CheckSecret(s) == nil || CheckProducerSecret(s) == nil {
		t.Error("a gateway's token passes for something else")
	}
	for i := range len(s) { // every single change is seen
		b := []byte(s)
		b[i] ^= 1
		if !errors.Is(CheckNodeSecret(string(b)), ErrBadSecret) {
			t.Errorf("changed at %d: %s", i, b)
		}
	}
	if _, err := NewNodeSecret(bytes.NewReader(nil)); err == nil || NodeHint("x") != "" {
		t.Error("drawn from nothing, or a hint of a malformed one")
	}
}
