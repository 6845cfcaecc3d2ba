package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const installed = "/usr/local/bin/tally"

// units are the service files with their example of variables.
var units = map[string]string{"tally-server.service": "server.env", "tally-gateway@.service": "gateway.env"}

// setting is one of a unit's.
func setting(t *testing.T, unit, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(unit, -1)
	if len(m) != 1 {
		t.Fatalf("%s is there %d times", name, len(m))
	}
	return m[0][1]
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for name, variables := range units {
		unit := strings.ReplaceAll(read(t, filepath.Join(folder, "systemd", name)), "%i", "east")
		words := strings.Fields(setting(t, unit, "ExecStart"))
		if words[0] != installed {
			t.Errorf("%s starts %s", name, words[0])
		}
		c := command{args: words[1:], env: map[string]string{}}
		for line := range strings.Lines(read(t, filepath.Join(folder, "systemd", variables))) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
				c.env[key] = value
			}
		}
		if err := accepted(t, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var seconds int
		if _, err := fmt.Sscan(setting(t, unit, "TimeoutStopSec"), &seconds); err != nil || time.Duration(seconds)*time.Second < patience(t, c) {
			t.Errorf("%s: it gets %d s, less than %v, to stop", name, seconds, patience(t, c))
		}
		if state := "/var/lib/" + setting(t, unit, "StateDirectory"); !strings.Contains(unit, "--dir "+state+"\n") {
			t.Errorf("%s: its folder is not %s", name, state)
		}
	}
}

// TestUnitsAreVerified: systemd knows every setting of the units, and has nothing against a value.
func TestUnitsAreVerified(t *testing.T) {
	t.Parallel()
	for name := range units {
		unit := read(t, filepath.Join(folder, "systemd", name))
		if said := verify(t, name, unit); said != "" {
			t.Errorf("%s: %s", name, said)
		}
		// What the check is worth:
		for right, bad := range map[string]string{"NoNewPrivileges=yes": "NoNewPrivilege=yes", "TimeoutStopSec=": "TimeoutStopSec=soon ", "ExecStart=" + installed: "ExecStart=/nowhere/tally"} {
			if said := verify(t, name, strings.Replace(unit, right, bad, 1)); said == "" {
				t.Errorf("%s: systemd has nothing against %s", name, bad)
			}
		}
	}
}

// verify is what systemd says of a unit. Its program is the one under test.
func verify(t *testing.T, name, unit string) string {
	t.Helper()
	dir := t.TempDir()
	unit = strings.ReplaceAll(unit, installed, string(tally))
	path := filepath.Join(dir, strings.Replace(name, "@", "@east", 1))
	if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed { //nolint:errorlint // of this call alone
		t.Fatalf("systemd's programs are missing: run `make deps`: %v", err)
	}
	said := strings.TrimSpace(string(out))
	if said == "" && err != nil {
		said = err.Error()
	}
	return said
}
