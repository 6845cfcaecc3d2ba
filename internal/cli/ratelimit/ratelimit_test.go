package ratelimit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	t.Parallel()
	const policy, limit = `"burst";q=10;w=2, "daily";q=100;w=86400`, `"burst";r=2;t=2, "daily";r=87;t=7327`
	for _, c := range []struct {
		name          string
		policy, limit []string
		fault         string
	}{
		{"as sent", []string{policy}, []string{limit}, ""},
		{"on two lines", []string{`"burst";q=10;w=2`, `"daily";q=100;w=86400`}, []string{limit}, ""},
		{"more parameters", []string{`"a\"b"; q=5;qu="content-bytes";pk=:cGs=:`}, []string{`"a\"b";r=5`}, ""},
		{"missing", nil, []string{limit}, "expected a quoted name"},
		{"another form", []string{`100;w=60`}, []string{`limit=100, remaining=5`}, "expected a quoted name"},
		{"no q", []string{`"a";w=5`}, []string{`"a";r=1`}, `q="" is no number`},
		{"negative", []string{`"a";q=5`}, []string{`"a";r=-1`}, "is no number of at least 0"},
		{"a fraction", []string{`"a";q=5`}, []string{`"a";r=1.5`}, "is no number of at least 0"},
		{"more than all", []string{`"a";q=5`}, []string{`"a";r=6`}, "r=6 is more than q=5"},
		{"an unknown policy", []string{`"a";q=5`}, []string{`"b";r=1`}, "which RateLimit-Policy does not"},
		{"twice", []string{`"a";q=5`}, []string{`"a";r=1`, `"a";r=1`}, "twice"},
		{"a policy twice", []string{`"a";q=5, "a";q=5`}, []string{`"a";r=1`}, "twice"},
		{"no end", []string{`"a;q=5`}, []string{`"a";r=1`}, "a name without an end"},
		{"no comma", []string{`"a";q=5 "b";q=5`}, []string{`"a";r=1`}, "expected a comma"},
		{"a comma too many", []string{`"a";q=5,`}, []string{`"a";r=1`}, "expected a quoted name"},
		{"too long", []string{`"` + strings.Repeat("a", fieldMax) + `";q=5`}, []string{`"a";r=1`}, "longer than"},
	} {
		_, err := Read(c.policy, c.limit)
		if got := ""; err != nil || c.fault != "" {
			if err != nil {
				got = err.Error()
			}
			if c.fault == "" || !strings.Contains(got, c.fault) {
				t.Errorf("%s: %q, want %q", c.name, got, c.fault)
			}
		}
	}
	got, err := Read([]string{policy}, []string{limit})
	want := map[string]Standing{"burst": {10, 2, 2, 2}, "daily": {100, 86400, 87, 7327}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestFollows(t *testing.T) {
	t.Parallel()
	at := func(r, reset int64) map[string]Standing { return map[string]Standing{"daily": {100, 86400, r, reset}} }
	if err := Follows(at(50, 100), at(49, 99)); err != nil {
		t.Error(err)
	}
	if err := Follows(at(0, 1), at(99, 86400)); err != nil {
		t.Error("a reset:", err)
	}
	if err := Follows(at(50, 100), at(51, 99)); err == nil {
		t.Error("r rose, and nothing was said")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`"burst";q=10;w=2, "daily";q=100`, `"burst";r=2;t=2`)
	f.Add(`"a\"\\";q=1;pk=:YQ==:`, `"a\"\\";r=0`)
	f.Add("\"a\";q=99999999999999999999", ",;=\"")
	f.Fuzz(func(t *testing.T, policy, limit string) {
		got, err := Read([]string{policy}, []string{limit})
		if err != nil {
			return
		}
		for name, s := range got {
			if s.Quota < 0 || s.Remaining < 0 || s.Remaining > s.Quota || s.Window < 0 {
				t.Fatalf("%q: %+v", name, s)
			}
		}
	})
}
