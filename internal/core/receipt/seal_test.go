package receipt_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/receipt"
)

func fill(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func line(number string, b byte) string {
	return number + " " + base64.StdEncoding.EncodeToString(fill(b)) + "\n"
}

func ring(t testing.TB, file string) *receipt.Keyring {
	t.Helper()
	k, err := receipt.ParseKeyring([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sealer(t testing.TB, k *receipt.Keyring, node uint16, epoch uint32) *receipt.Sealer {
	t.Helper()
	s, err := k.Sealer(node, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t testing.TB, k *receipt.Keyring, r receipt.Receipt) string {
	t.Helper()
	return string(sealer(t, k, r.ID.Node, r.ID.Epoch).Seal(nil, r.ID, r.Encode(nil)))
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	k := ring(t, line("1", 1))
	want := denied()
	id := seal(t, k, want)
	if again := seal(t, k, want); again != id {
		t.Errorf("sealed twice: %s, %s", id, again)
	}
	if prefix := "dec_" + want.ID.String() + "."; !strings.HasPrefix(id, prefix) || len(id) > len(prefix)+receipt.MaxToken {
		t.Errorf("decision id %s", id)
	}
	got, err := k.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("receipt (-want +got):\n%s", diff)
	}
}

// TestTokenIsAsDocumented opens one by the description alone.
func TestTokenIsAsDocumented(t *testing.T) {
	t.Parallel()
	r := receipt.Receipt{ID: receipt.ShortID{Node: 258, Epoch: 3, Seq: 4}, Outcome: receipt.DeniedRoute, Deciding: -1}
	id := seal(t, ring(t, line("9", 1)), r)
	encoded := hex.EncodeToString(r.Encode(nil))
	// version 1, outcome 7<<1, node 0102, epoch 3, sequence 4, 13 empty fields.
	if encoded != "010e"+"0102"+"00000003"+"000000000004"+strings.Repeat("00", 14) {
		t.Errorf("encoded %s", encoded)
	}
	raw, err := base64.RawURLEncoding.DecodeString(id[len("dec_")+17+1:])
	if err != nil || raw[0] != 9 || len(raw) != 1+len(encoded)/2+16 {
		t.Fatalf("token %x, %v", raw, err)
	}
	// Computed with another implementation of HKDF-SHA-256 and AES-256-GCM.
	const sealed = "0cbe887e5c8bd99caaf26d2d48c9ca0c59ca26921b23ff4a6958e5047704a0bd290dcda227ec9568ea2b05a8"
	if got := hex.EncodeToString(raw[1:]); got != sealed {
		t.Errorf("sealed %s, want %s", got, sealed)
	}
}

func TestLongestTokenFits(t *testing.T) {
	t.Parallel()
	k := ring(t, line("255", 1))
	s := sealer(t, k, 1, 7)
	id := s.Seal([]byte("x"), denied().ID, make([]byte, receipt.MaxEncoded))
	if len(id) != 1+receipt.MaxID || len(id)-1-len("dec_")-17-1 != receipt.MaxToken {
		t.Errorf("%d bytes", len(id))
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	before := ring(t, line("1", 1))
	after := ring(t, line("1", 1)+"\n"+line("2", 2))
	without := ring(t, line("2", 2))
	old, fresh := seal(t, before, denied()), seal(t, after, denied())
	if old == fresh {
		t.Error("the newest key does not seal")
	}
	for name, tt := range map[string]struct {
		k    *receipt.Keyring
		id   string
		want error
	}{
		"old by old": {before, old, nil}, "old by both": {after, old, nil}, "new by both": {after, fresh, nil},
		"new by new": {without, fresh, nil}, "new by old": {before, fresh, receipt.ErrToken}, "old by new": {without, old, receipt.ErrToken},
		"another deployment": {ring(t, line("1", 9)), old, receipt.ErrToken},
	} {
		if _, err := tt.k.Open(tt.id); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// TestOpenIsStrict: no change of one character, no cut, no other short id, no spelling opens.
func TestOpenIsStrict(t *testing.T) {
	t.Parallel()
	k := ring(t, line("1", 1))
	id := seal(t, k, denied())
	refuse := func(what, s string) {
		if _, err := k.Open(s); !errors.Is(err, receipt.ErrToken) {
			t.Errorf("%s: %s: %v", what, s, err)
		}
	}
	for i := range id {
		refuse("cut", id[:i])
		for _, c := range "Az09-_. \n\r=" {
			if byte(c) != id[i] {
				refuse("replaced", id[:i]+string(c)+id[i+1:])
			}
			refuse("inserted", id[:i]+string(c)+id[i:])
		}
	}
	for extra := range 3 { // of each length modulo 3 there are other spare bits in the last digit
		r := denied()
		r.Plan += strings.Repeat("x", extra)
		whole := seal(t, k, r)
		for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
			if s := whole[:len(whole)-1] + string(c); s != whole {
				refuse("last digit", s)
			}
		}
	}
	refuse("newline", id+"\n")
	refuse("padded", id+"==")
	refuse("too long", id+strings.Repeat("A", 10_000))
	other := denied()
	other.ID.Seq++
	refuse("another's token", seal(t, k, other)[:22]+id[22:])
	refuse("no token", id[:21])
	// Sealed by us under one id, but speaking of another.
	refuse("another's receipt", string(sealer(t, k, 1, 7).Seal(nil, denied().ID, other.Encode(nil))))
	refuse("no receipt", string(sealer(t, k, 1, 7).Seal(nil, denied().ID, []byte("hello"))))
}

func TestSealAppendsWithoutAllocating(t *testing.T) {
	k := ring(t, line("1", 1))
	s := sealer(t, k, 1, 7)
	r := denied()
	encoded := make([]byte, 0, receipt.MaxEncoded)
	dst := append(make([]byte, 0, 3+receipt.SealRoom), "id="...)
	want := "id=" + seal(t, k, r)
	if n := testing.AllocsPerRun(100, func() {
		encoded = r.Encode(encoded[:0])
		dst = s.Seal(dst[:3], r.ID, encoded)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if string(dst) != want {
		t.Errorf("got %s, want %s", dst, want)
	}
}

func TestSealConcurrently(t *testing.T) {
	t.Parallel()
	k := ring(t, line("1", 1))
	s := sealer(t, k, 1, 7)
	var group sync.WaitGroup
	for g := range uint64(4) {
		group.Go(func() {
			r := denied()
			for i := range uint64(50) {
				r.ID.Seq = g*50 + i
				if got, err := k.Open(string(s.Seal(nil, r.ID, r.Encode(nil)))); err != nil || got.ID != r.ID {
					t.Errorf("%+v, %v", got.ID, err)
				}
			}
		})
	}
	group.Wait()
}

func TestSealRefusesToReuseANonce(t *testing.T) {
	t.Parallel()
	s := sealer(t, ring(t, line("1", 1)), 1, 7)
	for name, call := range map[string]func(){
		"node":     func() { s.Seal(nil, receipt.ShortID{Node: 2, Epoch: 7}, nil) },
		"epoch":    func() { s.Seal(nil, receipt.ShortID{Node: 1, Epoch: 8}, nil) },
		"sequence": func() { s.Seal(nil, receipt.ShortID{Node: 1, Epoch: 7, Seq: 1 << 48}, nil) },
		"length":   func() { s.Seal(nil, receipt.ShortID{Node: 1, Epoch: 7}, make([]byte, receipt.MaxEncoded+1)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: sealed", name)
				}
			}()
			call()
		}()
	}
}

func TestParseKeyringErrors(t *testing.T) {
	t.Parallel()
	secret := base64.StdEncoding.EncodeToString(fill(0xA5))
	tests := []struct{ name, file, want string }{
		{"empty", "", "it has no key"},
		{"blank", "\n \n", "it has no key"},
		{"no number", secret, "line 1: a line must be a number"},
		{"number 0", "0 " + secret, "line 1: a line must be a number"},
		{"number 256", line("1", 1) + "256 " + secret, "line 2: a line must be a number"},
		{"leading zero", "01 " + secret, "line 1: a line must be a number"},
		{"negative", "-1 " + secret, "line 1: a line must be a number"},
		{"no key", line("1", 1) + "\n2\n", "line 3: the key must be base64"},
		{"not base64", "1 !" + secret[1:], "line 1: the key must be base64"},
		{"too short", "1 " + secret[:40], "line 1: the key must be base64"},
		{"31 bytes", string(receipt.NewKeyringFile(fill(0xA5)[:31])), "line 1: the key must be base64"},
		{"two words", "1 " + secret + " x", "line 1: the key must be base64"},
		{"the same number", line("1", 1) + "1 " + secret, "line 2: this number is taken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := receipt.ParseKeyring([]byte(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), secret[4:12]) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
	if k := ring(t, string(receipt.NewKeyringFile(fill(3)))); k.String() != "keyring(1 keys)" {
		t.Errorf("%s", k)
	}
	if _, err := new(receipt.Keyring).Sealer(1, 1); err == nil {
		t.Error("an empty keyring seals")
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	t.Parallel()
	k := ring(t, line("1", 0xA5)+line("2", 0xA5))
	s := sealer(t, k, 1, 7)
	type holder struct {
		K *receipt.Keyring
		k *receipt.Keyring
		v receipt.Keyring
	}
	var out strings.Builder
	for _, v := range []any{k, *k, holder{k, k, *k}, &holder{k, k, *k}, s, *s} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		fmt.Fprintf(&out, "%s %v\n", b, err)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", slog.Any("v", v))
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", slog.Any("v", v))
	}
	for _, bad := range []string{"165 165", "a5a5", "A5A5", "a5 a5", "0xa5, 0xa5", "paWl", "\xa5\xa5", `\xa5\xa5`, "gcm.GCM"} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("%q is printed:\n%s", bad, out.String())
		}
	}
	if got := fmt.Sprintf("%v %d", k, k); got != "keyring(2 keys) keyring(2 keys)" {
		t.Errorf("printed %s", got)
	}
}

func FuzzOpen(f *testing.F) {
	k := ring(f, line("1", 1))
	f.Add(seal(f, k, denied()))
	f.Add(seal(f, k, receipt.Receipt{Outcome: receipt.DeniedKey, Detail: "key_missing", Deciding: -1}))
	f.Add("dec_00000000000000000.")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := k.Open(s)
		if err != nil {
			if !errors.Is(err, receipt.ErrToken) {
				t.Fatal(err)
			}
			return
		}
		if again := seal(t, k, r); again != s {
			t.Errorf("%q became %q", s, again)
		}
	})
}

func FuzzParseKeyring(f *testing.F) {
	f.Add([]byte(line("1", 1) + line("2", 2)))
	f.Add([]byte("1 \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := receipt.ParseKeyring(b); err == nil {
			if _, err := k.Sealer(1, 1); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestEveryReceiptSealsAndOpens(t *testing.T) {
	t.Parallel()
	k := ring(t, line("1", 1))
	rapid.Check(t, func(t *rapid.T) {
		r := drawReceipt(t)
		encoded := r.Encode(nil)
		s, err := k.Sealer(r.ID.Node, r.ID.Epoch)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Open(string(s.Seal(nil, r.ID, encoded)))
		if err != nil {
			t.Fatal(err)
		}
		if again := got.Encode(nil); !bytes.Equal(again, encoded) {
			t.Fatalf("%x became %x", encoded, again)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	r := denied()
	dst := make([]byte, 0, receipt.MaxEncoded)
	b.ReportAllocs()
	for b.Loop() {
		dst = r.Encode(dst[:0])
	}
}

func BenchmarkSeal(b *testing.B) {
	r := denied()
	s := sealer(b, ring(b, line("1", 1)), r.ID.Node, r.ID.Epoch)
	encoded := r.Encode(nil)
	dst := make([]byte, 0, receipt.SealRoom)
	b.ReportAllocs()
	for b.Loop() {
		dst = s.Seal(dst[:0], r.ID, encoded)
	}
}
