package seal_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/seal"
)

// number and text are fields as a record has them.
func number(dst []byte, tag, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, tag<<1), v)
}

func text(dst []byte, tag uint64, v string) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(dst, tag<<1|1), uint64(len(v))), v...)
}

func head(kind byte, position uint64, fields []byte) []byte {
	return append(binary.LittleEndian.AppendUint64([]byte{kind}, position), fields...)
}

// eventHead is the event at position 5: 3 calls of acme.
func eventHead() []byte {
	f := number(nil, 2, 2)
	f = number(f, 4, uint64(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMicro())<<1)
	f = text(text(text(f, 5, "api"), 6, "e1"), 7, "request")
	f = text(f, 8, strings.Repeat("d", 16))
	return head(1, 5, text(f, 9, "\x04acme\x05calls\x02\x013\x01\x05route\x04/one"))
}

// world is a small tree with an event at position 5 and a sealed close at position 7.
type world struct {
	signer   note.Signer
	key      string
	salt     seal.Commitment
	payload  []byte
	hashes   []tlog.Hash
	document []byte
}

const size = 9

var testKey = [seal.KeySize]byte{'k', 31: 'z'}

// TestForms holds what is written out by hand to the libraries.
func TestForms(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := [seal.KeySize]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		position := rapid.Uint64().Draw(t, "position")
		mac := hmac.New(sha256.New, key[:])
		mac.Write(binary.BigEndian.AppendUint64(nil, position))
		salt := seal.Salt(&key, position)
		if !hmac.Equal(mac.Sum(nil), salt[:]) {
			t.Fatal("the salt is not the HMAC")
		}
		digest := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "digest")
		payload := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "payload")
		c := seal.Commit(salt, digest, payload)
		if want := sha256.Sum256(bytes.Join([][]byte{{1}, salt[:], {16}, digest, payload}, nil)); c != want {
			t.Fatal("the commitment is not the hash")
		}
		before, behind := text(nil, 5, "api"), text(nil, 9, "x")
		whole := head(1, position, append(text(bytes.Clone(before), 8, string(digest)), behind...))
		open := head(1, position, append(bytes.Clone(before), behind...))
		got, err := seal.Hash(whole, &c)
		if want := tlog.RecordHash(bytes.Join([][]byte{{1, 1}, c[:], open}, nil)); err != nil || got != want {
			t.Fatalf("the leaf is not the record's hash: %v", err)
		}
		got, err = seal.Hash(whole, nil)
		if want := tlog.RecordHash(append([]byte{1, 0}, whole...)); err != nil || got != want {
			t.Fatalf("the bare leaf is not the record's hash: %v", err)
		}
		public, split, err := seal.Split(whole)
		if err != nil || !bytes.Equal(public, open) || !bytes.Equal(split, digest) {
			t.Fatalf("split: %v", err)
		}
	})
}

