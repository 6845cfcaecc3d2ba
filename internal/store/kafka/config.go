package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// DefaultTimeout bounds how long a call waits for Kafka.
const DefaultTimeout = 30 * time.Second

// Config of a journal in a topic. ParseURL fills in all but File.
type Config struct {
	Brokers []string // host:port each
	Topic   string
	// Create makes the topic when it is absent, with Replicas copies (default 3, or as many as there are brokers where those are
	// fewer) and settings that Open accepts.
	Create   bool
	Replicas int
	// AnyRetention accepts a topic that drops old commands. Servers then need a backup of the folder that is newer than what was dropped.
	AnyRetention bool
	// LocalReads answers reads from what this process has applied, without asking Kafka whether others have written since.
	LocalReads bool
	Timeout    time.Duration // default DefaultTimeout

	TLS            *tls.Config // nil: none
	Mechanism      string      // "" (none), "plain", "scram-sha-256" or "scram-sha-512"
	User, Password string

	// File is the journal of this process, which the commands are applied to. Its Forget is not used: the salts of erased
	// subjects stay, since a folder that is made anew from the topic needs them.
	File file.Config
}

const urlForm = "kafka://BROKER[:PORT][,BROKER…]/TOPIC"

// ParseURL reads kafka://[USER:PASSWORD@]BROKER[:PORT],…/TOPIC?tls=true&ca=FILE&sasl=…&create=true&replicas=N&retention=any&
// reads=local&timeout=30s. ErrInvalid; a password is in no message.
func ParseURL(text string) (Config, error) {
	rest, ok := strings.CutPrefix(text, "kafka://")
	if !ok {
		return Config{}, fmt.Errorf("the journal's URL does not begin with kafka://: write it as %s: %w", urlForm, store.ErrInvalid)
	}
	rest, query, _ := strings.Cut(rest, "?")
	hosts, topic, _ := strings.Cut(rest, "/")
	cfg := Config{Timeout: DefaultTimeout}
	if at := strings.LastIndex(hosts, "@"); at >= 0 {
		user, password, _ := strings.Cut(hosts[:at], ":")
		var errUser, errPassword error
		cfg.User, errUser = url.PathUnescape(user)
		cfg.Password, errPassword = url.PathUnescape(password)
		if errUser != nil || errPassword != nil {
			return Config{}, fmt.Errorf("the user or the password in the journal's URL is not escaped well: %w", store.ErrInvalid)
		}
		hosts, cfg.Mechanism = hosts[at+1:], "scram-sha-512"
	}
	for h := range strings.SplitSeq(hosts, ",") {
		if h == "" {
			return Config{}, fmt.Errorf("the journal's URL names no broker: write it as %s: %w", urlForm, store.ErrInvalid)
		}
		if !strings.Contains(strings.TrimPrefix(h, "["), ":") || strings.HasSuffix(h, "]") {
			h += ":9092"
		}
		cfg.Brokers = append(cfg.Brokers, h)
	}
	if cfg.Topic = topic; topic == "" || strings.ContainsAny(topic, "/ ") {
		return Config{}, fmt.Errorf("topic %q in the journal's URL: write it as %s: %w", topic, urlForm, store.ErrInvalid)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Config{}, fmt.Errorf("options in the journal's URL: %w: %w", err, store.ErrInvalid)
	}
	for name, list := range values {
		if err := cfg.option(name, list[len(list)-1]); err != nil {
			return Config{}, fmt.Errorf("option %q in the journal's URL: %w: %w", name, err, store.ErrInvalid)
		}
	}
	return cfg, nil
}

// option takes one parameter of the URL in. Its ca needs a file.
func (c *Config) option(name, value string) (err error) {
	switch name {
	case "create":
		c.Create, err = strconv.ParseBool(value)
	case "replicas":
		if c.Replicas, err = strconv.Atoi(value); err == nil && c.Replicas < 1 {
			err = fmt.Errorf("%d is no number of copies", c.Replicas)
		}
	case "retention":
		c.AnyRetention, err = value == "any", oneOf(value, "any", "keep")
	case "reads":
		c.LocalReads, err = value == "local", oneOf(value, "local", "latest")
	case "timeout":
		if c.Timeout, err = time.ParseDuration(value); err == nil && c.Timeout < time.Second {
			err = fmt.Errorf("%s is less than a second", value)
		}
	case "sasl":
		c.Mechanism, err = value, oneOf(value, "plain", "scram-sha-256", "scram-sha-512")
	case "tls":
		var on bool
		if on, err = strconv.ParseBool(value); on && c.TLS == nil {
			c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	case "ca":
		var pem []byte
		if pem, err = os.ReadFile(value); err != nil { //nolint:gosec // the operator names it
			return err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s has no certificate", value)
		}
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	default:
		err = fmt.Errorf("there is none such; there are create, replicas, retention, reads, timeout, tls, ca and sasl")
	}
	return err
}

func oneOf(value string, all ...string) error {
	if slices.Contains(all, value) {
		return nil
	}
	return fmt.Errorf("%q is none of %s", value, strings.Join(all, ", "))
}

// Bounds of what waits in this process for Kafka.
const (
	maxBuffered      = 4096
	maxBufferedBytes = 128 << 20
	maxFetchBytes    = 64 << 20
)

// client makes the client that produces and consumes. Commands are compressed before.
func (c *Config) client() (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...), kgo.ClientID("tally-journal"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()), // with idempotent writing, which is on
		kgo.StopProducerOnDataLossDetected(),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(maxFetchBytes), kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(maxBuffered), kgo.MaxBufferedBytes(maxBufferedBytes),
		kgo.RecordDeliveryTimeout(c.Timeout), kgo.RetryTimeout(c.Timeout),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(maxFetchBytes), kgo.FetchMaxPartitionBytes(maxFetchBytes), kgo.FetchMaxWait(time.Second),
	}
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS))
	}
	switch c.Mechanism {
	case "plain":
		opts = append(opts, kgo.SASL(plain.Auth{User: c.User, Pass: c.Password}.AsMechanism()))
	case "scram-sha-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: c.User, Pass: c.Password}.AsSha256Mechanism()))
	case "scram-sha-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: c.User, Pass: c.Password}.AsSha512Mechanism()))
	}
	return kgo.NewClient(opts...)
}
