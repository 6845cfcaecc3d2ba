package kafka

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/journaltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is a Kafka of one broker in this process.
func cluster(t testing.TB) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func config(c *kfake.Cluster, topic, dir string) Config {
	return Config{Brokers: c.ListenAddrs(), Topic: topic, Create: true, Timeout: 20 * time.Second, File: file.Config{Dir: dir}}
}

func open(t testing.TB, cfg Config) *Journal {
	t.Helper()
	j, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// topicOf is a topic for each folder.
func topicOf(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "journal-" + hex.EncodeToString(sum[:6])
}

func TestConformance(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	journaltest.Run(t, func(t *testing.T, dir string) store.Journal {
		t.Helper()
		return open(t, config(c, topicOf(dir), dir))
	})
}
