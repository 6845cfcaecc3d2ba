package kafka

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tallystick/tallystick/internal/store"
)

// alter changes a setting of a topic.
func alter(t *testing.T, c *kfake.Cluster, topic, name, value string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	one := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	one.Name, one.Value = name, &value
	r.Configs = append(r.Configs, one)
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(t.Context(), client)
	if err == nil {
		err = kerr.ErrorForCode(resp.Resources[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestExamine spoils one thing after the other.
func TestExamine(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cfg := config(c, "examined", t.TempDir())
	j := open(t, cfg)
	look := func(name, result, says string) {
		t.Helper()
		for _, x := range j.Examine(t.Context()) {
			if x.Name == name {
				if x.Result != result || !strings.Contains(x.Detail+" "+x.Fix, says) || (x.Fix == "") != (result == store.CheckOK) {
					t.Errorf("%s: want %s, %q; got %+v", name, result, says, x)
				}
				return
			}
		}
		t.Errorf("there is no check %q", name)
	}
	if _, err := j.Append(t.Context(), batch(entry("a", 0, "1"))); err != nil {
		t.Fatal(err)
	}
	look("journal topic", store.CheckOK, "1 partition, 1 commands")
	look("journal retention", store.CheckOK, "every command is kept")
	look("journal copies", store.CheckOK, "3 of 3 copies in sync, min.insync.replicas=2")
	look("journal command size", store.CheckOK, "16776")
	look("journal replica", store.CheckOK, "has applied all 1 commands")
	alter(t, c, cfg.Topic, "retention.ms", "1000000000")
	look("journal retention", store.CheckFail, "--add-config retention.ms=-1")
	j.cfg.AnyRetention = true
	look("journal retention", store.CheckWarn, "retention=any")
	alter(t, c, cfg.Topic, "cleanup.policy", "compact")
	look("journal retention", store.CheckFail, "--add-config cleanup.policy=delete")
	alter(t, c, cfg.Topic, "min.insync.replicas", "1")
	look("journal copies", store.CheckFail, "on one broker alone")
	alter(t, c, cfg.Topic, "max.message.bytes", "1000000")
	look("journal command size", store.CheckWarn, "was lowered to 1000000")
	alter(t, c, cfg.Topic, "max.message.bytes", "1000")
	look("journal command size", store.CheckFail, "too little for a batch")
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	look("journal topic", store.CheckFail, "the user may describe")
	h.Remove()
	if err := c.DeleteTopic(cfg.Topic); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(cfg.Topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	look("journal topic", store.CheckFail, "made anew")
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	look("journal replica", store.CheckFail, "closed")
}

// TestLag: a replica that gets nothing from the topic says how far it is behind, by what it hears of the end.
func TestLag(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	a, b := open(t, config(c, "lag", t.TempDir())), open(t, config(c, "lag", t.TempDir()))
	defer a.Close()
	defer b.Close()
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Count: -1})
	a.cfg.Timeout, b.cfg.Timeout = time.Second, time.Second
	if _, err := a.Append(t.Context(), batch(entry("a", 0, "1"))); err == nil {
		t.Fatal("it was applied although nothing can be fetched")
	}
	if err := b.View(t.Context(), func(store.View) error { return nil }); err == nil {
		t.Error("a read did not wait for what was written")
	}
	if s := b.Replica(); s.End-s.Applied != 1 || s.Waits != 1 {
		t.Errorf("behind: %+v", s)
	}
	h.Remove()
	b.cfg.Timeout = 20 * time.Second
	if err := b.View(t.Context(), func(store.View) error { return nil }); err != nil {
		t.Error(err)
	}
	if s := b.Replica(); s.End != 1 || s.Applied != 1 {
		t.Errorf("caught up: %+v", s)
	}
}
