// Package sink reads the URLs that say where an export goes: kafka://HOST:PORT,HOST:PORT/TOPIC and nats://HOST:PORT/SUBJECT with
// options. Credentials stand in them as names alone: of an environment variable that begins with TALLY_EXPORT_, or of a file in
// one folder. So whoever may create exports cannot have other variables or files of the machine sent to a host of theirs.
package sink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The schemes.
const (
	Kafka = "kafka"
	NATS  = "nats"
)

// The ways to show a password to Kafka.
const (
	Plain    = "plain"
	Scram256 = "scram-sha-256"
	Scram512 = "scram-sha-512"
)

const (
	urlMax    = 2048
	hostsMax  = 20
	secretMax = 1 << 16 // bytes of a file of credentials
	envPrefix = "TALLY_EXPORT_"
)

// Target is a URL taken apart. It holds no secret.
type Target struct {
	Scheme string
	Hosts  []string // host:port
	Name   string   // the topic; of NATS, what subjects begin with
	User   string
	TLS    bool
	// Mechanism is Plain, Scram256 or Scram512; of Kafka with a user only.
	Mechanism string

	passwordEnv, passwordFile string
	tokenEnv, tokenFile       string // NATS
	credsFile                 string // NATS: JWT and seed
	caFile                    string
}

// options are the parameters by scheme.
func options(scheme string) []string {
	all := []string{"user", "password_env", "password_file", "tls", "ca_file"}
	if scheme == Kafka {
		return append(all, "mechanism")
	}
	return append(all, "token_env", "token_file", "creds_file")
}

// Parse takes a URL apart. The error says what is wrong as a continuation of "the URL".
func Parse(to string) (t Target, err error) {
	scheme, rest, ok := strings.Cut(to, "://")
	if !ok || len(to) > urlMax || scheme != Kafka && scheme != NATS {
		return t, fmt.Errorf("is no kafka:// or nats:// URL of at most %d bytes", urlMax)
	}
	rest, query, _ := strings.Cut(rest, "?")
	hosts, name, ok := strings.Cut(rest, "/")
	t = Target{Scheme: scheme, Name: name}
	if strings.Contains(hosts, "@") {
		return t, errors.New("must hold no credentials: name the user with ?user= and the password with password_env= or password_file=")
	}
	if !ok || name == "" {
		return t, errors.New("names no topic or subject behind the hosts")
	}
	if err := checkName(scheme, name); err != nil {
		return t, err
	}
	if t.Hosts, err = parseHosts(hosts); err != nil {
		return t, err
	}
	return t, t.parseOptions(query)
}

// checkName holds names to what both ends accept: letters, digits, '.', '_' and '-'.
func checkName(scheme, name string) error {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("names a topic or subject with %q: only letters, digits, '.', '_' and '-' go", c)
		}
	}
	switch {
	case len(name) > 200:
		return errors.New("names a topic or subject of more than 200 bytes")
	case scheme == NATS && (strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..")):
		return errors.New("names a subject with an empty part")
	case scheme == Kafka && (name == "." || name == ".."):
		return errors.New("names no topic")
	}
	return nil
}

func parseHosts(hosts string) ([]string, error) {
	all := strings.Split(hosts, ",")
	if len(all) > hostsMax {
		return nil, fmt.Errorf("names more than %d hosts", hostsMax)
	}
	for _, h := range all {
		host, port, err := net.SplitHostPort(h)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil || host == "" || n == 0 {
			return nil, fmt.Errorf("names %q, which is no host:port", h)
		}
	}
	return all, nil
}

