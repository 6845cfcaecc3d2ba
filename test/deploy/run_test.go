package deploy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/test/process"
)

// catalog has a route, by which a request shows whether a gateway knows it.
const catalog = `tallystick: 1
meters:
  - {key: calls, event: request, aggregation: count}
plans:
  - key: trial
    currency: USD
    limits:
      - {key: daily, meter: calls, quota: "100", window: day, enforcement: hard}
gateway:
  routes:
    - {match: "GET /hello", upstream: "http://127.0.0.1:9", meter: calls, cost: "1"}
`

// pod is a container as a plain process. Its paths and ports are others than in Kubernetes; all else is what the chart says.
type pod struct {
	container corev1.Container
	grace     time.Duration
	ports     map[int32]string // of the container: where they are here
	process   *process.Process
}

// address is where a port is that has a name.
func (p *pod) address(t *testing.T, name string) string {
	t.Helper()
	for _, x := range p.container.Ports {
		if x.Name == name {
			return p.ports[x.ContainerPort]
		}
	}
	t.Fatalf("%s has no port %s", p.container.Name, name)
	return ""
}

// begin starts what a container starts. mounts has a folder or file for each of its volumes' paths; move puts more of the command
// elsewhere.
func begin(t *testing.T, set *appsv1.StatefulSet, secret func(name, key string) string, mounts map[string]string, move *strings.Replacer) *pod {
	t.Helper()
	spec := set.Spec.Template.Spec
	p := &pod{container: spec.Containers[0], grace: time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second, ports: map[int32]string{}}
	c := started(t, p.container, secret)
	for _, port := range p.container.Ports {
		p.ports[port.ContainerPort] = free(t)
	}
	for i, arg := range c.args {
		arg = move.Replace(arg)
		for path, here := range mounts {
			flagName, value, _ := strings.Cut(arg, "=")
			if value == path || strings.HasPrefix(value, path+"/") {
				arg = flagName + "=" + here + strings.TrimPrefix(value, path)
				break
			}
		}
		for port, here := range p.ports {
			arg = strings.Replace(arg, fmt.Sprintf("=:%d", port), "="+here, 1)
			arg = strings.Replace(arg, fmt.Sprintf("127.0.0.1:%d", port), here, 1) // what it advertises
		}
		c.args[i] = arg
	}
	var err error
	if p.process, err = env.Start(t.TempDir(), c.words()...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.process.Close)
	return p
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
	DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // kubelet does not look at it either
}}

// ask is the status of a URL; 0: nobody answers.
func ask(t *testing.T, url string) int {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// probed asks what kubelet would ask: where and by which scheme the chart says.
func (p *pod) probed(t *testing.T, probe *corev1.Probe) int {
	t.Helper()
	if probe == nil {
		t.Fatalf("%s lacks a probe", p.container.Name)
	}
	h := probe.HTTPGet
	return ask(t, strings.ToLower(string(h.Scheme))+"://"+p.address(t, h.Port.StrVal)+h.Path)
}

// ready waits until the probes say so, in the order in which kubelet asks them.
func (p *pod) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, probe := range []*corev1.Probe{p.container.LivenessProbe, p.container.StartupProbe, p.container.ReadinessProbe} {
		for p.probed(t, probe) != http.StatusOK {
			select {
			case <-tick.C:
			case <-p.process.Ended():
				t.Fatalf("%s ended:\n%s", p.container.Name, p.process.Stderr.Bytes())
			case <-ctx.Done():
				t.Fatalf("%s: %s is not 200:\n%s", p.container.Name, probe.HTTPGet.Path, p.process.Stderr.Bytes())
			}
		}
	}
}

// stop is how Kubernetes stops it; it says no to the readiness probe, and ends well in time.
func (p *pod) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), p.grace)
	defer cancel()
	if err := p.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	no := false
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !no {
		select {
		case <-tick.C:
			no = p.probed(t, p.container.ReadinessProbe) == http.StatusServiceUnavailable
		case <-p.process.Ended():
			t.Fatalf("%s ended before it said that it is not ready:\n%s", p.container.Name, p.process.Stderr.Bytes())
		}
	}
	code, err := p.process.Wait(ctx)
	if err != nil || code != 0 {
		t.Fatalf("%s: exit %d, %v\n%s", p.container.Name, code, err, p.process.Stderr.Bytes())
	}
}

// tree is the names and contents below a folder.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			fmt.Fprintf(&b, "%s %s\n", path, read(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// noted is the command of the notes that begins so, as it stands there.
func noted(t *testing.T, notes, begin string) []string {
	t.Helper()
	for _, args := range documented(notes) {
		if strings.HasPrefix(strings.Join(args, " "), begin) {
			return args
		}
	}
	t.Fatalf("the notes have no tally %s:\n%s", begin, notes)
	return nil
}

