package receipt_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/receipt"
)

// denied is a usual denial: three limits, all short keys.
func denied() receipt.Receipt {
	const at = 1_772_366_400_123_456
	return receipt.Receipt{
		ID: receipt.ShortID{Node: 1, Epoch: 7, Seq: 101}, Outcome: receipt.DeniedQuota, Time: at, CatalogVersion: 3,
		CustomerID: "cus_01bmzff6000000000000000000", Customer: "bolt", KeyID: "key_7zzzzzzzzzzzzzzzzzzzzzzzzz",
		Plan: "free", Route: "GET /hello", Meter: "api_calls", Cost: 1, Deciding: 1,
		Limits: []receipt.Limit{
			{Key: "burst", Kind: 1, Meter: "api_calls", Before: 3, After: 3, Quota: 200, ResetAt: at + 15_000},
			{
				Key: "daily", Kind: 2, Meter: "api_calls", Before: 100, After: 100, Quota: 100,
				WindowStart: at - 43_200_000_000, ResetAt: at + 43_200_000_000, Violated: true,
			},
			{
				Key: "spend", Kind: 3, Meter: "api_calls", Scale: 4, Before: 12_0000, After: 12_0000, Quota: 500_0000,
				WindowStart: at - 1_000_000_000_000, ResetAt: at + 1_500_000_000_000,
			},
		},
		WouldPassOn: []string{"pro"},
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		outcome    receipt.Outcome
		text, code string
	}{
		{receipt.Allowed, "allowed", ""},
		{receipt.DeniedRate, "denied", "rate_exceeded"},
		{receipt.DeniedQuota, "denied", "quota_exceeded"},
		{receipt.DeniedSpend, "denied", "spend_cap_reached"},
		{receipt.DeniedKey, "denied", "key_unknown"},
		{receipt.DeniedSubscription, "denied", "no_subscription"},
		{receipt.DeniedRoute, "denied", "route_unknown"},
		{receipt.Unavailable, "unavailable", "unavailable"},
		{0, "unknown", ""},
	}
	for _, tt := range tests {
		r := receipt.Receipt{Outcome: tt.outcome}
		if tt.outcome.String() != tt.text || r.Code() != tt.code {
			t.Errorf("%d: %q, %q, want %q, %q", tt.outcome, tt.outcome, r.Code(), tt.text, tt.code)
		}
	}
	r := receipt.Receipt{Outcome: receipt.DeniedKey, Detail: "key_revoked", Time: 1_500_000}
	if r.Code() != "key_revoked" || !r.At().Equal(time.Unix(1, 500_000_000)) || r.At().Location() != time.UTC {
		t.Errorf("%q at %s", r.Code(), r.At())
	}
}

func TestShortID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		id   receipt.ShortID
		want string
	}{
		{receipt.ShortID{}, "00000000000000000"},
		{receipt.ShortID{Seq: 61}, "0000000000000000z"},
		{receipt.ShortID{Seq: 62}, "00000000000000010"},
		{receipt.ShortID{Seq: 1<<48 + 62}, "00000000000000010"},
		// 2^48 = 281474976710656.
		{receipt.ShortID{Epoch: 1}, "000000001HvWXNAa8"},
		// 2^80.
		{receipt.ShortID{Node: 1}, "00062iEp5bu9VZbsW"},
		// 2^96-1.
		{receipt.ShortID{Node: math.MaxUint16, Epoch: math.MaxUint32, Seq: 1<<48 - 1}, "1f2SI9UJPXvb7vdJ1"},
	}
	for _, tt := range tests {
		if got := tt.id.String(); got != tt.want {
			t.Errorf("%+v is %q, want %q", tt.id, got, tt.want)
		}
	}
	for _, s := range []string{
		"", "0000000000000000", "000000000000000000", "0000000000000000-", "\xff0000000000000000",
		"1f2SI9UJPXvb7vdJ2", "zzzzzzzzzzzzzzzzz", " 0000000000000000",
	} {
		if id, err := receipt.ParseShortID(s); !errors.Is(err, receipt.ErrToken) {
			t.Errorf("%q is %+v, %v", s, id, err)
		}
	}
}

