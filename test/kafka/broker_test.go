//go:build kafka

package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tallystick/tallystick/test/process"
)

// The variables that run.sh sets: a folder with Kafka's jars, and where an archive of its classes is, which halves its start. The
// first run writes the archive at its end.
const (
	envLib     = "TALLY_TEST_KAFKA_LIB"
	envClasses = "TALLY_TEST_KAFKA_CLASSES"
)

// broker is a Kafka of one node, the same for all tests.
type broker struct {
	dir  string
	addr string
	log  *os.File

	mu  sync.Mutex // held while it is down
	cmd *exec.Cmd
}

// shared is started by the first test that needs it.
var shared struct {
	once sync.Once
	*broker
	err error
}

// theBroker is running when it returns. A test that kills it starts it again.
func theBroker(t *testing.T) *broker {
	t.Helper()
	shared.once.Do(func() {
		if shared.broker, shared.err = newBroker(filepath.Join(scratch, "broker")); shared.err == nil {
			shared.err = shared.start()
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.broker
}

func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// settings keep what a broker waits for short: a session that a killed one left, an election among one.
const settings = `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@%[2]s
listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
advertised.listeners=PLAINTEXT://%[1]s
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=%[3]s
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
controller.quorum.election.timeout.ms=200
controller.quorum.election.backoff.max.ms=200
log.cleaner.enable=false
num.network.threads=2
num.io.threads=4
`

// formatted is what Kafka's storage tool would write into an empty folder; it would take a machine of its own.
const formatted = "version=1\ncluster.id=dGFsbHlzdGlja3Rlc3QwMA\nnode.id=1\ndirectory.id=dGFsbHlzdGlja2ZvbGRlcg\n"

func newBroker(dir string) (*broker, error) {
	b := &broker{dir: dir}
	var err error
	if b.addr, err = free(); err != nil {
		return nil, err
	}
	controller, err := free()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "server.properties"), fmt.Appendf(nil, settings, b.addr, controller, data), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(data, "meta.properties"), []byte(formatted), 0o600); err != nil {
		return nil, err
	}
	b.log, err = os.Create(filepath.Join(dir, "out"))
	return b, err
}

// start returns when the broker answers.
func (b *broker) start() error {
	args := []string{"-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
	if classes := os.Getenv(envClasses); classes != "" {
		if _, err := os.Stat(classes); err == nil {
			args = append(args, "-Xshare:auto", "-XX:SharedArchiveFile="+classes)
		} else if errors.Is(err, os.ErrNotExist) {
			args = append(args, "-XX:ArchiveClassesAtExit="+classes, "-Xlog:cds=off", "-Xlog:cds+dynamic=off")
		}
	}
	args = append(args, "-cp", filepath.Join(os.Getenv(envLib), "*"), "kafka.Kafka", filepath.Join(b.dir, "server.properties"))
	b.cmd = exec.Command("java", args...)
	b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		conn, err := net.DialTimeout("tcp", b.addr, time.Second)
		if err == nil {
			return conn.Close()
		}
	}
	text, _ := os.ReadFile(b.log.Name())
	return fmt.Errorf("the broker does not answer:\n%s", text)
}

func (b *broker) end(s syscall.Signal) {
	_ = b.cmd.Process.Signal(s)
	_ = b.cmd.Wait()
}

// restart is kill -9 and a start on the same folder.
func (b *broker) restart(t *testing.T) {
	t.Helper()
	b.down(t, func() {})
}

// down kills it, does something, and starts it on the same folder. Tests that run beside notice.
func (b *broker) down(t *testing.T, meanwhile func()) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end(syscall.SIGKILL)
	meanwhile()
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
}

func (b *broker) url(topic string) string {
	return fmt.Sprintf("kafka://%s/%s?create=true&replicas=1&timeout=60s", b.addr, topic)
}

// topic makes one that is no journal.
func (b *broker) topic(t *testing.T, name string, partitions int32) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(b.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	one := kmsg.NewCreateTopicsRequestTopic()
	one.Topic, one.NumPartitions, one.ReplicationFactor = name, partitions, 1
	req.Topics = append(req.Topics, one)
	resp, err := req.RequestWith(t.Context(), c)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// patience bounds every wait: much more than a loaded machine needs.
const patience = 60 * time.Second

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

var (
	scratch string // folder of this run
	tally   struct {
		sync.Mutex // held while it is built
		process.Binary
		err error
	}
)

// theBinary is built while the broker starts.
func theBinary(t *testing.T) process.Binary {
	t.Helper()
	tally.Lock()
	defer tally.Unlock()
	if tally.err != nil {
		t.Fatal(tally.err)
	}
	return tally.Binary
}

func TestMain(m *testing.M) {
	if os.Getenv(envURL) != "" {
		write()
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "tally-kafka-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	tally.Lock()
	go func() {
		defer tally.Unlock()
		tally.Binary, tally.err = process.Build(scratch)
	}()
	code := m.Run()
	if shared.broker != nil {
		shared.end(syscall.SIGTERM) // it writes the archive of its classes now
	}
	return code
}
