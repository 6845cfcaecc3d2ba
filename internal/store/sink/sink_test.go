package sink_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/store/sink"
)

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := sink.Parse("kafka://a.example:9092,b:9093/tally.usage?user=ü&password_env=TALLY_EXPORT_PW&tls=true")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a.example:9092", "b:9093", "tally.usage", "ü", sink.Scram512}, append(got.Hosts, got.Name, got.User, got.Mechanism)); d != "" {
		t.Error(d)
	}
	for to, want := range map[string]string{
		"http://a/b":                                "no kafka://",
		"kafka://a:1":                               "no topic",
		"kafka://a/b":                               "no host:port",
		"kafka://a:0/b":                             "no host:port",
		"kafka://u:secret@a:1/b":                    "no credentials",
		"nats://a:1/b.>":                            "only letters",
		"nats://a:1/b..c":                           "empty part",
		"kafka://a:1/b?password=x":                  "none of",
		"kafka://a:1/b?token_env=x":                 "none of",
		"kafka://a:1/b?user=x":                      "without a password",
		"kafka://a:1/b?password_env=TALLY_EXPORT_X": "without a user",
		"kafka://a:1/b?user=x&password_env=HOME":    "only variables that begin with TALLY_EXPORT_",
		"kafka://a:1/b?user=x&password_file=../operator.token":              "without a path",
		"kafka://a:1/b?user=x&password_file=..":                             "without a path",
		"kafka://a:1/b?user=x&password_env=TALLY_EXPORT_X&mechanism=plain":  "in clear",
		"kafka://a:1/b?user=x&password_env=TALLY_EXPORT_X&mechanism=gssapi": "none of",
		"kafka://a:1/b?tls=yes":                                             "true or false",
		"kafka://a:1/b?ca_file=x":                                           "without tls",
		"nats://a:1/b?token_env=TALLY_EXPORT_X&creds_file=y":                "more than one secret",
		"kafka://" + strings.Repeat("a:1,", 20) + "a:1/b":                   "more than 20 hosts",
		"nats://a:1/b?tls=true&tls=false":                                   "twice",
	} {
		if _, err := sink.Parse(to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", to, err, want)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pw"), []byte("geheim\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := sink.Credentials{Folder: dir, Env: func(name string) string { return map[string]string{"TALLY_EXPORT_PW": "x"}[name] }}
	for query, want := range map[string]string{"password_file=pw": "geheim", "password_env=TALLY_EXPORT_PW": "x", "password_env=TALLY_EXPORT_NO": "", "password_file=no": ""} {
		to, err := sink.Parse("nats://a:1/b?user=u&" + query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := to.Password(c)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v", query, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("kafka://a:1/b?user=x&password_env=TALLY_EXPORT_X")
	f.Add("nats://a:1,b:2/c.d?tls=true&ca_file=ca.pem")
	f.Fuzz(func(t *testing.T, to string) {
		got, err := sink.Parse(to)
		if err == nil && (len(got.Hosts) == 0 || got.Name == "" || strings.Contains(strings.Join(got.Hosts, ""), "@")) {
			t.Errorf("%q is %+v", to, got)
		}
	})
}
