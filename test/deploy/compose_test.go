package deploy_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// project loads the compose file as Compose does, with its schema.
func project(t *testing.T, environment types.Mapping) (*types.Project, error) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(folder, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: filepath.Dir(path), ConfigFiles: []types.ConfigFile{{Filename: path}}, Environment: environment,
	})
}

func TestCompose(t *testing.T) {
	t.Parallel()
	p, err := project(t, types.Mapping{"TALLY_POSTGRES_PASSWORD": "secret", "TALLY_GATEWAY_1": "one", "TALLY_GATEWAY_2": "two", "TALLY_GATEWAY_3": "three"})
	if err != nil {
		t.Fatal(err)
	}
	img, _ := image(t)
	roles := map[string]int{}
	tokens := map[string]bool{}
	for _, s := range p.Services {
		if s.Image != "tally" {
			continue
		}
		c := command{args: s.Command, env: maps.Clone(img.env)}
		for name, value := range s.Environment {
			if value == nil {
				t.Fatalf("%s: %s has no value", s.Name, name)
			}
			c.env[name] = *value
		}
		if err := accepted(t, c); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
		if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) < patience(t, c) {
			t.Errorf("%s: it gets less than %v to stop", s.Name, patience(t, c))
		}
		if s.Restart != "always" || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.SecurityOpt) == 0 {
			t.Errorf("%s: restart %s, read only %v, capabilities dropped %v, %v", s.Name, s.Restart, s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
		role := c.args[slices.Index(c.args, "--role")+1]
		roles[role]++
		targets := map[string]string{}
		for _, v := range s.Volumes {
			targets[v.Target] = v.Source
		}
		if targets["/data"] != s.Name { // no two share one
			t.Errorf("%s: its folder is in %q", s.Name, targets["/data"])
		}
		switch role {
		case "server":
			for _, name := range []string{"TALLY_SECRETS", "TALLY_CATALOG"} {
				if path := c.env[name]; targets[path] == "" && targets[filepath.Dir(path)] == "" {
					t.Errorf("%s: %s=%s is in no volume", s.Name, name, path)
				}
			}
			if !strings.Contains(strings.Join(c.args, " "), "--advertise http://"+s.Name+":8080") {
				t.Errorf("%s: it advertises another one: %v", s.Name, c.args)
			}
		case "gateway":
			tokens[c.env["TALLY_SERVER_TOKEN"]] = true
		}
	}
	if roles["server"] != 2 || roles["gateway"] != 3 || len(tokens) != 3 {
		t.Errorf("there are %v, with %d tokens", roles, len(tokens))
	}
	balanced(t, p)
}

// balanced: the balancer knows each server and gateway.
func balanced(t *testing.T, p *types.Project) {
	t.Helper()
	caddy := read(t, filepath.Join(folder, "Caddyfile"))
	for _, s := range p.Services {
		at := s.Name + ":8080"
		if strings.HasPrefix(s.Name, "gateway-") {
			at = s.Name + ":8081"
		}
		if s.Image == "tally" && !strings.Contains(caddy, " "+at+" ") {
			t.Errorf("the Caddyfile has no %s", at)
		}
	}
}

// TestComposeWithoutPassword: it says what is missing.
func TestComposeWithoutPassword(t *testing.T) {
	t.Parallel()
	if _, err := project(t, nil); err == nil || !strings.Contains(err.Error(), "deploy/.env") {
		t.Errorf("without a password: %v", err)
	}
}
