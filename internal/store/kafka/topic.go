package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tallystick/tallystick/internal/store"
)

// topic is what Kafka says of ours.
type topic struct {
	cluster   string
	id        [16]byte
	valueMax  int   // bytes of a record's value
	first     int64 // offset of the oldest command that is still there
	end       int64 // offset behind the newest
	inSyncMin int
	replicas  int
	inSync    int // copies that have all that the leader has
}

const topicFix = "kafka-topics.sh --bootstrap-server BROKER --create --topic %s --partitions 1 --replication-factor 3 " +
	"--config cleanup.policy=delete --config retention.ms=-1 --config retention.bytes=-1 --config min.insync.replicas=2 --config max.message.bytes=16777216"

// batchOverhead is what Kafka's form of a batch with one record adds to its key and value, rounded up.
const batchOverhead = 256

// messageBytes is max.message.bytes of a topic that Open makes.
const messageBytes = 16 << 20

// examine asks for the topic, makes it if it may, and refuses one that cannot be a log.
func examine(ctx context.Context, client *kgo.Client, cfg *Config) (topic, error) {
	found, brokers, err := metadata(ctx, client, cfg.Topic)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		if !cfg.Create {
			return topic{}, fmt.Errorf("topic %s does not exist: make it with `"+topicFix+"`, or add create=true to the URL: %w",
				cfg.Topic, cfg.Topic, store.ErrNotFound)
		}
		if err := create(ctx, client, cfg, brokers); err != nil {
			return topic{}, fmt.Errorf("make topic %s: %w", cfg.Topic, err)
		}
		found, err = created(ctx, client, cfg.Topic)
	}
	if err != nil {
		return topic{}, fmt.Errorf("ask for topic %s: %w", cfg.Topic, err)
	}
	if err := settings(ctx, client, cfg, &found); err != nil {
		return topic{}, err
	}
	if found.first, err = offset(ctx, client, cfg.Topic, -2); err == nil {
		found.end, err = offset(ctx, client, cfg.Topic, -1)
	}
	if err != nil {
		return topic{}, fmt.Errorf("ask for the offsets of topic %s: %w", cfg.Topic, err)
	}
	return found, nil
}

func metadata(ctx context.Context, client *kgo.Client, name string) (found topic, brokers int, err error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &name
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return topic{}, 0, err
	}
	if len(resp.Topics) != 1 {
		return topic{}, 0, fmt.Errorf("%d topics in the answer", len(resp.Topics))
	}
	got := &resp.Topics[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return topic{}, len(resp.Brokers), err
	}
	if n := len(got.Partitions); n != 1 {
		return topic{}, 0, fmt.Errorf("it has %d partitions, and the journal needs one order: use a topic with 1 partition, made with `"+topicFix+"`: %w",
			n, name, store.ErrInvalid)
	}
	if resp.ClusterID != nil {
		found.cluster = *resp.ClusterID
	}
	found.id, found.replicas, found.inSync = got.TopicID, len(got.Partitions[0].Replicas), len(got.Partitions[0].ISR)
	return found, len(resp.Brokers), nil
}

// created waits until the brokers know a new topic.
func created(ctx context.Context, client *kgo.Client, name string) (found topic, err error) {
	for {
		if found, _, err = metadata(ctx, client, name); !kerr.IsRetriable(err) {
			return found, err
		}
		if err := pause(ctx); err != nil {
			return topic{}, err
		}
	}
}

func create(ctx context.Context, client *kgo.Client, cfg *Config, brokers int) error {
	replicas := cfg.Replicas
	if replicas == 0 {
		replicas = max(1, min(3, brokers))
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = cfg.Topic, 1, int16(min(replicas, 1<<10))
	for _, c := range [][2]string{
		{"cleanup.policy", "delete"},
		{"retention.ms", "-1"},
		{"retention.bytes", "-1"},
		{"max.message.bytes", strconv.Itoa(messageBytes)},
		{"min.insync.replicas", strconv.Itoa(min(2, replicas))},
	} {
		one := kmsg.NewCreateTopicsRequestTopicConfig()
		one.Name, one.Value = c[0], &c[1]
		t.Configs = append(t.Configs, one)
	}
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			if t.ErrorMessage != nil {
				return fmt.Errorf("%s: %w", *t.ErrorMessage, err)
			}
			return err
		}
	}
	return nil
}