func drawShort(t *rapid.T, name string) receipt.ShortID {
	return receipt.ShortID{
		Node: rapid.Uint16().Draw(t, name+" node"), Epoch: rapid.Uint32().Draw(t, name+" epoch"),
		Seq: rapid.Uint64Range(0, 1<<48-1).Draw(t, name+" seq"),
	}
}

func TestShortIDsRoundTripAndSort(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawShort(t, "a"), drawShort(t, "b")
		b.Node = a.Node
		if got, err := receipt.ParseShortID(a.String()); err != nil || got != a {
			t.Fatalf("%+v became %+v, %v", a, got, err)
		}
		older := a.Epoch < b.Epoch || a.Epoch == b.Epoch && a.Seq < b.Seq
		if older != (a.String() < b.String()) {
			t.Fatalf("%+v is %s, %+v is %s", a, a, b, b)
		}
	})
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	only := func(change func(r *receipt.Receipt)) receipt.Receipt {
		r := denied()
		change(&r)
		return r
	}
	tests := map[string]receipt.Receipt{
		"usual":         denied(),
		"outcome only":  {ID: receipt.ShortID{Seq: 5}, Outcome: receipt.DeniedKey, Detail: "key_missing", Time: 1, Deciding: -1},
		"no deciding":   only(func(r *receipt.Receipt) { r.Outcome, r.Deciding = receipt.Allowed, -1 }),
		"first decides": only(func(r *receipt.Receipt) { r.Deciding = 0 }),
		"last decides":  only(func(r *receipt.Receipt) { r.Deciding = 2 }),
		"other ids":     only(func(r *receipt.Receipt) { r.CustomerID, r.KeyID = "key_00000000000000000000000000", "demo" }),
		"sub id":        only(func(r *receipt.Receipt) { r.CustomerID = "sub_00000000000000000000000000" }),
		"truncated":     only(func(r *receipt.Receipt) { r.Truncated = true }),
		"other meters":  only(func(r *receipt.Receipt) { r.Limits[0].Meter, r.Limits[1].Scale = "tokens", 9 }),
		"extremes": only(func(r *receipt.Receipt) {
			r.Time, r.Cost, r.CatalogVersion = math.MinInt64, math.MaxInt64, math.MinInt64
			l := &r.Limits[1]
			l.Before, l.After, l.Quota, l.Kind, l.Scale = math.MinInt64, math.MaxInt64, math.MinInt64, math.MaxUint8, 255
			l.ResetAt, l.WindowStart = math.MaxInt64, math.MinInt64
		}),
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			encoded := want.Encode([]byte("before"))
			if !bytes.HasPrefix(encoded, []byte("before")) {
				t.Fatalf("dst is gone: %q", encoded)
			}
			got, err := receipt.Decode(encoded[len("before"):])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("receipt (-want +got):\n%s", diff)
			}
		})
	}
}

