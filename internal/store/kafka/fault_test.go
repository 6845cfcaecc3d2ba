package kafka

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// TestProduceErrors has brokers answer with errors: also such where the command was written all the same. Each event is there once.
func TestProduceErrors(t *testing.T) {
	t.Parallel()
	for _, fault := range []*kerr.Error{kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.NotLeaderForPartition} {
		t.Run(fault.Message, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			j := open(t, config(c, "faults", t.TempDir()))
			h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: fault, Count: 2})
			defer h.Remove()
			results, err := j.Append(t.Context(), batch(entry("a", 0, "1"), entry("b", 0, "1")))
			if err != nil || results[0].Outcome != store.Accepted || results[1].Outcome != store.Accepted {
				t.Errorf("%+v, %v", results, err)
			}
			if position, err := j.Seal(t.Context(), []byte("x")); err != nil || position != 4 {
				t.Errorf("sealed at %d: %v", position, err)
			}
			if s, r := j.Stats(), j.Replica(); r.Applied != 2 || s.Events != 2 {
				t.Errorf("%+v, %+v", s, r)
			}
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLosses: what tells that commands were lost, or could be written twice, ends the process. Nothing goes on by itself.
func TestLosses(t *testing.T) {
	t.Parallel()
	for _, loss := range []struct {
		key kmsg.Key
		err *kerr.Error
	}{{kmsg.Fetch, kerr.OffsetOutOfRange}, {kmsg.Produce, kerr.OutOfOrderSequenceNumber}, {kmsg.Produce, kerr.UnknownProducerID}, {kmsg.Produce, kerr.InvalidProducerEpoch}} {
		t.Run(loss.err.Message, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			cfg := config(c, "losses", t.TempDir())
			cfg.Timeout = 5 * time.Second
			j := open(t, cfg)
			if _, err := j.Append(t.Context(), batch(entry("a", 0, "1"))); err != nil {
				t.Fatal(err)
			}
			h := c.Fault(kfake.Fault{Keys: []kmsg.Key{loss.key}, Err: loss.err, Count: 1})
			defer h.Remove()
			_, first := j.Seal(t.Context(), []byte("x"))
			if _, err := j.Seal(t.Context(), []byte("y")); !errors.Is(err, store.ErrBroken) || !j.Replica().Failed {
				t.Errorf("%v, then %v; %+v", first, err, j.Replica())
			}
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWritesSafely: every command is written for all in-sync replicas, by an idempotent producer.
func TestWritesSafely(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	j := open(t, config(c, "safely", t.TempDir()))
	var wrong, seen atomic.Int64
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		p, ok := r.(*kmsg.ProduceRequest)
		if !ok {
			return nil, nil, false
		}
		seen.Add(1)
		var b kmsg.RecordBatch
		if err := b.ReadFrom(p.Topics[0].Partitions[0].Records); err != nil || p.Acks != -1 || b.ProducerID < 0 || b.FirstSequence < 0 {
			wrong.Add(1)
		}
		return nil, nil, false
	})
	if _, err := j.Append(t.Context(), batch(entry("a", 0, "1"))); err != nil {
		t.Fatal(err)
	}
	if seen.Load() == 0 || wrong.Load() > 0 {
		t.Errorf("%d requests to write, %d of them without all acknowledgements or without a sequence", seen.Load(), wrong.Load())
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnknown: Kafka takes the command and does not say so in time. The caller is told that the outcome is unknown, and that it
// tries again is harmless.
func TestUnknown(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	cfg := config(c, "unknown", t.TempDir())
	cfg.Timeout = time.Second
	j := open(t, cfg)
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	if _, err := j.Append(t.Context(), batch(entry("a", 0, "1"))); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("no broker takes it: %v", err)
	}
	h.Remove()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	var results []store.Result
	err := store.ErrUnknown
	for errors.Is(err, store.ErrUnknown) && ctx.Err() == nil {
		results, err = j.Append(ctx, batch(entry("a", 0, "1")))
	}
	if err != nil || results[0].Outcome != store.Accepted && results[0].Outcome != store.Duplicate {
		t.Errorf("again: %+v, %v", results, err)
	}
	if s, r := j.Stats(), j.Replica(); s.Events != 1 || r.Unknown == 0 || r.Pending != 0 {
		t.Errorf("%+v, %+v", s, r)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestBrokerRestarts: what was acknowledged is there after the broker was started again on its folder, and the process goes on.
func TestBrokerRestarts(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), 0
	start := func() *kfake.Cluster {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir), kfake.SyncWrites())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := start()
	cfg := config(c, "restarts", t.TempDir())
	j := open(t, cfg)
	if _, err := j.Append(t.Context(), batch(entry("a", 0, "1"))); err != nil {
		t.Fatal(err)
	}
	port = portOf(t, c)
	c.Close()
	c = start()
	defer func() { c.Close() }()
	results, err := j.Append(t.Context(), batch(entry("a", 0, "1"), entry("b", 0, "1")))
	if err != nil || results[0].Outcome != store.Duplicate || results[1].Outcome != store.Accepted {
		t.Errorf("%+v, %v", results, err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	fresh := cfg
	fresh.File.Dir = t.TempDir()
	k := open(t, fresh)
	if s := k.Stats(); s.Events != 2 {
		t.Errorf("made anew: %+v", s)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpensBeforeKafka: a server that is started before the brokers waits for them, and for no longer than it is told.
func TestOpensBeforeKafka(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	cfg, port := config(c, "early", t.TempDir()), portOf(t, c)
	c.Close()
	cfg.Timeout = time.Second
	if _, err := Open(t.Context(), cfg); !away(err) {
		t.Errorf("nobody is there: %v", err)
	}
	cfg.Timeout = 20 * time.Second
	opened := make(chan error)
	go func() {
		j, err := Open(t.Context(), cfg)
		if err == nil {
			err = j.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	late, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port))
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func portOf(t *testing.T, c *kfake.Cluster) (port int) {
	t.Helper()
	_, text, _ := strings.Cut(c.ListenAddrs()[0], ":")
	for _, d := range text {
		port = port*10 + int(d-'0')
	}
	return port
}

// TestRefuses opens what cannot be a log. Each message says what to do.
func TestRefuses(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	full := func(name string) Config { return config(c, name, t.TempDir()) }
	for _, topic := range []struct {
		name       string
		partitions int32
		settings   map[string]string
		is         error
		says       string
	}{
		{"many", 2, nil, store.ErrInvalid, "use a topic with 1 partition"},
		{"compacts", 1, map[string]string{"cleanup.policy": "compact"}, store.ErrInvalid, "--add-config cleanup.policy=delete"},
		{"both", 1, map[string]string{"cleanup.policy": "compact,delete"}, store.ErrInvalid, "--add-config cleanup.policy=delete"},
		{"week", 1, map[string]string{"retention.ms": "604800000"}, store.ErrInvalid, "--add-config retention.ms=-1"},
		{"bytes", 1, map[string]string{"retention.ms": "-1", "retention.bytes": "1000000"}, store.ErrInvalid, "--add-config retention.bytes=-1"},
		{"small", 1, map[string]string{"retention.ms": "-1", "max.message.bytes": "1000"}, store.ErrInvalid, "--add-config max.message.bytes="},
	} {
		if err := c.CreateTopic(topic.name, topic.partitions, topic.settings); err != nil {
			t.Fatal(err)
		}
		refuses(t, full(topic.name), topic.is, topic.says)
	}
	absent := full("absent")
	absent.Create = false
	refuses(t, absent, store.ErrNotFound, "create=true")
	week := full("week")
	week.AnyRetention = true
	if err := open(t, week).Close(); err != nil {
		t.Error(err)
	}
}

func refuses(t *testing.T, cfg Config, is error, says string) {
	t.Helper()
	j, err := Open(t.Context(), cfg)
	if err == nil {
		_ = j.Close()
	}
	if !errors.Is(err, is) || !strings.Contains(err.Error(), says) {
		t.Errorf("topic %s: %v", cfg.Topic, err)
	}
}

// TestFolders: a folder belongs to one topic, and the two must fit.
func TestFolders(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	cfg := config(c, "one", t.TempDir())
	cfg.File.Commit = salted
	j := open(t, cfg)
	script(t, j)
	want := pictureOf(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	other := cfg
	other.Topic = "two"
	refuses(t, other, store.ErrConflict, "was made of topic one")
	files := config(c, "one", t.TempDir())
	if err := os.WriteFile(files.File.Dir+"/00000001.log", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, files, store.ErrConflict, "not made of a topic")

	// Commands that this folder has applied may go from the topic; another folder cannot be made of it then.
	if err := c.DeleteRecords("one", 0, want2(t, c)); err != nil {
		t.Fatal(err)
	}
	j = open(t, cfg)
	same(t, "behind what was dropped", want, pictureOf(t, j))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	fresh := cfg
	fresh.File.Dir = t.TempDir()
	refuses(t, fresh, store.ErrConflict, "restore a newer backup")

	// A topic of the same name that was made anew is another one.
	if err := c.DeleteTopic("one"); err != nil {
		t.Fatal(err)
	}
	refuses(t, cfg, store.ErrConflict, "was made of topic one")
}

// TestSeenAgain: a command that is delivered once more, as to a reader that began anew, is not applied again.
func TestSeenAgain(t *testing.T) {
	t.Parallel()
	j := open(t, config(cluster(t), "again", t.TempDir()))
	document := file.Command{Seal: [][]byte{[]byte("x")}}
	if _, err := j.Seal(t.Context(), document.Seal...); err != nil {
		t.Fatal(err)
	}
	if err := j.take(t.Context(), []*kgo.Record{{Offset: 0, Value: j.codec.encode(&document)}}); err != nil { // nothing else comes
		t.Fatal(err)
	}
	if s, r := j.Stats(), j.Replica(); s.Position != 1 || r.Applied != 1 || r.Commands != 1 {
		t.Errorf("%+v, %+v", s, r)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestRestoredFolders: files and kafka.json of different times, and a topic that ends before what a folder has applied.
func TestRestoredFolders(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	cfg := config(c, "restored", t.TempDir())
	run := func(dir string, ids ...string) picture {
		t.Helper()
		at := cfg
		at.File.Dir = dir
		j := open(t, at)
		for _, id := range ids {
			if _, err := j.Append(t.Context(), batch(entry(id, 0, "1"))); err != nil {
				t.Fatal(err)
			}
		}
		p := pictureOf(t, j)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	run(cfg.File.Dir, "a")
	older := t.TempDir()
	if err := os.CopyFS(older, os.DirFS(cfg.File.Dir)); err != nil {
		t.Fatal(err)
	}
	want := run(cfg.File.Dir, "b", "c", "b") // the last one writes nothing
	text, err := os.ReadFile(cfg.File.Dir + "/" + placeName)
	if err == nil {
		err = os.WriteFile(older+"/"+placeName, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	same(t, "older files under a newer kafka.json", want, run(older))

	short := config(c, "short", t.TempDir())
	if err := open(t, short).Close(); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(short.File.Dir + "/" + placeName); err == nil {
		err = os.WriteFile(cfg.File.Dir+"/"+placeName, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	short.File.Dir = cfg.File.Dir
	refuses(t, short, store.ErrConflict, "the topic lost acknowledged commands")
}

// want2 is the end of topic one.
func want2(t *testing.T, c *kfake.Cluster) int64 {
	t.Helper()
	return c.PartitionInfo("one", 0).HighWatermark
}

// TestOthersRecords: what is no command is passed over and counted; a command of a newer program stops the process, before it.
func TestOthersRecords(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	j := open(t, config(c, "mixed", t.TempDir()))
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("mixed"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	put := func(value string) {
		if err := client.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	put("hello")
	if _, err := j.Append(t.Context(), batch(entry("a", 0, "1"))); err != nil {
		t.Fatal(err)
	}
	if err := j.View(t.Context(), func(store.View) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if s, r := j.Stats(), j.Replica(); r.Foreign != 1 || s.Events != 1 || r.Applied != 2 {
		t.Errorf("%+v, %+v", s, r)
	}
	before := batch(entry("before", 0, "1")) // in the same fetch as what is not known
	if err := client.ProduceSync(t.Context(), &kgo.Record{Value: j.codec.encode(&file.Command{Append: &before})}, kgo.StringRecord(magic+"\x02\x00anything")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	err = j.View(t.Context(), func(store.View) error { return nil })
	if !errors.Is(err, store.ErrNewer) || !errors.Is(err, store.ErrBroken) {
		t.Errorf("view: %v", err)
	}
	if _, err := j.Append(t.Context(), batch(entry("b", 0, "1"))); !errors.Is(err, store.ErrBroken) {
		t.Errorf("append: %v", err)
	}
	if s, r := j.Stats(), j.Replica(); s.Events != 2 || r.Applied != 3 || !r.Failed {
		t.Errorf("what stands before it is not applied: %+v, %+v", s, r)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestTooLarge: a command is not split, since it is all or none.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	if err := c.CreateTopic("narrow", 1, map[string]string{"retention.ms": "-1", "max.message.bytes": "100000"}); err != nil {
		t.Fatal(err)
	}
	j := open(t, config(c, "narrow", t.TempDir()))
	noise := make([]byte, 150_000)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	_, err := j.Seal(t.Context(), noise)
	if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "raise max.message.bytes") {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func TestParseURL(t *testing.T) {
	t.Parallel()
	cfg, err := ParseURL("kafka://tally:p%40ss@b1,b2:9093/journal?create=true&replicas=2&retention=any&reads=local&timeout=5s&tls=true&sasl=plain")
	if err != nil || cfg.User != "tally" || cfg.Password != "p@ss" || strings.Join(cfg.Brokers, " ") != "b1:9092 b2:9093" || cfg.Topic != "journal" ||
		!cfg.Create || cfg.Replicas != 2 || !cfg.AnyRetention || !cfg.LocalReads || cfg.Timeout != 5*time.Second || cfg.TLS == nil || cfg.Mechanism != "plain" {
		t.Errorf("%+v, %v", cfg, err)
	}
	for _, text := range []string{
		"", "kafka://", "kafka:///t", "kafka://b", "kafka://b/", "kafka://b/t/u", "kafka://b/t?x=1", "kafka://b/t?timeout=1", "kafka://b/t?sasl=none", "kafka://b/t?replicas=0", "http://b/t",
	} {
		if _, err := ParseURL(text); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
