// Package kafka sends an export to a topic of Apache Kafka, or of what speaks its protocol. Messages are acknowledged by all
// replicas in sync, and are keyed by customer: the partition is the one that Kafka's own clients choose for the key.
package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/sink"
)

const (
	batchBytes = 1_000_000 // what brokers take by default (message.max.bytes is 1,048,588)
	overhead   = 512       // of a batch and a record, generously
	dialMax    = 10 * time.Second
	deliverMax = 25 * time.Second
)

// Sink implements store.Sink.
type Sink struct {
	client     *kgo.Client
	topic      string
	partitions int
}

// Open connects, and fails unless the topic is there.
func Open(ctx context.Context, t sink.Target, c sink.Credentials) (*Sink, error) {
	return open(ctx, t, c)
}

func open(ctx context.Context, t sink.Target, c sink.Credentials, more ...kgo.Opt) (*Sink, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(t.Hosts...), kgo.ClientID("tally-export"), kgo.DefaultProduceTopic(t.Name),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}),
		kgo.ProducerBatchMaxBytes(batchBytes), kgo.RecordDeliveryTimeout(deliverMax), kgo.DialTimeout(dialMax),
		kgo.RetryTimeout(dialMax),
	}
	cfg, err := t.Config(c)
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		opts = append(opts, kgo.DialTLSConfig(cfg))
	}
	if t.User != "" {
		password, err := t.Password(c)
		if err != nil {
			return nil, err
		}
		switch auth := (scram.Auth{User: t.User, Pass: password}); t.Mechanism {
		case sink.Plain:
			opts = append(opts, kgo.SASL(plain.Auth{User: t.User, Pass: password}.AsMechanism()))
		case sink.Scram256:
			opts = append(opts, kgo.SASL(auth.AsSha256Mechanism()))
		default:
			opts = append(opts, kgo.SASL(auth.AsSha512Mechanism()))
		}
	}
	client, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	s := &Sink{client: client, topic: t.Name}
	if err := s.look(ctx); err != nil {
		client.Close()
		return nil, err
	}
	return s, nil
}

// look asks how many partitions the topic has.
func (s *Sink) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialMax)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &s.topic
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return fmt.Errorf("kafka: ask for the topic %s: %w", s.topic, err)
	}
	if len(resp.Topics) != 1 {
		return fmt.Errorf("kafka: the broker does not know the topic %s", s.topic)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return fmt.Errorf("kafka: the topic %s: %w; create it first", s.topic, err)
	}
	if s.partitions = len(resp.Topics[0].Partitions); s.partitions == 0 {
		return fmt.Errorf("kafka: the topic %s has no partitions", s.topic)
	}
	return nil
}

// Send implements store.Sink. The producer is idempotent: a broker refuses what would stand behind a gap. What is too large for a
// broker never gets that far; what stands before it is sent.
func (s *Sink) Send(ctx context.Context, batch []store.Message) error {
	for len(batch) > 0 {
		n, err := s.part(batch)
		if n == 0 {
			return err
		}
		if batch[0].Key == "" {
			if err := s.everywhere(ctx, &batch[0]); err != nil {
				return err
			}
			batch = batch[1:]
			continue
		}
		records := make([]*kgo.Record, n)
		for i := range n {
			records[i] = record(&batch[i])
		}
		if serr := s.produce(ctx, records); serr != nil {
			return fmt.Errorf("kafka: send to the topic %s: %w", s.topic, serr)
		}
		batch = batch[n:]
		if err != nil {
			return err
		}
	}
	return nil
}

// part is how many of the first messages go together: up to one that goes to all partitions, or that is too large (err says so).
func (s *Sink) part(batch []store.Message) (int, error) {
	for i := range batch {
		m := &batch[i]
		if size := len(m.ID) + len(m.Type) + len(m.Key) + len(m.Body) + overhead; size > batchBytes {
			return i, fmt.Errorf("kafka: message %s has %d bytes, more than the %d that a broker takes", m.ID, size, batchBytes)
		}
		if m.Key == "" {
			return max(i, 1), nil
		}
	}
	return len(batch), nil
}

// everywhere sends a message to every partition, so that it has its place among the messages of every customer.
func (s *Sink) everywhere(ctx context.Context, m *store.Message) error {
	if err := s.look(ctx); err != nil { // partitions may have been added
		return err
	}
	records := make([]*kgo.Record, s.partitions)
	for i := range records {
		records[i] = record(m)
		records[i].Key, records[i].Partition = nil, int32(i)
	}
	if err := s.produce(ctx, records); err != nil {
		return fmt.Errorf("kafka: send to all partitions of the topic %s: %w", s.topic, err)
	}
	return nil
}

// produce waits for all acknowledgements, but no longer than ctx: an idempotent producer would wait for a broker that has a request
// and does not answer, since it cannot know what became of it.
func (s *Sink) produce(ctx context.Context, records []*kgo.Record) error {
	done := make(chan error, len(records))
	for _, r := range records {
		s.client.Produce(ctx, r, func(_ *kgo.Record, err error) { done <- err })
	}
	for range records {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("no acknowledgement: %w", ctx.Err())
		}
	}
	return nil
}

// record is a message in the CloudEvents Kafka binding, structured mode.
func record(m *store.Message) *kgo.Record {
	return &kgo.Record{
		Key: []byte(m.Key), Value: m.Body, Headers: []kgo.RecordHeader{
			{Key: "content-type", Value: []byte("application/cloudevents+json")}, {Key: "id", Value: []byte(m.ID)}, {Key: "type", Value: []byte(m.Type)},
		},
	}
}

// Close drops what was not acknowledged.
func (s *Sink) Close() error {
	s.client.Close()
	return nil
}

// partitioner chooses by key as Kafka does; a record without a key names its partition.
type partitioner struct{ byKey kgo.Partitioner }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return topicPartitioner{p.byKey.ForTopic(topic)}
}

type topicPartitioner struct{ byKey kgo.TopicPartitioner }

func (topicPartitioner) RequiresConsistency(*kgo.Record) bool { return true }

func (p topicPartitioner) Partition(r *kgo.Record, n int) int {
	if r.Key == nil {
		return int(r.Partition)
	}
	return p.byKey.Partition(r, n)
}