func decode(t *testing.T, r receipt.Receipt) receipt.Receipt {
	t.Helper()
	encoded := r.Encode(nil)
	if len(encoded) > receipt.MaxEncoded {
		t.Fatalf("%d bytes", len(encoded))
	}
	got, err := receipt.Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestWhatGivesWay fills receipts step by step and looks at what is left.
func TestWhatGivesWay(t *testing.T) {
	t.Parallel()
	long := func(c string) string { return strings.Repeat(c, 64) }

	r := denied()
	for range 30 {
		r.WouldPassOn = append(r.WouldPassOn, "another_plan")
	}
	got := decode(t, r)
	if n := len(got.WouldPassOn); !got.Truncated || n == 0 || n > 29 || len(got.Limits) != 3 || got.WouldPassOn[0] != "pro" {
		t.Errorf("plans did not give way first: %+v", got)
	}

	r = denied()
	r.Limits = append(r.Limits, slices.Repeat(r.Limits[:1], 20)...)
	last := len(r.Limits) - 1
	r.Limits[last].Key, r.Deciding = "decides", last
	got = decode(t, r)
	if n := len(got.Limits); !got.Truncated || got.WouldPassOn != nil || n < 4 || got.Deciding != n-1 ||
		!cmp.Equal(got.Limits[n-1], r.Limits[last]) || !cmp.Equal(got.Limits[:n-1], r.Limits[:n-1]) || got.Route != r.Route {
		t.Errorf("limits did not give way from the end: %+v", got)
	}

	r = denied()
	r.Limits[1].Key, r.Route, r.Customer = long("l"), "GET /"+strings.Repeat("r", 45), long("c")
	got = decode(t, r)
	if len(got.Limits) != 1 || got.Deciding != 0 || got.Limits[0] != r.Limits[1] || got.Route != r.Route || got.Customer != r.Customer {
		t.Errorf("texts gave way before limits: %+v", got)
	}

	r.Plan = strings.Repeat("p", 55)
	got = decode(t, r)
	if got.Route != "" || got.Customer != r.Customer || got.Plan != r.Plan || got.Limits[got.Deciding] != r.Limits[1] {
		t.Errorf("the route did not give way: %+v", got)
	}

	r.Meter, r.Limits[1].Meter = long("m"), long("m")
	got = decode(t, r)
	if got.Customer != "" || got.Plan != r.Plan || got.Limits[got.Deciding] != r.Limits[1] {
		t.Errorf("the customer's key did not give way: %+v", got)
	}

	r.Limits[1].Meter = long("n")
	got = decode(t, r)
	if got.Plan != "" || got.Meter != r.Meter || got.Limits[got.Deciding] != r.Limits[1] {
		t.Errorf("the plan did not give way: %+v", got)
	}

	r.CustomerID, r.KeyID = long("i"), "x"+long("é")
	got = decode(t, r)
	if got.Meter != "" || got.CustomerID != r.CustomerID[:32] || got.KeyID != "x"+strings.Repeat("é", 15) || got.Limits[got.Deciding].Key != r.Limits[1].Key {
		t.Errorf("the meters did not give way: %+v", got)
	}
}

func drawReceipt(t *rapid.T) receipt.Receipt {
	text := rapid.OneOf(
		rapid.StringN(0, 12, -1), rapid.StringN(0, 200, -1), rapid.Just(strings.Repeat("x", 64)), rapid.Just("api_calls"),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 70), func(b []byte) string { return string(b) }),
	)
	id := rapid.OneOf(text, rapid.SampledFrom([]string{
		"cus_01bmzff6000000000000000000", "key_7zzzzzzzzzzzzzzzzzzzzzzzzz", "cus_01bmzff6000000000000000000€",
	}))
	limit := rapid.Custom(func(t *rapid.T) receipt.Limit {
		return receipt.Limit{
			Key: text.Draw(t, "limit"), Kind: rapid.Byte().Draw(t, "kind"), Meter: text.Draw(t, "limit's meter"),
			Scale: rapid.IntRange(0, 9).Draw(t, "limit's scale"), Before: rapid.Int64().Draw(t, "before"),
			After: rapid.Int64().Draw(t, "after"), Quota: rapid.Int64().Draw(t, "quota"),
			WindowStart: rapid.Int64().Draw(t, "start"), ResetAt: rapid.Int64().Draw(t, "reset"), Violated: rapid.Bool().Draw(t, "violated"),
		}
	})
	r := receipt.Receipt{
		ID: drawShort(t, "id"), Outcome: receipt.Outcome(rapid.IntRange(1, 8).Draw(t, "outcome")),
		Detail: text.Draw(t, "detail"), Time: rapid.Int64().Draw(t, "time"), CatalogVersion: rapid.Int64().Draw(t, "version"),
		CustomerID: id.Draw(t, "customer id"), Customer: text.Draw(t, "customer"), KeyID: id.Draw(t, "key id"),
		Plan: text.Draw(t, "plan"), Route: text.Draw(t, "route"), Meter: text.Draw(t, "meter"),
		Scale: rapid.IntRange(0, 9).Draw(t, "scale"), Cost: rapid.Int64().Draw(t, "cost"),
		Limits: rapid.SliceOfN(limit, 0, 6).Draw(t, "limits"), WouldPassOn: rapid.SliceOfN(text, 0, 6).Draw(t, "plans"),
		Truncated: rapid.Bool().Draw(t, "truncated"),
	}
	r.Deciding = rapid.IntRange(-1, len(r.Limits)-1).Draw(t, "deciding")
	return r
}

