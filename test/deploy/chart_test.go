package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	release   = "tally"
	namespace = "shop"
)

var chartFolder = filepath.Join(folder, "helm", "tally")

// values are those of testdata/NAME.yaml; "default" has none.
func values(t *testing.T, name string) map[string]any {
	t.Helper()
	if name == "default" {
		return map[string]any{}
	}
	v, err := chartutil.ReadValuesFile(filepath.Join("testdata", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// valueSets are all that the chart is rendered with.
var valueSets = []string{"default", "everything", "tls", "small"}

// text renders the chart: each file's text by its name.
func text(t *testing.T, v map[string]any) map[string]string {
	t.Helper()
	c, err := loader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, v, chartutil.ReleaseOptions{Name: release, Namespace: namespace, IsInstall: true, Revision: 1}, chartutil.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for path, content := range files {
		out[filepath.Base(path)] = content
	}
	return out
}

// objects are all rendered objects, by kind and name, with what a template does not say filled in by nobody.
type objects map[string]any

// monitor is a ServiceMonitor of the Prometheus operator, as far as the chart goes.
type monitor struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		Endpoints []struct {
			Port      string `json:"port"`
			Path      string `json:"path"`
			Interval  string `json:"interval"`
			Scheme    string `json:"scheme"`
			TLSConfig struct {
				InsecureSkipVerify bool   `json:"insecureSkipVerify"`
				ServerName         string `json:"serverName"`
			} `json:"tlsConfig"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// decode reads one document as what it says it is. An unknown field, one twice, or one in other case is an error.
func decode(doc string) (name string, object any, err error) {
	raw, err := yaml.YAMLToJSONStrict([]byte(doc))
	if err != nil {
		return "", nil, err
	}
	var head struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return "", nil, err
	}
	switch kind := head.APIVersion + " " + head.Kind; kind {
	case "apps/v1 StatefulSet":
		object = new(appsv1.StatefulSet)
	case "batch/v1 Job":
		object = new(batchv1.Job)
	case "v1 Service":
		object = new(corev1.Service)
	case "v1 ConfigMap":
		object = new(corev1.ConfigMap)
	case "policy/v1 PodDisruptionBudget":
		object = new(policyv1.PodDisruptionBudget)
	case "networking.k8s.io/v1 Ingress":
		object = new(networkingv1.Ingress)
	case "networking.k8s.io/v1 NetworkPolicy":
		object = new(networkingv1.NetworkPolicy)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		object = new(monitor)
	default:
		return "", nil, fmt.Errorf("%s is nothing that this test knows", kind)
	}
	faults, err := strictjson.UnmarshalStrict(raw, object)
	if err == nil && len(faults) > 0 {
		err = fmt.Errorf("%v", faults)
	}
	return head.Kind + " " + head.Metadata.Name, object, err
}

func render(t *testing.T, v map[string]any) objects {
	t.Helper()
	out := objects{}
	for file, content := range text(t, v) {
		if filepath.Ext(file) != ".yaml" {
			continue
		}
		for doc := range strings.SplitSeq(content, "\n---\n") {
			if strings.TrimSpace(doc) == "" {
				continue
			}
			name, object, err := decode(doc)
			if err != nil {
				t.Fatalf("%s: %v\n%s", file, err, doc)
			}
			if out[name] != nil {
				t.Fatalf("%s is there twice", name)
			}
			out[name] = object
		}
	}
	return out
}

// get is one of the objects.
func get[T any](t *testing.T, all objects, name string) T {
	t.Helper()
	o, ok := all[name].(T)
	if !ok {
		t.Fatalf("there is no %s, but %v", name, slices.Sorted(maps.Keys(all)))
	}
	return o
}

// workload is what starts containers.
type workload struct {
	name   string
	labels map[string]string
	spec   corev1.PodSpec
	claims []corev1.PersistentVolumeClaim
}

func workloads(all objects) (out []workload) {
	for name, o := range all {
		switch o := o.(type) {
		case *appsv1.StatefulSet:
			out = append(out, workload{name, o.Spec.Template.Labels, o.Spec.Template.Spec, o.Spec.VolumeClaimTemplates})
		case *batchv1.Job:
			out = append(out, workload{name, o.Spec.Template.Labels, o.Spec.Template.Spec, nil})
		}
	}
	return out
}

// started is what a container runs, with variables as kubelet would fill them in.
func started(t *testing.T, c corev1.Container, secret func(name, key string) string) command {
	t.Helper()
	out := command{env: map[string]string{}}
	if len(c.Args) > 0 && c.Args[0] == "serve" {
		img, _ := image(t)
		out.env = img.env
	}
	for _, v := range c.Env {
		switch {
		case v.ValueFrom == nil:
			out.env[v.Name] = v.Value
		case v.ValueFrom.SecretKeyRef != nil:
			out.env[v.Name] = secret(v.ValueFrom.SecretKeyRef.Name, v.ValueFrom.SecretKeyRef.Key)
		case v.ValueFrom.FieldRef.FieldPath == "status.podIP":
			out.env[v.Name] = "127.0.0.1"
		case v.ValueFrom.FieldRef.FieldPath == "metadata.name":
			out.env[v.Name] = release + "-" + c.Name + "-0"
		default:
			t.Fatalf("%s: %s: this test does not know where it is from", c.Name, v.Name)
		}
	}
	if len(c.Command) > 0 {
		t.Errorf("%s: the image's entry point is to be used", c.Name)
	}
	for _, arg := range c.Args {
		for name, value := range out.env {
			arg = strings.ReplaceAll(arg, "$("+name+")", value)
		}
		if strings.Contains(arg, "$(") {
			t.Errorf("%s: %s has a variable that is not there", c.Name, arg)
		}
		out.args = append(out.args, arg)
	}
	return out
}

func TestChartIsLinted(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets {
		for _, m := range lint.All(chartFolder, values(t, set), namespace, true).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %s", set, m)
			}
		}
	}
}

// TestDefaultIsAsBefore: a change of what the chart makes of its default values is read before it is merged.
func TestDefaultIsAsBefore(t *testing.T) {
	t.Parallel()
	files := text(t, nil)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if content := strings.TrimSpace(files[name]); content != "" {
			fmt.Fprintf(&b, "=== %s\n%s\n", name, content)
		}
	}
	const golden = "testdata/default.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, golden); b.String() != want {
		t.Errorf("the chart makes something else than %s; look at what go test . -update changes. Now:\n%s", golden, b.String())
	}
}

// TestCommandsOfChart: what the containers start is what the binary takes, ends within the time that it gets, and may write to
// nothing but its volumes.
func TestCommandsOfChart(t *testing.T) {
	t.Parallel()
	_, user := image(t)
	for _, set := range valueSets {
		all := workloads(render(t, values(t, set)))
		if len(all) < 2 {
			t.Errorf("%s: only %d workloads", set, len(all))
		}
		for _, w := range all {
			at := set + ": " + w.name
			if len(w.spec.Containers) != 1 || len(w.spec.InitContainers) > 0 {
				t.Fatalf("%s: there is more than one container", at)
			}
			c := w.spec.Containers[0]
			cmd := started(t, c, func(string, string) string { return "postgres://tally:secret@127.0.0.1:1/tally" })
			if err := accepted(t, cmd); err != nil {
				t.Errorf("%s: %v", at, err)
			}
			if grace := w.spec.TerminationGracePeriodSeconds; cmd.args[0] == "serve" && (grace == nil || float64(*grace) < patience(t, cmd).Seconds()) {
				t.Errorf("%s: it gets less than %v to stop", at, patience(t, cmd))
			}
			confined(t, at, user, w.spec)
		}
	}
}

func confined(t *testing.T, at, user string, spec corev1.PodSpec) {
	t.Helper()
	pod, c := spec.SecurityContext, spec.Containers[0].SecurityContext
	switch {
	case pod == nil || c == nil:
		t.Fatalf("%s: no security context", at)
	case pod.RunAsNonRoot == nil || !*pod.RunAsNonRoot, pod.SeccompProfile == nil || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Errorf("%s: the pod's security context: %+v", at, pod)
	case fmt.Sprint(*pod.RunAsUser, *pod.RunAsGroup, *pod.FSGroup) != strings.Join([]string{user, user, user}, " "):
		t.Errorf("%s: the image runs as %s", at, user)
	case c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem, c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation,
		c.Capabilities == nil || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(c.Capabilities.Add) > 0:
		t.Errorf("%s: the container's security context: %+v", at, c)
	}
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		t.Errorf("%s: it gets a token for Kubernetes", at)
	}
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
		t.Errorf("%s: it gets variables of services", at)
	}
	if r := spec.Containers[0].Resources; len(r.Requests) < 2 || r.Limits.Memory().IsZero() {
		t.Errorf("%s: resources: %+v", at, r)
	}
}

// TestPathsOfChart: each path in a command lies in a volume, each volume is there, and folders that are to be kept are claims.
func TestPathsOfChart(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets {
		all := render(t, values(t, set))
		for _, w := range workloads(all) {
			c := w.spec.Containers[0]
			at := set + ": " + w.name
			volumes := map[string]corev1.Volume{}
			for _, v := range w.spec.Volumes {
				if v.ConfigMap != nil && all["ConfigMap "+v.ConfigMap.Name] == nil {
					t.Errorf("%s: there is no ConfigMap %s", at, v.ConfigMap.Name)
				}
				volumes[v.Name] = v
			}
			for _, v := range w.claims {
				volumes[v.Name] = corev1.Volume{}
			}
			var mounted []string
			for _, m := range c.VolumeMounts {
				v, ok := volumes[m.Name]
				if !ok {
					t.Errorf("%s: volume %s is not there", at, m.Name)
				}
				if v.Secret != nil && (!m.ReadOnly || v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440) {
					t.Errorf("%s: the secret %s is not for its group alone", at, m.Name)
				}
				if m.MountPath == "/data" && (v.Secret != nil || v.EmptyDir != nil) {
					t.Errorf("%s: its folder is not kept", at)
				}
				mounted = append(mounted, m.MountPath)
			}
			for _, arg := range c.Args {
				_, path, ok := strings.Cut(arg, "=/")
				if ok && !slices.ContainsFunc(mounted, func(m string) bool { return "/"+path == m || strings.HasPrefix("/"+path, m+"/") }) {
					t.Errorf("%s: %s is on the read-only root", at, arg)
				}
			}
		}
	}
}

// TestSelectorsOfChart: services, budgets, policies, monitors and ingresses find pods, and ports that these have.
func TestSelectorsOfChart(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets {
		all := render(t, values(t, set))
		pods := workloads(all)
		find := func(at string, labels map[string]string) corev1.Container {
			var found []workload
			for _, w := range pods {
				if len(labels) > 0 && subset(labels, w.labels) {
					found = append(found, w)
				}
			}
			if len(found) != 1 {
				t.Fatalf("%s: %s selects %d workloads by %v", set, at, len(found), labels)
			}
			return found[0].spec.Containers[0]
		}
		has := func(at string, c corev1.Container, port string) {
			if !slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == port }) {
				t.Errorf("%s: %s: %s has no port %q", set, at, c.Name, port)
			}
		}
		for at, o := range all {
			switch o := o.(type) {
			case *appsv1.StatefulSet:
				find(at, o.Spec.Selector.MatchLabels)
				if s := get[*corev1.Service](t, all, "Service "+o.Spec.ServiceName); s.Spec.ClusterIP != corev1.ClusterIPNone || !subset(s.Spec.Selector, o.Spec.Template.Labels) {
					t.Errorf("%s: %s does not name its pods", set, at)
				}
			case *corev1.Service:
				c := find(at, o.Spec.Selector)
				for _, p := range o.Spec.Ports {
					has(at, c, p.TargetPort.StrVal)
				}
			case *policyv1.PodDisruptionBudget:
				find(at, o.Spec.Selector.MatchLabels)
				if o.Spec.MaxUnavailable == nil || o.Spec.MaxUnavailable.IntVal != 1 {
					t.Errorf("%s: %s: %+v", set, at, o.Spec)
				}
			case *networkingv1.NetworkPolicy:
				c := find(at, o.Spec.PodSelector.MatchLabels)
				for _, in := range o.Spec.Ingress {
					for _, p := range in.Ports {
						has(at, c, p.Port.StrVal)
					}
				}
			case *networkingv1.Ingress:
				b := o.Spec.Rules[0].HTTP.Paths[0].Backend.Service
				s := get[*corev1.Service](t, all, "Service "+b.Name)
				if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == b.Port.Name }) {
					t.Errorf("%s: %s: %s has no port %s", set, at, b.Name, b.Port.Name)
				}
			case *monitor:
				services := 0
				for _, other := range all {
					if s, ok := other.(*corev1.Service); ok && subset(o.Spec.Selector.MatchLabels, s.Labels) {
						services++
						has(at, find(at, s.Spec.Selector), o.Spec.Endpoints[0].Port)
					}
				}
				if services != 1 {
					t.Errorf("%s: %s finds %d services", set, at, services)
				}
			}
		}
	}
}

func subset(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// TestEverythingIsRendered: what is off by default is there when it is asked for.
func TestEverythingIsRendered(t *testing.T) {
	t.Parallel()
	all := render(t, values(t, "everything"))
	for _, name := range []string{
		"ConfigMap tally-catalog", "Ingress tally-api", "Ingress tally-gateway", "Job tally-migrate", "NetworkPolicy tally-gateway", "NetworkPolicy tally-server",
		"ServiceMonitor tally-gateway", "ServiceMonitor tally-server",
	} {
		if all[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	files := text(t, map[string]any{"catalog": catalog})
	if got := get[*corev1.ConfigMap](t, render(t, map[string]any{"catalog": catalog}), "ConfigMap tally-catalog").Data["tally.yaml"]; got != catalog {
		t.Errorf("the catalog is\n%s\nand comes out as\n%s\n%s", catalog, got, files["catalog.yaml"])
	}
}

// TestNotes: they name each Secret that a pod waits for, and commands that are there.
func TestNotes(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets {
		v := values(t, set)
		notes := text(t, v)["NOTES.txt"]
		for _, w := range workloads(render(t, v)) {
			var need []string
			for _, e := range w.spec.Containers[0].Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && strings.HasPrefix(e.Name, "TALLY_REC") && strings.HasPrefix(w.name, "StatefulSet") {
					need = append(need, e.ValueFrom.SecretKeyRef.Name)
				}
			}
			for _, vol := range w.spec.Volumes {
				if vol.Secret != nil && (vol.Name == "secrets" || vol.Name == "tokens" && set != "small") {
					need = append(need, vol.Secret.SecretName)
				}
			}
			for _, name := range need {
				if !strings.Contains(notes, "secret generic "+name+" ") {
					t.Errorf("%s: nobody is told to make the Secret %s:\n%s", set, name, notes)
				}
			}
		}
		commands := documented(notes)
		if len(commands) < 1 {
			t.Errorf("%s: the notes have no command", set)
		}
		for _, args := range commands {
			if _, err := helped(t, args); err != nil {
				t.Errorf("%s: %v", set, err)
			}
		}
	}
}

// TestWrongValues: the schema refuses them and names the field.
func TestWrongValues(t *testing.T) {
	t.Parallel()
	c, err := loader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ values, field string }{
		{`{servers: {replicas: 0}}`, "/servers/replicas"},
		{`{servers: {replicas: "2"}}`, "/servers/replicas"},
		{`{servers: {replica: 2}}`, "'replica'"},
		{`{server: {}}`, "'server'"},
		{`{servers: {advertise: hostname}}`, "/servers/advertise"},
		{`{servers: {tls: {secretName: cert}}}`, "/servers/advertise"}, // a certificate names no address
		{`{servers: {extraArgs: ["--grace 2h"]}}`, "/servers/extraArgs/0"},
		{`{servers: {extraArgs: ["grace=2h"]}}`, "/servers/extraArgs/0"},
		{`{servers: {storage: {size: big}}}`, "/servers/storage/size"},
		{`{servers: {publicURL: shop.example.com}}`, "/servers/publicURL"},
		{`{servers: {drainTimeout: 20s}}`, "/servers/drainTimeout"},
		{`{gateways: {drawTimeout: 2}}`, "/gateways/drawTimeout"},
		{`{gateways: {service: {port: 70000}}}`, "/gateways/service/port"},
		{`{gateways: {tokens: {secretName: ""}}}`, "/gateways/tokens/secretName"},
		{`{records: {secretName: ""}}`, "/records/secretName"},
		{`{records: {url: "postgres://tally@db/tally"}}`, "'url'"}, // secrets are no values
		{`{secrets: {secretName: Upper}}`, "/secrets/secretName"},
		{`{catalog: "plans: []"}`, "/catalog"},
		{`{image: {pullPolicy: Sometimes}}`, "/image/pullPolicy"},
		{`{ingress: {api: {enabled: true}}}`, "/ingress/api/host"},
		{`{serviceMonitor: {enabled: "yes"}}`, "/serviceMonitor/enabled"},
		{`{networkPolicy: {apiFrom: {}}}`, "/networkPolicy/apiFrom"},
	} {
		v, err := chartutil.ReadValues([]byte(x.values))
		if err != nil {
			t.Fatal(err)
		}
		_, err = chartutil.ToRenderValues(c, v, chartutil.ReleaseOptions{Name: release, Namespace: namespace}, chartutil.DefaultCapabilities)
		if err == nil || !strings.Contains(err.Error(), x.field) {
			t.Errorf("%s: %v does not name %s", x.values, err, x.field)
		}
	}
}

// TestDecode: the check of documents finds what Kubernetes would not.
func TestDecode(t *testing.T) {
	t.Parallel()
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {%s}\n"
	for spec, ok := range map[string]bool{"clusterIP: None": true, "clusterIp: None": false, "clusterIPs: None": false, "type: A, type: B": false, "selectors: {}": false} {
		if _, _, err := decode(fmt.Sprintf(service, spec)); (err == nil) != ok {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