func newWorld(t testing.TB) *world {
	t.Helper()
	skey, vkey, err := seal.NewKey(bytes.NewReader(bytes.Repeat([]byte{7}, 64)), seal.Origin("d1"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{key: vkey, salt: seal.Salt(&testKey, 5), payload: text(text(nil, 1, "acme"), 2, `{"n":3}`)}
	if w.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	w.document = close1(t)
	for p := uint64(1); p <= size; p++ {
		var h tlog.Hash
		switch p {
		case 5:
			c := seal.Commit(w.salt, []byte(strings.Repeat("d", 16)), w.payload)
			h, err = seal.Hash(eventHead(), &c)
		case 7:
			h, err = seal.Hash(w.sealHead(), nil)
		default:
			h, err = seal.Hash(head(2, p, nil), nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.hashes = append(w.hashes, h)
	}
	return w
}

func (w *world) sealHead() []byte { return head(8, 7, text(nil, 24, string(w.document))) }

var parts = []seal.Part{{Position: 5, Hash: tlog.Hash{1}}, {Position: 6, Hash: tlog.Hash{2}}}

func close1(t testing.TB) []byte {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	usd, err := money.ParseCurrency("USD")
	if err != nil {
		t.Fatal(err)
	}
	month := period.Interval{Start: start, End: start.AddDate(0, 1, 0)}
	c := seal.Close{
		Subscription: "sub_1", Customer: "acme", Period: month, Position: 6, Invoice: "inv_1",
		Series: []seal.Series{{Meter: "calls", Value: money.FromInt(3), Count: 2, Root: seal.RootOf([]tlog.Hash{parts[0].Hash, parts[1].Hash})}},
		Lines: []invoice.Line{
			{ID: "iln_1", Number: 1, Kind: invoice.UsageLine, Price: "calls", Meter: "calls", Period: month, Quantity: money.FromInt(3), Rounded: money.NewAmount(3, usd)},
			{ID: "iln_2", Number: 2, Kind: invoice.FlatLine, Price: "base", Period: month, Quantity: money.FromInt(1), Rounded: money.NewAmount(2000, usd)},
		},
	}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) source() seal.Source {
	return seal.Source{Leaves: func(from int64, n int) ([]tlog.Hash, error) { return w.hashes[from:][:n], nil }}
}

func (w *world) checkpoint(t testing.TB) string {
	root, err := tlog.TreeHash(size, w.source())
	if err != nil {
		t.Fatal(err)
	}
	msg, err := seal.Checkpoint{Origin: seal.Origin("d1"), Size: size, Root: root, Time: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)}.Sign(w.signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(msg)
}

func (w *world) bundle(t testing.TB, proof string, edit func(*seal.Bundle)) []byte {
	t.Helper()
	b := seal.Bundle{Proof: proof, Checkpoint: w.checkpoint(t)}
	var err error
	position := uint64(5)
	switch proof {
	case seal.EventProof:
		if b.Leaf, err = seal.LeafOf(5, eventHead(), w.payload, &w.salt, nil); err != nil {
			t.Fatal(err)
		}
		h, err := seal.ParseHead(b.Leaf.Head)
		if err != nil {
			t.Fatal(err)
		}
		if b.Event, err = seal.EventOf(h, b.Leaf); err != nil {
			t.Fatal(err)
		}
	default:
		position = 7
		if b.Leaf, err = seal.LeafOf(7, w.sealHead(), nil, nil, nil); err != nil {
			t.Fatal(err)
		}
		c, err := seal.ParseClose(w.document)
		if err != nil {
			t.Fatal(err)
		}
		if b.Line, err = seal.LineOf(c, "iln_1"); err != nil {
			t.Fatal(err)
		}
	}
	if b.Path, err = tlog.ProveRecord(size, int64(position)-1, w.source()); err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(&b)
	}
	out, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVerifyEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, c, err := seal.Verify(w.bundle(t, seal.EventProof, nil), w.key)
	if err != nil {
		t.Fatal(err)
	}
	want := &seal.EventPart{
		Position: 5, Source: "api", ID: "e1", Type: "request", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), ReceivedAt: time.UnixMicro(0).UTC(),
		Origin: "reported", Subject: "acme", Data: json.RawMessage(`{"n":3}`),
		Counts: []seal.Count{{Customer: "acme", Meter: "calls", Value: money.FromInt(3), Dimensions: []seal.Dimension{{Name: "route", Value: "/one"}}}},
	}
	want.Data, b.Event.Data = nil, nil // indented with the rest
	if diff := cmp.Diff(want, b.Event, cmp.Comparer(func(a, b money.Decimal) bool { return a.Cmp(b) == 0 })); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if c.Size != size || c.Origin != "tallystick/d1" {
		t.Errorf("checkpoint %+v", c)
	}
}

func TestVerifyLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, events := range [][]seal.Part{nil, parts} {
		b, _, err := seal.Verify(w.bundle(t, seal.LineProof, func(b *seal.Bundle) { b.Line.Events = events }), w.key)
		if err != nil {
			t.Fatal(err)
		}
		if b.Line.Line.Price != "calls" || b.Line.Close.Series[0].Count != 2 || len(b.Line.Events) != len(events) {
			t.Errorf("line %+v", b.Line)
		}
	}
	for name, events := range map[string][]seal.Part{
		"one is missing": parts[:1], "other order": {parts[1], parts[0]}, "another": {parts[0], {Position: 6, Hash: tlog.Hash{3}}},
		"behind the close": {parts[0], {Position: 7, Hash: tlog.Hash{2}}},
	} {
		if _, _, err := seal.Verify(w.bundle(t, seal.LineProof, func(b *seal.Bundle) { b.Line.Events = events }), w.key); !errors.Is(err, seal.ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestErasedEvent proves an event whose payload and key are gone: the commitment stands for them.
func TestErasedEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, err := seal.CommitRecord(testKey[:], 5, eventHead(), w.payload)
	if err != nil {
		t.Fatal(err)
	}
	erased := w.bundle(t, seal.EventProof, func(b *seal.Bundle) {
		if b.Leaf, err = seal.LeafOf(5, eventHead(), nil, nil, &c); err != nil {
			t.Fatal(err)
		}
		h, err := seal.ParseHead(b.Leaf.Head)
		if err != nil {
			t.Fatal(err)
		}
		if b.Event, err = seal.EventOf(h, b.Leaf); err != nil {
			t.Fatal(err)
		}
	})
	b, _, err := seal.Verify(erased, w.key)
	if err != nil || !b.Event.Erased || b.Event.Subject != "" {
		t.Errorf("%+v, %v", b.Event, err)
	}
	if bytes.Contains(b.Leaf.Head, []byte(strings.Repeat("d", 16))) {
		t.Error("the digest is shown, with which a guess of the payload could be tested")
	}
}

// TestEveryByteCounts alters each byte of both bundles in turn.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, proof := range []string{seal.EventProof, seal.LineProof} {
		whole := w.bundle(t, proof, nil)
		for i := range whole {
			for _, flip := range []byte{1, 0x20} {
				bad := bytes.Clone(whole)
				bad[i] ^= flip
				if _, _, err := seal.Verify(bad, w.key); !errors.Is(err, seal.ErrProof) {
					t.Fatalf("%s: byte %d flipped by %x: %v", proof, i, flip, err)
				}
			}
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, other, err := seal.NewKey(bytes.NewReader(bytes.Repeat([]byte{8}, 64)), seal.Origin("d1"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, err := seal.Verify(w.bundle(t, seal.LineProof, nil), w.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key, says string
		edit      func(*seal.Bundle)
	}{
		"wrong key":      {other, "not signed by the key", nil},
		"no key":         {"x", "not a public note key", nil},
		"other position": {w.key, "position", func(b *seal.Bundle) { b.Leaf.Number = 5 }},
		"negative":       {w.key, "position", func(b *seal.Bundle) { b.Leaf.Number = -1 }},
		"payload":        {w.key, "signed root", func(b *seal.Bundle) { b.Leaf.Payload = text(text(nil, 1, "acme"), 2, `{"n":4}`) }},
		"salt":           {w.key, "signed root", func(b *seal.Bundle) { b.Leaf.Salt[0] ^= 1 }},
		"path":           {w.key, "signed root", func(b *seal.Bundle) { b.Path[0][0] ^= 1 }},
		"short path":     {w.key, "signed root", func(b *seal.Bundle) { b.Path = b.Path[1:] }},
		"readable field": {w.key, "not what its leaf says", func(b *seal.Bundle) { b.Event.ID = "e2" }},
		"two parts":      {w.key, "not what its leaf says", func(b *seal.Bundle) { b.Line = line.Line }},
		"other proof":    {w.key, "expected", func(b *seal.Bundle) { b.Proof = "event/2" }},
		"not a line":     {w.key, "not a sealed close", func(b *seal.Bundle) { b.Proof = seal.LineProof }},
		"no salt":        {w.key, "needs its salt", func(b *seal.Bundle) { b.Leaf.Salt = nil }},
	} {
		bundle := w.bundle(t, seal.EventProof, c.edit)
		if name == "salt" {
			w.salt[0] ^= 1
		}
		if _, _, err := seal.Verify(bundle, c.key); !errors.Is(err, seal.ErrProof) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, expected %q", name, err, c.says)
		}
	}
	if _, _, err := seal.Verify([]byte("{}"), w.key); !errors.Is(err, seal.ErrProof) {
		t.Errorf("an empty bundle: %v", err)
	}
}

func TestRangeIsTheTree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 1200).Draw(t, "leaves")
		var r seal.Range
		var leaves, level1, level2 []tlog.Hash
		var block, blocks seal.Range
		for i := range n {
			h := tlog.RecordHash([]byte{byte(i), byte(i >> 8)})
			leaves = append(leaves, h)
			r.Add(h)
			if block.Add(h); block.Size() == seal.Block {
				level1 = append(level1, block.Root())
				blocks.Add(block.Root())
				block = seal.Range{}
			}
		}
		src := seal.Source{
			Leaves: func(from int64, n int) ([]tlog.Hash, error) { return leaves[from:][:n], nil },
			Tiles: func(level int, from int64, n int) ([]tlog.Hash, error) {
				return [][]tlog.Hash{level1, level2}[level-1][from:][:n], nil
			},
		}
		want := seal.EmptyRoot()
		if n > 0 {
			var err error
			if want, err = tlog.TreeHash(int64(n), src); err != nil {
				t.Fatal(err)
			}
		}
		if r.Root() != want || r.Size() != int64(n) {
			t.Fatalf("%d leaves: root %v, the tree's is %v", n, r.Root(), want)
		}
		if n > 0 {
			i := rapid.Int64Range(0, int64(n)-1).Draw(t, "leaf")
			p, err := tlog.ProveRecord(int64(n), i, src)
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckRecord(p, int64(n), r.Root(), i, leaves[i]); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.checkpoint(t)
	if _, err := seal.Open([]byte(good), w.key+"\n"); err != nil {
		t.Fatal(err)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := len(good) - len("x=\n")
	respelled := good[:last] + string(alphabet[strings.IndexByte(alphabet, good[last])^1]) + "=\n" // the same bytes in base64
	sign := func(text string) string {
		msg, err := note.Sign(&note.Note{Text: text}, w.signer)
		if err != nil {
			t.Fatal(err)
		}
		return string(msg)
	}
	zero := tlog.Hash{}.String()
	for _, bad := range []string{
		"", respelled, good + "x", good + "— other AAAAAAAA\n", strings.Replace(good, "\n9\n", "\n8\n", 1),
		sign("tallystick/d1\n9\n"), sign("tallystick/d1\n+9\n" + zero + "\n2026-02-01T00:00:00Z\n"), sign("tallystick/d1\n-1\n" + zero + "\n2026-02-01T00:00:00Z\n"),
		sign("tallystick/d2\n9\n" + zero + "\n2026-02-01T00:00:00Z\n"), sign("tallystick/d1\n9\n" + zero + "\nnow\n"), sign("tallystick/d1\n9\nzero\n2026-02-01T00:00:00Z\n"),
		sign("tallystick/d1\n9\n" + zero + "\n2026-02-01T01:00:00+01:00\n"), sign("tallystick/d1\n9\n" + zero + "\n2026-02-01T00:00:00Z\nmore\n"),
	} {
		if _, err := seal.Open([]byte(bad), w.key); !errors.Is(err, seal.ErrProof) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseCloseRefuses(t *testing.T) {
	t.Parallel()
	good := string(close1(t))
	for _, bad := range []string{"", "{}", good + " ", strings.Replace(good, `"close/1"`, `"close/2"`, 1), strings.Replace(good, `"position":6`, `"position":06`, 1), strings.Replace(good, `"count"`, `"Count"`, 1)} {
		if _, err := seal.ParseClose([]byte(bad)); !errors.Is(err, seal.ErrProof) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	f.Add(w.bundle(f, seal.EventProof, nil))
	f.Add(w.bundle(f, seal.LineProof, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := seal.Verify(b, w.key); err == nil {
			got, _, _ := seal.Verify(b, w.key)
			again, err := got.Encode()
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("a bundle that holds has a second form")
			}
		} else if !errors.Is(err, seal.ErrProof) {
			t.Errorf("not an ErrProof: %v", err)
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add(eventHead())
	f.Add(newWorld(f).sealHead())
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := seal.ParseHead(b)
		_, _, serr := seal.Split(b)
		if err == nil && serr != nil {
			t.Errorf("it parses and does not split: %v", serr)
		}
		_, _ = seal.ParsePayload(b)
	})
}
