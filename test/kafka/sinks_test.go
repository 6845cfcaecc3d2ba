//go:build kafka

package kafka_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// partitions of the topic that is exported to.
const partitions = 3

// told is a message as a consumer has it.
type told struct {
	id, key, kind string
	body          []byte
}

// sinks are where exports go: a topic, and a stream of an embedded NATS server.
type sinks struct {
	d       *deployment
	b       *broker
	js      jetstream.JetStream
	deposit int // ledger entries
}

const topicOut, subjectOut = "told", "told"

func newSinks(d *deployment, b *broker) *sinks {
	d.t.Helper()
	s := &sinks{d: d, b: b}
	b.topic(d.t, topicOut, partitions)
	n, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: d.t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		d.t.Fatal(err)
	}
	go n.Start()
	d.t.Cleanup(func() { n.Shutdown(); n.WaitForShutdown() })
	if !n.ReadyForConnections(patience) {
		d.t.Fatal("the NATS server does not start")
	}
	conn, err := nats.Connect(n.ClientURL())
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(conn.Close)
	if s.js, err = jetstream.New(conn); err != nil {
		d.t.Fatal(err)
	}
	// So short a window lets repetitions in, which a consumer has to expect.
	if _, err := s.js.CreateStream(d.t.Context(), jetstream.StreamConfig{Name: "TOLD", Subjects: []string{subjectOut + ".>"}, Duplicates: 100 * time.Millisecond}); err != nil {
		d.t.Fatal(err)
	}
	for name, to := range map[string]string{"topic": "kafka://" + b.addr + "/" + topicOut, "stream": "nats://" + strings.TrimPrefix(n.ClientURL(), "nats://") + "/" + subjectOut} {
		var ignored any
		d.command(&ignored, "exports", "create", name, "--to", to, "--from", "start")
	}
	s.enter()
	return s
}

// enter makes a ledger entry.
func (s *sinks) enter() {
	s.d.t.Helper()
	var ignored any
	s.d.command(&ignored, "customers", "deposit", s.d.customer, "5.00")
	s.deposit++
}

// drained waits until both exports have nothing left to tell.
func (s *sinks) drained() {
	s.d.t.Helper()
	ctx := patient(s.d.t)
	for _, name := range []string{"topic", "stream"} {
		for {
			var at struct {
				State   string
				Records json.Number `json:"behind_records"`
				Entries json.Number `json:"behind_entries"`
				Error   any
			}
			s.d.command(&at, "exports", "show", name)
			if at.Records == "0" && at.Entries == "0" {
				break
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				s.d.t.Fatalf("export %s stands still: %+v", name, at)
			}
		}
	}
}

// check reads both sinks as consumers would.
func (s *sinks) check(l *load) {
	s.d.t.Helper()
	s.enter()
	s.drained()
	want := map[string]bool{}
	for _, id := range l.acked {
		want["usage/test/"+id+"/0"] = true
	}
	calls := s.d.usage("api_calls")
	for name, parts := range map[string][][]told{"Kafka": s.fromKafka(), "NATS": s.fromNATS()} {
		s.hold(name, parts, want, calls)
	}
}

// hold wants every event and entry in what was told, each id with one content, and first arrivals in the journal's order.
func (s *sinks) hold(name string, parts [][]told, want map[string]bool, calls int) {
	t := s.d.t
	t.Helper()
	seen := map[string][]byte{}
	all, requests, entries := 0, 0, 0
	home := map[string]int{} // partition by key
	for p, list := range parts {
		last := map[string]int64{} // position or number by kind and key
		for _, m := range list {
			all++
			if was, ok := home[m.key]; ok && was != p {
				t.Errorf("%s: key %q is in partitions %d and %d", name, m.key, was, p)
			}
			home[m.key] = p
			if was, ok := seen[m.id]; ok {
				if !bytes.Equal(was, m.body) {
					t.Errorf("%s: %s came with two contents:\n%s\n%s", name, m.id, was, m.body)
				}
				continue
			}
			seen[m.id] = m.body
			var body struct {
				ID   string
				Data struct{ Position, Number int64 }
			}
			if err := json.Unmarshal(m.body, &body); err != nil || body.ID != m.id {
				t.Fatalf("%s: %s: %v\n%s", name, m.id, err, m.body)
			}
			line := m.key
			if m.kind == "tally.ledger.entry" {
				line, entries = "ledger/"+line, entries+1
			} else if strings.HasPrefix(m.id, "usage/gateway") {
				requests++
			}
			if at := body.Data.Position + body.Data.Number; at <= last[line] {
				t.Errorf("%s: %s at %d comes behind %d", name, m.id, at, last[line])
			} else {
				last[line] = at
			}
		}
	}
	missing := 0
	for id := range want {
		if seen[id] == nil {
			missing++
		}
	}
	t.Logf("%s: %d messages, %d of them repeated; %d of %d reported events missing, %d requests of %d, %d ledger entries", name, all, all-len(seen), missing, len(want), requests, calls, entries)
	if missing > 0 || requests != calls || entries != s.deposit || len(seen) != len(want)+requests+entries {
		t.Errorf("%s was told %d messages besides: something is missing, or nothing of ours", name, len(seen)-len(want)-requests-entries)
	}
}

// fromKafka reads the topic to the ends that it has now.
func (s *sinks) fromKafka() [][]told {
	t := s.d.t
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(s.b.addr), kgo.ConsumeTopics(topicOut), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	left := s.ends(c)
	out := make([][]told, partitions)
	ctx := patient(t)
	for left[0]+left[1]+left[2] > 0 {
		f := c.PollFetches(ctx)
		if err := f.Err0(); err != nil {
			t.Fatalf("%v, left %v", err, left)
		}
		f.EachRecord(func(r *kgo.Record) {
			m := told{key: string(r.Key), body: r.Value}
			for _, h := range r.Headers {
				switch h.Key {
				case "id":
					m.id = string(h.Value)
				case "type":
					m.kind = string(h.Value)
				}
			}
			out[r.Partition] = append(out[r.Partition], m)
			left[r.Partition]--
		})
	}
	return out
}

// ends are how many messages are in each partition.
func (s *sinks) ends(c *kgo.Client) (left [partitions]int64) {
	s.d.t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	one := kmsg.NewListOffsetsRequestTopic()
	one.Topic = topicOut
	for p := range int32(partitions) {
		at := kmsg.NewListOffsetsRequestTopicPartition()
		at.Partition, at.Timestamp = p, -1
		one.Partitions = append(one.Partitions, at)
	}
	req.Topics = append(req.Topics, one)
	resp, err := req.RequestWith(s.d.t.Context(), c)
	if err != nil {
		s.d.t.Fatal(err)
	}
	for _, p := range resp.Topics[0].Partitions {
		left[p.Partition] = p.Offset
	}
	return left
}

// fromNATS reads the stream; a customer's messages are in one order in it.
func (s *sinks) fromNATS() [][]told {
	t := s.d.t
	t.Helper()
	st, err := s.js.Stream(t.Context(), "TOLD")
	if err != nil {
		t.Fatal(err)
	}
	info, err := st.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var list []told
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		m, err := st.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		var head struct{ Type, PartitionKey string }
		if err := json.Unmarshal(m.Data, &head); err != nil {
			t.Fatal(err)
		}
		list = append(list, told{m.Header.Get(nats.MsgIdHdr), head.PartitionKey, head.Type, m.Data})
	}
	return [][]told{list}
}