// fault is a setting of the topic with which it loses commands, or takes none.
type fault struct{ name, value, want, why string }

func (f fault) fix(topic string) string {
	return fmt.Sprintf("set it with `kafka-configs.sh --bootstrap-server BROKER --alter --topic %s --add-config %s=%s`", topic, f.name, f.want)
}

func (f fault) error(topic string) error {
	return fmt.Errorf("topic %s has %s=%s, %s: %s: %w", topic, f.name, f.value, f.why, f.fix(topic), store.ErrInvalid)
}

// settings refuses a topic whose settings lose commands.
func settings(ctx context.Context, client *kgo.Client, cfg *Config, found *topic) error {
	have, err := configs(ctx, client, cfg.Topic)
	if err != nil {
		return fmt.Errorf("ask for the settings of topic %s: %w", cfg.Topic, err)
	}
	for _, f := range keeps(have) {
		if f.name == cleanup {
			return f.error(cfg.Topic)
		}
		if !cfg.AnyRetention {
			return fmt.Errorf("%w; or, where backups of the folder are made and kept, add retention=any to the URL", f.error(cfg.Topic))
		}
	}
	found.take(have)
	for _, f := range append(found.takes(have), found.copies()...) {
		return f.error(cfg.Topic)
	}
	return nil
}

const cleanup = "cleanup.policy"

// keeps finds what removes commands.
func keeps(have map[string]string) (faults []fault) {
	if v := have[cleanup]; v != "delete" && v != "" {
		faults = append(faults, fault{cleanup, v, "delete", "which removes commands"})
	}
	for _, name := range []string{"retention.ms", "retention.bytes"} {
		if v := have[name]; v != "-1" && (v != "" || name == "retention.ms") {
			faults = append(faults, fault{name, v, "-1", "which drops commands that a server may still have to apply"})
		}
	}
	return faults
}

// take reads the settings that are used.
func (t *topic) take(have map[string]string) {
	t.valueMax = 1 << 20
	if v, err := strconv.Atoi(have["max.message.bytes"]); err == nil {
		t.valueMax = min(v, maxFetchBytes)
	}
	t.valueMax -= batchOverhead + keyBytes
	t.inSyncMin, _ = strconv.Atoi(have["min.insync.replicas"]) // 0: not told
}

// takes finds what makes batches too large for the topic.
func (t *topic) takes(have map[string]string) []fault {
	if t.valueMax >= 64<<10 {
		return nil
	}
	return []fault{{"max.message.bytes", have["max.message.bytes"], strconv.Itoa(messageBytes), "which is too little for a batch"}}
}

// copies finds what lets an acknowledged command be on one broker of several.
func (t *topic) copies() []fault {
	if t.replicas <= 2 || t.inSyncMin != 1 {
		return nil
	}
	return []fault{{"min.insync.replicas", "1", "2", "so that an acknowledged command may be on one broker alone, and be lost with it"}}
}

func configs(ctx context.Context, client *kgo.Client, name string) (map[string]string, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, r := range resp.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return nil, err
		}
		for _, c := range r.Configs {
			if c.Value != nil {
				all[c.Name] = *c.Value
			}
		}
	}
	return all, nil
}

// offset asks the partition's leader; at −1: behind the newest record that all in-sync replicas have, −2: the oldest.
func offset(ctx context.Context, client *kgo.Client, name string, at int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	t, p := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
	t.Topic, p.Partition, p.Timestamp = name, 0, at
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	for {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return 0, errors.New("an answer without the partition")
		}
		got := &resp.Topics[0].Partitions[0]
		err = kerr.ErrorForCode(got.ErrorCode)
		if err == nil {
			return got.Offset, nil
		}
		if !kerr.IsRetriable(err) {
			return 0, err
		}
		if err := pause(ctx); err != nil {
			return 0, err
		}
	}
}
