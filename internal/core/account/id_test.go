package account_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/account"
)

func ones() io.Reader { return strings.NewReader(strings.Repeat("\xff", 64)) }

func TestNewID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, prefix string
		now          time.Time
		random       io.Reader
		want         string
	}{
		{"zero", "cus", time.UnixMilli(0), bytes.NewReader(make([]byte, 10)), "cus_00000000000000000000000000"},
		// 48 bits and 80 bits of ones: 10 and 16 digits, as 2^48-1 = 7zzzzzzzzz in base 32.
		{"largest", "key", time.UnixMilli(1<<48 - 1), ones(), "key_7zzzzzzzzzzzzzzzzzzzzzzzzz"},
		// 1,500,000,000,000 = 1·32^8 + 11·32^7 + 20·32^6 + 31·32^5 + 15·32^4 + 15·32^3 + 6·32^2.
		{"known time", "sub", time.UnixMilli(1_500_000_000_000), bytes.NewReader(make([]byte, 10)), "sub_01bmzff6000000000000000000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := account.NewID(tt.prefix, tt.now, tt.random)
			if err != nil || got != tt.want {
				t.Errorf("NewID = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestNewIDErrors(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "cu", "cust", "CUS", "c_s"} {
		if id, err := account.NewID(prefix, at(0), ones()); !errors.Is(err, account.ErrInvalid) {
			t.Errorf("prefix %q: %q, %v", prefix, id, err)
		}
	}
	for _, ms := range []int64{-1, 1 << 48, math.MinInt64} {
		if id, err := account.NewID("cus", time.UnixMilli(ms), ones()); !errors.Is(err, account.ErrInvalid) {
			t.Errorf("%d ms: %q, %v", ms, id, err)
		}
	}
	if _, err := account.NewID("cus", at(0), strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too little randomness: %v", err)
	}
	if _, err := account.NewID("cus", at(0), iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("no randomness: %v", err)
	}
}

func TestIDsSortByTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64Range(0, 1<<48-1).Draw(t, "a"), rapid.Int64Range(0, 1<<48-1).Draw(t, "b")
		if a >= b {
			t.Skip("not in order")
		}
		early, err := account.NewID("cus", time.UnixMilli(a), ones())
		if err != nil {
			t.Fatal(err)
		}
		late, err := account.NewID("cus", time.UnixMilli(b), bytes.NewReader(make([]byte, 10)))
		if err != nil {
			t.Fatal(err)
		}
		if early >= late {
			t.Fatalf("%s at %d, %s at %d", early, a, late, b)
		}
	})
}

func TestParseID(t *testing.T) {
	t.Parallel()
	bad := []string{
		"", "cus_", "cus_8zzzzzzzzzzzzzzzzzzzzzzzzz", "cus_0000000000000000000000000", "cus_000000000000000000000000000",
		"cus-00000000000000000000000000", "CUS_00000000000000000000000000", "cus_0000000000000000000000000A",
		"cus_0000000000000000000000000i", "cus_0000000000000000000000000l", "cus_0000000000000000000000000o",
		"cus_0000000000000000000000000u", "cus_0000000000000000000000000{", "cus_/0000000000000000000000000",
	}
	for _, s := range bad {
		if _, _, ok := account.ParseID(s); ok {
			t.Errorf("%q parsed", s)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("cus_00000000000000000000000000")
	f.Add("key_7zzzzzzzzzzzzzzzzzzzzzzzzz")
	f.Add("sub_01bmzff6000000000000000000")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		prefix, raw, ok := account.ParseID(s)
		if ok && account.FormatID(prefix, raw) != s {
			t.Errorf("%q became %q", s, account.FormatID(prefix, raw))
		}
		if ok && account.ValidKey(s) == nil && strings.HasPrefix(s, "cus_") {
			t.Errorf("id %q is a valid key", s)
		}
	})
}

func TestIDsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "raw"))
		prefix, got, ok := account.ParseID(account.FormatID("evt", raw))
		if !ok || prefix != "evt" || got != raw {
			t.Fatalf("%x became %s %x %v", raw, prefix, got, ok)
		}
	})
}

func TestValidKey(t *testing.T) {
	t.Parallel()
	good := []string{"a", "Z", "0", "acme", "demo_free", "a.b-c_d", "cus", "customer_1", "cusp_1", strings.Repeat("x", 64)}
	for _, s := range good {
		if err := account.ValidKey(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	bad := []string{
		"", strings.Repeat("x", 65), "-a", "_a", ".a", "a b", "a,b", "a/b", "é", "a\x00", "a\n",
		"cus_00000000000000000000000000", "cus_x", "key_x", "sub_x", "inv_", "dec_1",
	}
	for _, s := range bad {
		if err := account.ValidKey(s); !errors.Is(err, account.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", s, err)
		}
	}
}
