package sendertest

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

// Gateways checks a driver's promises. open opens an empty store, which it closes when the test ends.
func Gateways(t *testing.T, open func(t *testing.T) store.Records) {
	for name, test := range map[string]func(*testing.T, store.Records){
		"Keys": gatewaysKeys, "Progress": gatewaysProgress, "Findings": gatewaysFindings,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func gatewaysKeys(t *testing.T, r store.Records) {
	ctx := t.Context()
	key := func(n int, node uint16) store.GatewayKey {
		return store.GatewayKey{ID: id("gwk", n), Node: node, Public: [32]byte{byte(n)}, CreatedAt: noon(n)}
	}
	epoch, err := r.NewestEpoch(ctx, 7)
	ok(t, err)
	same(t, "newest epoch of none", epoch, 0)
	var want []store.GatewayKey
	put := func(k store.GatewayKey, from uint32) {
		t.Helper()
		got, err := r.PutGatewayKey(ctx, k, audit(len(want)+1))
		ok(t, err)
		k.FromEpoch = from
		same(t, "put", got, k)
		want = append(want, k)
	}
	put(key(9, 7), 1)
	begun, err := r.BeginEpoch(ctx, 7, "boot", noon(1))
	ok(t, err)
	epoch, err = r.NewestEpoch(ctx, 7)
	ok(t, err)
	same(t, "newest epoch", epoch, begun)
	again, err := r.PutGatewayKey(ctx, key(9, 7), audit(99))
	ok(t, err)
	same(t, "put again", again, want[0])
	put(key(5, 7), begun+1)
	put(key(4, 7), begun+1) // the later one stands behind
	put(key(3, 65535), 1)
	_, err = r.PutGatewayKey(ctx, key(3, 7), audit(99))
	wantErr(t, "another node's key", err, store.ErrExists)
	got, err := r.GatewayKeys(ctx)
	ok(t, err)
	same(t, "keys", got, want)
	log, err := r.ListAudit(ctx, store.Query{Limit: 10})
	ok(t, err)
	same(t, "audit entries", len(log), len(want))
}

func gatewaysProgress(t *testing.T, r store.Records) {
	ctx := t.Context()
	put := func(p store.Progress) store.Progress {
		t.Helper()
		ok(t, r.PutProgress(ctx, p))
		return p
	}
	old := put(store.Progress{Node: 7, Epoch: 1, Sequence: 4, Covered: 900})
	put(store.Progress{Node: 7, Epoch: 1 << 31, Sequence: 1, Covered: 800})
	newest := put(store.Progress{Node: 7, Epoch: 1 << 31, Sequence: 2, Covered: 700})
	other := put(store.Progress{Node: 8, Epoch: 5, Sequence: 1 << 40, Covered: 1 << 50})
	want := func(node uint16, list ...store.Progress) {
		t.Helper()
		got, err := r.Progress(ctx, node)
		ok(t, err)
		same(t, "progress", got, append([]store.Progress{}, list...))
	}
	want(7, newest, old)
	want(8, other)
	want(9)
	for e := range uint32(1000) { // what is too old goes, of this node alone
		newest = put(store.Progress{Node: 7, Epoch: 1<<31 + 1 + e, Sequence: 1})
	}
	got, err := r.Progress(ctx, 7)
	ok(t, err)
	if len(got) != 1000 || got[0] != newest {
		t.Fatalf("%d are kept, the newest is %+v", len(got), got[0])
	}
	want(8, other)
}

func gatewaysFindings(t *testing.T, r store.Records) {
	ctx := t.Context()
	f := store.Finding{Node: 7, Reason: "forged", Count: 1, First: noon(1), Last: noon(1), Detail: "first"}
	ok(t, r.AddFinding(ctx, f))
	gap := store.Finding{Node: 7, Reason: "gap", Count: 2, First: noon(1), Last: noon(2), Detail: "ünï"}
	ok(t, r.AddFinding(ctx, gap))
	ok(t, r.AddFinding(ctx, store.Finding{Node: 7, Reason: "forged", Count: 5, First: noon(2), Last: noon(3).Add(time.Microsecond), Detail: "last"}))
	other := store.Finding{Node: 3, Reason: "forged", Count: 1, First: noon(1), Last: noon(1)}
	ok(t, r.AddFinding(ctx, other))
	f.Count, f.Last, f.Detail = 6, noon(3).Add(time.Microsecond), "last"
	got, err := r.Findings(ctx)
	ok(t, err)
	same(t, "findings", got, []store.Finding{other, f, gap})
}
