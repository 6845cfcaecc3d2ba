package account_test

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/account"
)

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func TestNewSecret(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		mode account.Mode
		bits byte
		want string
	}{
		// The CRC32 of "tally_live_" and 43 zeros.
		{"zeros", account.Live, 0, "tally_live_" + strings.Repeat("0", 43) + sum("tally_live_"+strings.Repeat("0", 43))},
		// 2^256-1 in base 62.
		{"ones", account.Test, 0xff, "tally_test_" + inBase62(32, 0xff) + sum("tally_test_"+inBase62(32, 0xff))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := account.NewSecret(tt.mode, bytes.NewReader(bytes.Repeat([]byte{tt.bits}, 32)))
			if err != nil || got != tt.want {
				t.Errorf("NewSecret = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// inBase62 writes n equal bytes by way of math/big, in 43 digits.
func inBase62(n int, b byte) string {
	v := new(big.Int).SetBytes(bytes.Repeat([]byte{b}, n))
	return pad(v, 43)
}

func sum(s string) string { return pad(big.NewInt(int64(crc32.ChecksumIEEE([]byte(s)))), 6) }

func pad(v *big.Int, n int) string {
	out := ""
	for range n {
		rest := new(big.Int)
		v, rest = new(big.Int).QuoRem(v, big.NewInt(62), rest)
		out = string(digits[rest.Int64()]) + out
	}
	return out
}

func TestNewSecretErrors(t *testing.T) {
	t.Parallel()
	for _, mode := range []account.Mode{"", "Live", "prod"} {
		if _, err := account.NewSecret(mode, ones()); !errors.Is(err, account.ErrInvalid) {
			t.Errorf("mode %q: %v", mode, err)
		}
	}
	if _, err := account.NewSecret(account.Live, strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too little randomness: %v", err)
	}
}

// TestSecretsAreChecked: each secret passes, and fails with any one character replaced, removed or added.
func TestSecretsAreChecked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom([]account.Mode{account.Live, account.Test}).Draw(t, "mode")
		random := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "random")
		s, err := account.NewSecret(mode, bytes.NewReader(random))
		if err != nil {
			t.Fatal(err)
		}
		if err := account.CheckSecret(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if hint := account.SecretHint(s); hint != s[50:54] {
			t.Fatalf("hint %q of %s", hint, s)
		}
		for i := range s {
			for _, c := range digits + "_-. \x00\xff" {
				other := s[:i] + string(c) + s[i+1:]
				if err := account.CheckSecret(other); other != s && !errors.Is(err, account.ErrBadSecret) {
					t.Fatalf("%s with %q at %d: %v", s, c, i, err)
				}
			}
			if account.CheckSecret(s[:i]+s[i+1:]) == nil || account.CheckSecret(s[:i]+"x"+s[i:]) == nil {
				t.Fatalf("%s passed with a character too few or too many at %d", s, i)
			}
		}
	})
}

func FuzzCheckSecret(f *testing.F) {
	good, err := account.NewSecret(account.Live, ones())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add("demo_free")
	f.Add("tally_live_" + strings.Repeat("\xff", 49))
	f.Fuzz(func(t *testing.T, s string) {
		err := account.CheckSecret(s)
		if err != nil {
			if err != account.ErrBadSecret { //nolint:errorlint // it must be the bare sentinel, which repeats nothing
				t.Errorf("error %v", err)
			}
			return
		}
		if len(s) != 60 || s[54:] != sum(s[:54]) {
			t.Errorf("%q passed", s)
		}
	})
}

func TestCheckSecretWantsShapeToo(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"tally_live_" + strings.Repeat("0", 42) + "_",
		"tally_prod_" + strings.Repeat("0", 43),
		"TALLY_LIVE_" + strings.Repeat("0", 43),
	} {
		if err := account.CheckSecret(body + sum(body)); !errors.Is(err, account.ErrBadSecret) {
			t.Errorf("%s with its checksum: %v", body, err)
		}
	}
}

func TestSecretHintOfMalformed(t *testing.T) {
	t.Parallel()
	if got := account.SecretHint("demo_free"); got != "" {
		t.Errorf("hint %q", got)
	}
}

func TestCheckSecretDoesNotAllocate(t *testing.T) {
	s, err := account.NewSecret(account.Live, ones())
	if err != nil {
		t.Fatal(err)
	}
	bad := s[:59] + "_"
	if n := testing.AllocsPerRun(100, func() {
		_ = account.CheckSecret(s)
		_ = account.CheckSecret(bad)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkCheckSecret(b *testing.B) {
	s, err := account.NewSecret(account.Live, ones())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if account.CheckSecret(s) != nil {
			b.Fatal("a good secret failed")
		}
	}
}
