package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/sink"
	"github.com/tallystick/tallystick/internal/store/sink/sinktest"
)

const partitions = 3

func cluster(t *testing.T) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "usage"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

// received reads the topic from its beginning to its end.
func received(t *testing.T, hosts []string) [][]store.Message {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(hosts...), kgo.ConsumeTopics("usage"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out, ends := make([][]store.Message, partitions), make([]int64, partitions)
	probe, err := open(t.Context(), target(t, hosts), sink.Credentials{}) // a last record in each partition tells its end
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	if err := probe.everywhere(t.Context(), &store.Message{ID: "end", Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for open := partitions; open > 0; {
		f := c.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
		f.EachRecord(func(r *kgo.Record) {
			m := store.Message{Key: string(r.Key), Body: r.Value}
			for _, h := range r.Headers {
				switch h.Key {
				case "id":
					m.ID = string(h.Value)
				case "type":
					m.Type = string(h.Value)
				}
			}
			if m.ID == "end" {
				if ends[r.Partition]++; ends[r.Partition] == 1 {
					open--
				}
				return
			}
			out[r.Partition] = append(out[r.Partition], m)
		})
	}
	return out
}

func target(t *testing.T, hosts []string) sink.Target {
	t.Helper()
	to, err := sink.Parse("kafka://" + hosts[0] + "/usage")
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestConformance(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, func(t *testing.T) sinktest.World {
		hosts, wire := cluster(t), sinktest.NewWire()
		return sinktest.World{
			Wire: wire,
			Open: func(ctx context.Context) (store.Sink, error) {
				return open(ctx, target(t, hosts), sink.Credentials{}, kgo.Dialer(wire.DialContext))
			},
			Received: func(t *testing.T) [][]store.Message { return received(t, hosts) },
		}
	})
}

// TestPartitionIsKafkas: who consumes with the customer's id knows the partition by Kafka's own hash.
func TestPartitionIsKafkas(t *testing.T) {
	t.Parallel()
	ours, theirs := partitioner{kgo.StickyKeyPartitioner(nil)}.ForTopic("x"), kgo.StickyKeyPartitioner(nil).ForTopic("x")
	for _, key := range []string{"cus_1", "cus_2", "api", "ü"} {
		r := &kgo.Record{Key: []byte(key), Partition: 5}
		if got, want := ours.Partition(r, 12), theirs.Partition(r, 12); got != want {
			t.Errorf("key %q goes to partition %d, Kafka's clients say %d", key, got, want)
		}
	}
}

func TestUnknownTopic(t *testing.T) {
	t.Parallel()
	to, err := sink.Parse("kafka://" + cluster(t)[0] + "/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), to, sink.Credentials{}); err == nil {
		t.Errorf("a topic that does not exist was opened: %v", s.Close())
	}
}