func (t *Target) parseOptions(query string) error {
	q, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("has options that cannot be read")
	}
	for k, v := range q {
		switch {
		case !slices.Contains(options(t.Scheme), k):
			return fmt.Errorf("has the option %q, which is none of %s", k, strings.Join(options(t.Scheme), ", "))
		case len(v) != 1 || v[0] == "":
			return fmt.Errorf("has the option %q without a value, or twice", k)
		case strings.HasSuffix(k, "_env") && !strings.HasPrefix(v[0], envPrefix):
			return fmt.Errorf("names the variable %q; only variables that begin with %s are read", v[0], envPrefix)
		case strings.HasSuffix(k, "_file") && (v[0] != filepath.Base(v[0]) || v[0] == "." || v[0] == ".."):
			return fmt.Errorf("names the file %q; name a file in the folder secrets/exports, without a path", v[0])
		}
	}
	t.User, t.passwordEnv, t.passwordFile = q.Get("user"), q.Get("password_env"), q.Get("password_file")
	t.tokenEnv, t.tokenFile, t.credsFile, t.caFile = q.Get("token_env"), q.Get("token_file"), q.Get("creds_file"), q.Get("ca_file")
	switch q.Get("tls") {
	case "true":
		t.TLS = true
	case "", "false":
	default:
		return errors.New("has the option tls with another value than true or false")
	}
	if t.caFile != "" && !t.TLS {
		return errors.New("names a ca_file without tls=true")
	}
	return t.checkSecrets(q.Get("mechanism"))
}

func (t *Target) checkSecrets(mechanism string) error {
	ways := 0
	for _, w := range []string{t.passwordEnv, t.passwordFile, t.tokenEnv, t.tokenFile, t.credsFile} {
		if w != "" {
			ways++
		}
	}
	password := t.passwordEnv != "" || t.passwordFile != ""
	switch {
	case ways > 1:
		return errors.New("names more than one secret")
	case password != (t.User != ""):
		return errors.New("names a user without a password, or a password without a user")
	case mechanism != "" && t.User == "":
		return errors.New("has the option mechanism without a user")
	}
	if t.Scheme != Kafka || t.User == "" {
		return nil
	}
	if mechanism == "" {
		mechanism = Scram512
	}
	if mechanism != Plain && mechanism != Scram256 && mechanism != Scram512 {
		return fmt.Errorf("has the mechanism %q, which is none of %s, %s, %s", mechanism, Plain, Scram256, Scram512)
	}
	if mechanism == Plain && !t.TLS {
		return errors.New("would send the password in clear: add tls=true to mechanism=plain")
	}
	t.Mechanism = mechanism
	return nil
}

// Credentials is where secrets are looked up, each time that a sink is opened.
type Credentials struct {
	Env    func(name string) string
	Folder string
}

// Password of the user; "" without one.
func (t Target) Password(c Credentials) (string, error) {
	return c.secret(t.passwordEnv, t.passwordFile)
}

// Token of NATS; "" without one.
func (t Target) Token(c Credentials) (string, error) { return c.secret(t.tokenEnv, t.tokenFile) }

// CredsFile is the path of the file with a JWT and its seed; "" without one.
func (t Target) CredsFile(c Credentials) string {
	if t.credsFile == "" {
		return ""
	}
	return filepath.Join(c.Folder, t.credsFile)
}

// Config of TLS; nil without it.
func (t Target) Config(c Credentials) (*tls.Config, error) {
	if !t.TLS {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.caFile == "" {
		return cfg, nil
	}
	pem, err := c.file(t.caFile)
	if err != nil {
		return nil, err
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the file %s in secrets/exports holds no certificate", t.caFile)
	}
	return cfg, nil
}

func (c Credentials) secret(env, file string) (string, error) {
	switch {
	case env != "":
		v := c.Env(env)
		if v == "" {
			return "", fmt.Errorf("the variable %s is not set where the server runs", env)
		}
		return v, nil
	case file != "":
		b, err := c.file(file)
		return strings.TrimRight(string(b), "\r\n"), err
	}
	return "", nil
}

func (c Credentials) file(name string) ([]byte, error) {
	path := filepath.Join(c.Folder, name)
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > secretMax {
		return nil, fmt.Errorf("there is no file %s of at most %d bytes in secrets/exports of the server's folder", name, secretMax)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the file %s in secrets/exports cannot be read", name)
	}
	return b, nil
}
