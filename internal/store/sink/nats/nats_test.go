package nats

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/sink"
	"github.com/tallystick/tallystick/internal/store/sink/sinktest"
)

// serve starts a server with JetStream, with a stream for usage.>, and returns its host:port and a way past the wire.
func serve(t *testing.T) (string, jetstream.JetStream) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "USAGE", Subjects: []string{"usage.>"}}); err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(s.ClientURL(), "nats://"), js
}

func received(t *testing.T, js jetstream.JetStream) []store.Message {
	t.Helper()
	st, err := js.Stream(t.Context(), "USAGE")
	if err != nil {
		t.Fatal(err)
	}
	info, err := st.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := []store.Message{}
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		m, err := st.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		kind := "tally.usage.recorded"
		if strings.HasSuffix(m.Subject, ".all") {
			kind = "tally.usage.erased"
		}
		out = append(out, store.Message{ID: m.Header.Get(nats.MsgIdHdr), Type: kind, Body: m.Data})
	}
	return out
}

func target(t *testing.T, host string) sink.Target {
	t.Helper()
	to, err := sink.Parse("nats://" + host + "/usage")
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestConformance(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, func(t *testing.T) sinktest.World {
		host, js := serve(t)
		wire := sinktest.NewWire()
		return sinktest.World{
			Wire: wire,
			Open: func(ctx context.Context) (store.Sink, error) {
				return open(ctx, target(t, host), sink.Credentials{}, nats.SetCustomDialer(wire))
			},
			Received: func(t *testing.T) [][]store.Message { return [][]store.Message{received(t, js)} },
		}
	})
}

// TestTheStreamDropsRepetitions: within its window the stream itself keeps each message once.
func TestTheStreamDropsRepetitions(t *testing.T) {
	t.Parallel()
	host, js := serve(t)
	m := []store.Message{{ID: "a", Key: "cus_1", Body: []byte("1")}, {ID: "b", Key: "cus_1", Body: []byte("2")}}
	for range 2 {
		s, err := Open(t.Context(), target(t, host), sink.Credentials{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := received(t, js); len(got) != 2 {
		t.Errorf("the stream has %d messages, want 2", len(got))
	}
}

func TestNoStream(t *testing.T) {
	t.Parallel()
	host, _ := serve(t)
	to, err := sink.Parse("nats://" + host + "/elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), to, sink.Credentials{}); err == nil || !strings.Contains(err.Error(), "nats stream add") {
		t.Errorf("a subject that no stream takes: %v", err)
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	s := &Sink{prefix: "p"}
	for want, m := range map[string]store.Message{
		"p.usage.cus_1":  {Type: "tally.usage.voided", Key: "cus_1"},
		"p.ledger.cus_1": {Type: "tally.ledger.entry", Key: "cus_1"},
		"p.usage.all":    {Type: "tally.usage.erased"},
		"p.usage.none":   {Type: "tally.usage.recorded", Key: "a source.with > anything"},
	} {
		if got := s.subject(&m); got != want {
			t.Errorf("%s of %q goes to %s, want %s", m.Type, m.Key, got, want)
		}
	}
}
