package receipt_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/receipt"
)

// TestSubkeyRing: a gateway with the subkey of one run seals what the server opens, and opens nothing else.
func TestSubkeyRing(t *testing.T) {
	t.Parallel()
	whole, err := receipt.ParseKeyring(receipt.NewKeyringFile(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	sub, err := whole.Subkey(3, 9)
	if err != nil {
		t.Fatal(err)
	}
	ring := receipt.SubkeyRing(func(node uint16, epoch uint32) (receipt.Subkey, bool) { return sub, node == 3 && epoch == 9 })
	seal := func(k *receipt.Keyring, node uint16, epoch uint32) string {
		t.Helper()
		s, err := k.Sealer(node, epoch)
		if err != nil {
			t.Fatal(err)
		}
		r := receipt.Receipt{ID: receipt.ShortID{Node: node, Epoch: epoch, Seq: 5}, Outcome: receipt.Allowed, Deciding: -1, Plan: "pro"}
		return string(s.Seal(nil, r.ID, r.Encode(nil)))
	}
	id := seal(ring, 3, 9)
	if id != seal(whole, 3, 9) {
		t.Error("the subkey seals otherwise than the keyring")
	}
	for _, k := range []*receipt.Keyring{ring, whole} {
		if r, err := k.Open(id); err != nil || r.Plan != "pro" {
			t.Errorf("opened %+v, %v", r, err)
		}
	}
	if _, err := ring.Open(seal(whole, 3, 10)); !errors.Is(err, receipt.ErrToken) {
		t.Errorf("another run's: %v", err)
	}
	if _, err := ring.Sealer(3, 10); err == nil {
		t.Error("a sealer of another run")
	}
	if text := fmt.Sprintf("%v %+v %#v %x", sub, sub, sub, &sub); strings.Contains(text, fmt.Sprintf("%x", sub.Key[:4])) {
		t.Errorf("prints the key: %s", text)
	}
}
