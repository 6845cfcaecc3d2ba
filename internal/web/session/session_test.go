package session

import (
	"testing"
	"time"
)

func TestSignAndVerify(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := New(make([]byte, 32), "tok", func() time.Time { return now })
	token, expires := s.Sign(PortalLink, "cus_1", time.Hour)
	if want := now.Add(time.Hour); !expires.Equal(want) {
		t.Fatalf("expires %s, want %s", expires, want)
	}
	if sub, _, ok := s.Verify(PortalLink, token); !ok || sub != "cus_1" {
		t.Fatalf("own token refused: %q %v", sub, ok)
	}
	if _, _, ok := s.Verify(Operator, token); ok {
		t.Error("a portal link passed as an operator session")
	}
	for i := range token {
		for _, c := range []byte{'A', 'z', '.', '-'} {
			forged := token[:i] + string(c) + token[i+1:]
			if forged == token {
				continue
			}
			if _, _, ok := s.Verify(PortalLink, forged); ok {
				t.Fatalf("forged at %d accepted", i)
			}
		}
	}
	now = now.Add(time.Hour)
	if _, _, ok := s.Verify(PortalLink, token); ok {
		t.Error("an expired token passed")
	}
	other := New([]byte("another key of thirty-two bytes!"), "tok", func() time.Time { return now.Add(-time.Hour) })
	if _, _, ok := other.Verify(PortalLink, token); ok {
		t.Error("another deployment's token passed")
	}
}

func TestIsOperator(t *testing.T) {
	t.Parallel()
	s := New(make([]byte, 32), "tok", time.Now)
	if !s.IsOperator("tok") || s.IsOperator("to") || s.IsOperator("") {
		t.Error("operator token check is wrong")
	}
}

func FuzzVerify(f *testing.F) {
	s := New(make([]byte, 32), "tok", func() time.Time { return time.Unix(0, 0) })
	f.Add("AAAA.BBBB")
	f.Fuzz(func(t *testing.T, token string) {
		if _, _, ok := s.Verify(Portal, token); ok {
			t.Fatalf("accepted %q", token)
		}
	})
}