// TestChartRuns runs what the chart would, in the order of its notes: the migration, a server, a gateway with the token that the
// server made. Probes are asked as kubelet does, and both are stopped as it does.
func TestChartRuns(t *testing.T) {
	t.Parallel()
	database := pgtest.Start(t, pgtest.Config{Fsync: true}) // a journal wants it
	for _, over := range []string{"default", "tls"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			v := values(t, over)
			set(v, catalog, "catalog")
			set(v, true, "migrate", "enabled")
			set(v, 1, "servers", "drainDelay")
			set(v, 1, "gateways", "drainDelay")
			runChart(t, v, database.Database(t))
		})
	}
}

func set(v map[string]any, value any, path ...string) {
	for _, name := range path[:len(path)-1] {
		next, ok := v[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			v[name] = next
		}
		v = next
	}
	v[path[len(path)-1]] = value
}

func runChart(t *testing.T, v map[string]any, url string) {
	t.Helper()
	all := render(t, v)
	notes := text(t, v)["NOTES.txt"]
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	secret := func(name, key string) string {
		if name != "tally-postgres" || key != "url" {
			t.Errorf("key %s of Secret %s is not in the notes", key, name)
		}
		return url
	}

	// The Secret of the deployment's secrets, as the notes make it, then read only.
	create := noted(t, notes, "init")
	for i, arg := range create {
		create[i] = strings.Replace(arg, "./", dir+"/", 1)
	}
	must(t, command{args: append(create, "--catalog", at("first.yaml"))})
	files, err := os.ReadDir(at("secrets"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !f.Type().IsRegular() {
			t.Errorf("%s: --from-file takes no folders", f.Name())
		}
		if err := os.Chmod(filepath.Join(at("secrets"), f.Name()), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(at("secrets"), 0o550); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(at("secrets"), 0o700) }) // so that it can be removed
	before := tree(t, at("secrets"))

	job := get[*batchv1.Job](t, all, "Job tally-migrate").Spec.Template.Spec.Containers[0]
	if r := must(t, started(t, job, secret)); !regexp.MustCompile(`records: version \d+, 0 pending, [1-9]`).Match(r.Stdout) || !strings.Contains(string(r.Stdout), "journal: version") {
		t.Errorf("the migration said\n%s%s", r.Stdout, r.Stderr)
	}

	files2 := get[*corev1.ConfigMap](t, all, "ConfigMap tally-catalog").Data
	for name, content := range files2 {
		write(t, filepath.Join(at("catalog"), name), content)
	}
	for name, content := range certificates(t) {
		write(t, filepath.Join(at("tls"), name), content)
	}
	mounts := map[string]string{
		"/data": at("server"), "/secrets": at("secrets"), "/catalog": at("catalog"), "/tls": at("tls"), "/server-ca": at("tls"), "/token": at("token"),
	}
	// The name that a pod has for others.
	move := strings.NewReplacer("tally-server-0.tally-server-pods.shop.svc", "127.0.0.1")
	server := begin(t, get[*appsv1.StatefulSet](t, all, "StatefulSet tally-server"), secret, mounts, move)
	server.ready(t)

	token := noted(t, notes, "gateway token")
	for i, arg := range token {
		token[i] = strings.NewReplacer("$i", "0", "/data", at("server")).Replace(arg)
	}
	var made struct{ Secret string }
	if err := process.Document(must(t, command{args: token}).Stdout, &made); err != nil {
		t.Fatal(err)
	}
	write(t, at("token"), made.Secret+"\n")

	mounts["/data"] = at("gateway")
	front := get[*corev1.Service](t, all, "Service tally-server").Spec.Ports[0]
	move = strings.NewReplacer(fmt.Sprintf("tally-server.shop.svc:%d", front.Port), server.address(t, front.TargetPort.StrVal))
	gate := begin(t, get[*appsv1.StatefulSet](t, all, "StatefulSet tally-gateway"), secret, mounts, move)
	gate.ready(t)

	scheme := strings.ToLower(string(gate.container.ReadinessProbe.HTTPGet.Scheme)) + "://"
	door := scheme + gate.address(t, get[*corev1.Service](t, all, "Service tally-gateway").Spec.Ports[0].TargetPort.StrVal)
	if got := ask(t, door+"/hello"); got != http.StatusUnauthorized { // the route is known, the key is missing
		t.Errorf("a request without a key is %d, not 401", got)
	}
	if got := ask(t, door+"/other"); got != http.StatusNotFound {
		t.Errorf("a request that no route is for is %d, not 404", got)
	}
	for _, p := range []*pod{server, gate} {
		if got := ask(t, scheme+p.address(t, "api")+"/metrics"); got != http.StatusOK {
			t.Errorf("%s: /metrics is %d", p.container.Name, got)
		}
	}
	gate.stop(t)
	server.stop(t)
	if after := tree(t, at("secrets")); after != before {
		t.Errorf("a server wrote to the secrets, which are read only. Before:\n%s\nafter:\n%s", before, after)
	}
}

func must(t *testing.T, c command) process.Result {
	t.Helper()
	r := run(t, c)
	if r.Code != 0 {
		t.Fatalf("tally %s: exit %d\n%s%s", strings.Join(c.args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