// TestEncodedFitsAndDecodes: whatever is put in, it fits, decodes, keeps what matters, and tells when something is left out.
func TestEncodedFitsAndDecodes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawReceipt(t)
		encoded := r.Encode(nil)
		if len(encoded) > receipt.MaxEncoded {
			t.Fatalf("%d bytes", len(encoded))
		}
		got, err := receipt.Decode(encoded)
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if !got.Truncated {
			if diff := cmp.Diff(r, got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("receipt (-want +got):\n%s", diff)
			}
		}
		if got.ID != r.ID || got.Outcome != r.Outcome || got.Time != r.Time || got.Cost != r.Cost {
			t.Fatalf("%+v became %+v", r, got)
		}
		if (r.Deciding >= 0) != (got.Deciding >= 0) {
			t.Fatalf("deciding %d became %d", r.Deciding, got.Deciding)
		}
		if r.Deciding >= 0 {
			want, have := r.Limits[r.Deciding], got.Limits[got.Deciding]
			if !strings.HasPrefix(want.Key, have.Key) {
				t.Fatalf("deciding limit %q became %q", want.Key, have.Key)
			}
			want.Key, want.Meter, have.Key, have.Meter = "", "", "", ""
			if want != have {
				t.Fatalf("deciding limit %+v became %+v", want, have)
			}
		}
	})
}

// TestDecodeRefusesOtherBytes changes, cuts and lengthens a good receipt byte by byte: all that still decodes is
// another receipt in its one form.
func TestDecodeRefusesOtherBytes(t *testing.T) {
	t.Parallel()
	r := denied()
	good := r.Encode(nil)
	try := func(b []byte) {
		if got, err := receipt.Decode(b); err == nil {
			if again := got.Encode(nil); !bytes.Equal(again, b) {
				t.Errorf("%x became %x", b, again)
			}
		} else if !errors.Is(err, receipt.ErrToken) {
			t.Error(err)
		}
	}
	for i := range good {
		if _, err := receipt.Decode(good[:i]); !errors.Is(err, receipt.ErrToken) {
			t.Errorf("the first %d bytes: %v", i, err)
		}
		for c := range 256 {
			b := bytes.Clone(good)
			b[i] = byte(c)
			try(b)
			try(slices.Insert(b, i, byte(c)))
		}
	}
	for name, b := range map[string][]byte{
		"longer": append(bytes.Clone(good), 0), "too long": make([]byte, receipt.MaxEncoded+1),
		"version 2": append([]byte{2}, good[1:]...), "no outcome": append([]byte{1, 0}, good[2:]...), "outcome 14": append([]byte{1, 28}, good[2:]...),
	} {
		if _, err := receipt.Decode(b); !errors.Is(err, receipt.ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	r := denied()
	f.Add(r.Encode(nil))
	r = receipt.Receipt{Outcome: receipt.DeniedKey, Detail: "key_missing", Deciding: -1}
	f.Add(r.Encode(nil))
	f.Add([]byte{})
	f.Add([]byte{1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := receipt.Decode(b)
		if err != nil {
			if !errors.Is(err, receipt.ErrToken) {
				t.Fatal(err)
			}
			return
		}
		if again := r.Encode(nil); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

func FuzzParseShortID(f *testing.F) {
	f.Add("00000000000000000")
	f.Add("1f2SI9UJPXvb7vdJ1")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := receipt.ParseShortID(s)
		if err != nil {
			if !errors.Is(err, receipt.ErrToken) {
				t.Fatal(err)
			}
			return
		}
		if id.String() != s || id.Seq >= 1<<48 {
			t.Errorf("%q is %+v, which is %q", s, id, id)
		}
	})
}
