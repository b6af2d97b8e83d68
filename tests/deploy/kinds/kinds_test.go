// SPDX-License-Identifier: Apache-2.0

// What the host prints and the chart renders, as Envoy Gateway, Istio and Kubernetes would read it. In the
// environment: KINDS_HELM, KINDS_HOST and KINDS_PLUGIN (plugins/basic) are paths.
package kinds

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

const (
	top = "../../.."
	// A Helm that go builds takes an old one for granted.
	kubernetes = "1.33.0"
)

// Google's definitions are not to be had.
var unknown = []string{
	"networking.gke.io/v1 GCPTrafficExtension",
	"networking.gke.io/v1 HealthCheckPolicy",
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parse(t *testing.T, text []byte) []Object {
	t.Helper()
	objects, err := Parse(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if len(objects) == 0 {
		t.Fatal("there is no resource")
	}
	return objects
}

func files(t *testing.T, pattern string, atLeast int) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(top, pattern))
	if err != nil || len(found) < atLeast {
		t.Fatalf("%s: %d files, %v", pattern, len(found), err)
	}
	return found
}

func helmRuns(args ...string) (string, error) {
	out, err := exec.Command(os.Getenv("KINDS_HELM"), args...).CombinedOutput()
	return string(out), err
}

// template renders the chart with these settings, NAME=JSON.
func template(settings ...string) (string, error) {
	args := []string{"template", "callout-host", filepath.Join(top, "deploy/helm/callout-host"), "--namespace", "callout", "--kube-version", kubernetes,
		"--set-json", `plugins.image="example.com/plugins:1"`}
	for _, setting := range settings {
		args = append(args, "--set-json", setting)
	}
	return helmRuns(args...)
}

func render(t *testing.T, settings ...string) []Object {
	t.Helper()
	text, err := template(settings...)
	if err != nil {
		t.Fatal(text)
	}
	return parse(t, []byte(text))
}

func check(t *testing.T, objects []Object) {
	t.Helper()
	for _, object := range objects {
		if slices.Contains(unknown, object.Kind()) {
			continue
		}
		if err := Check(object); err != nil {
			t.Errorf("%s: %v", object.Kind(), err)
		}
		checkPods(t, object)
	}
}

// deploymentIn is the Deployment, or the part of one that stands in a resource of another kind, where no server looks;
// nil if there is none.
func deploymentIn(t *testing.T, object Object) *appsv1.Deployment {
	t.Helper()
	var patch []byte
	switch object["kind"] {
	case "Deployment":
		patch, _ = json.Marshal(object)
	case "EnvoyProxy":
		at := any(map[string]any(object))
		for _, key := range []string{"spec", "provider", "kubernetes", "envoyDeployment", "patch", "value"} {
			at = at.(map[string]any)[key]
		}
		patch, _ = json.Marshal(at)
	case "ConfigMap":
		text := object["data"].(map[string]any)["deployment"].(string)
		var err error
		if patch, err = yaml.YAMLToJSONStrict([]byte(text)); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	default:
		return nil
	}
	deployment := new(appsv1.Deployment)
	if err := Strict(patch, deployment); err != nil {
		t.Errorf("the pods in %s: %v", object.Kind(), err)
	}
	return deployment
}

// hostOf is the host's container in a Deployment, which is a sidecar where there is another one.
func hostOf(t *testing.T, deployment *appsv1.Deployment) corev1.Container {
	t.Helper()
	pod := deployment.Spec.Template.Spec
	for _, container := range append(pod.InitContainers, pod.Containers...) {
		if container.Name == "callout-host" {
			return container
		}
	}
	t.Fatalf("there is no callout-host: %+v", pod)
	return corev1.Container{}
}

func checkPods(t *testing.T, object Object) {
	t.Helper()
	deployment := deploymentIn(t, object)
	if deployment == nil {
		return
	}
	host := hostOf(t, deployment)
	always := corev1.ContainerRestartPolicyAlways
	if object["kind"] != "Deployment" && (host.RestartPolicy == nil || *host.RestartPolicy != always) {
		t.Errorf("the pods in %s: the host is no sidecar", object.Kind())
	}
	volumes := map[string]bool{}
	for _, volume := range deployment.Spec.Template.Spec.Volumes {
		volumes[volume.Name] = true
	}
	for _, mount := range host.VolumeMounts {
		if !volumes[mount.Name] {
			t.Errorf("the pods in %s: no volume is named %s", object.Kind(), mount.Name)
		}
	}
}

// --- The types and the rules themselves ---

func TestAMisspeltFieldIsRefused(t *testing.T) {
	for _, name := range []string{"envoy_gateway_everything", "istio_everything", "kgateway_everything", "agentgateway_everything"} {
		for _, object := range parse(t, read(t, filepath.Join(top, "tests/host/deploy/golden", name+".yaml"))) {
			spec := object["spec"].(map[string]any)
			spec["misspelt"] = true
			if err := Check(object); err == nil || !strings.Contains(err.Error(), "misspelt") {
				t.Errorf("%s: %v", object.Kind(), err)
			}
		}
	}
}

func TestWhatTheRulesOfADefinitionForbidIsRefused(t *testing.T) {
	objects := parse(t, read(t, filepath.Join(top, "tests/host/deploy/golden/envoy_gateway_everything.yaml")))
	extProc := objects[0]["spec"].(map[string]any)["extProc"].([]any)[0].(map[string]any)
	extProc["failOpen"] = true // with FullDuplexStreamed
	if err := Check(objects[0]); err == nil || !strings.Contains(err.Error(), "FullDuplexStreamed") {
		t.Error(err)
	}
}

// Values that kgateway and agentgateway would refuse.
func TestWhatIsWrittenDownIsHeldTo(t *testing.T) {
	for name, wrong := range map[string][2]string{
		"kgateway_everything":     {"STREAMED", "Streamed"},
		"agentgateway_everything": {"FailClosed", "Closed"},
	} {
		text := strings.ReplaceAll(string(read(t, filepath.Join(top, "tests/host/deploy/golden", name+".yaml"))), wrong[0], wrong[1])
		if err := Check(parse(t, []byte(text))[0]); err == nil || !strings.Contains(err.Error(), wrong[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// --- --print_config ---

func TestWhatIsPrintedIsDecodedByItsOwnTypes(t *testing.T) {
	var all []string
	for _, target := range []string{"envoy_gateway", "istio", "kgateway", "agentgateway"} {
		all = append(all, files(t, "tests/host/deploy/golden/"+target+"_*.yaml", 2)...)
	}
	for _, file := range all {
		t.Run(filepath.Base(file), func(t *testing.T) { check(t, parse(t, read(t, file))) })
	}
}

func TestWhatIsPrintedByThisHostIsDecodedByItsOwnTypes(t *testing.T) {
	for _, options := range [][]string{
		{"--print_config=envoy-gateway"},
		{"--print_config=envoy-gateway", "--plaintext_address=unix:/run/callout/callout.sock", "--disable_tls"},
		{"--print_config=istio"},
		{"--print_config=istio", "--disable_plaintext"},
	} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			out, err := exec.Command(os.Getenv("KINDS_HOST"),
				append(options, "--transport=nghttp2", "--plugin="+os.Getenv("KINDS_PLUGIN"))...).Output()
			if err != nil {
				t.Fatal(err)
			}
			check(t, parse(t, out))
		})
	}
}

// --- The chart ---

func TestTheManifestsAreWhatTheChartRenders(t *testing.T) {
	directory := t.TempDir()
	command := exec.Command(filepath.Join(top, "deploy/kubernetes/render"), directory)
	command.Env = append(os.Environ(), "HELM="+os.Getenv("KINDS_HELM"))
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	for _, file := range files(t, "deploy/kubernetes/*.yaml", 6) {
		if string(read(t, file)) != string(read(t, filepath.Join(directory, filepath.Base(file)))) {
			t.Errorf("%s is not what the chart renders: run deploy/kubernetes/render", file)
		}
	}
}

func TestTheManifestsAreAccepted(t *testing.T) {
	for _, file := range files(t, "deploy/kubernetes/*.yaml", 6) {
		t.Run(filepath.Base(file), func(t *testing.T) { check(t, parse(t, read(t, file))) })
	}
}

func TestTheChartIsLinted(t *testing.T) {
	for _, values := range files(t, "deploy/kubernetes/values/*.yaml", 6) {
		if out, err := helmRuns("lint", "--strict", "--kube-version", kubernetes, "--values", values, filepath.Join(top, "deploy/helm/callout-host")); err != nil {
			t.Error(out)
		}
	}
}

func TestTheChartIsOfTheHostsVersion(t *testing.T) {
	var chart struct{ Version, AppVersion string }
	if err := yaml.Unmarshal(read(t, filepath.Join(top, "deploy/helm/callout-host/Chart.yaml")), &chart); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(os.Getenv("KINDS_HOST"), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	version := strings.Fields(string(out))[1]
	if chart.Version != version || chart.AppVersion != version {
		t.Errorf("%+v, and the host is %s", chart, version)
	}
}

// Every value that makes lines appear.
func TestEveryFormOfTheChartIsAccepted(t *testing.T) {
	sidecar := `mode="sidecar"`
	chain := `plugins.chain=[{"name":"guard","config":"a: \"b\"\n","settings":{"policy":"deny:503"}},{"name":"stamp"}]`
	for name, settings := range map[string][]string{
		"fixed replicas":  {`autoscaling.enabled=false`, `replicas=3`},
		"a digest":        {`image.digest="sha256:` + strings.Repeat("a", 64) + `"`},
		"another volume":  {`plugins={"image":"","volume":{"persistentVolumeClaim":{"claimName":"plugins"}}}`},
		"a chain":         {chain, `plugins.keys="untrusted comment: a\nRWTs\n"`},
		"pods":            {`nodeSelector={"a":"b"}`, `tolerations=[{"key":"a"}]`, `affinity={"podAffinity":{}}`, `priorityClassName="p"`, `podLabels={"a":"b"}`, `podAnnotations={"a":"b"}`, `imagePullSecrets=[{"name":"s"}]`},
		"no annotations":  {`metrics.annotations=false`},
		"a monitor":       {`metrics.serviceMonitor={"enabled":true,"interval":"30s","labels":{"release":"prometheus"}}`},
		"nothing beside":  {`podDisruptionBudget.enabled=false`, `autoscaling.enabled=false`, `networkPolicy.enabled=false`, `resources={}`},
		"egress":          {`networkPolicy.egress=[{"to":[{"podSelector":{}}],"ports":[{"port":53,"protocol":"UDP"}]}]`},
		"arguments":       {`args=["--on_plugin_error=guard=deny"]`, `env=[{"name":"A","value":"b"}]`},
		"TLS":             {`tls={"enabled":true,"secretName":"s","clientCa":true}`},
		"gateway, TLS":    {`provider.name="envoy-gateway"`, `tls={"enabled":true,"secretName":"s","caConfigMap":"c"}`},
		"gateway, route":  {`provider.name="envoy-gateway"`, `provider.namespace="web"`, `provider.targetRefs=[{"group":"gateway.networking.k8s.io","kind":"HTTPRoute","name":"r"}]`},
		"gateway, body":   {`provider.name="envoy-gateway"`, `provider.request={"headers":true,"body":"BUFFERED"}`, `provider.maxBodyBytes=100000`, `provider.metadataNamespaces=["a"]`, `provider.modeOverride=false`},
		"gateway, beside": {`provider.name="envoy-gateway"`, sidecar},
		"istio, TLS":      {`provider.name="istio"`, `tls.enabled=true`},
		"istio, mesh":     {`provider.name="istio"`, `provider.mesh=true`, `provider.metadataNamespaces=["a"]`},
		"istio, beside":   {`provider.name="istio"`, sidecar, chain, `env=[{"name":"A","value":"b"}]`},
		"gke, duplex":     {`provider.name="gke"`, `networkPolicy.from=[{"ipBlock":{"cidr":"10.0.0.0/23"}}]`, `provider.response={"body":"FULL_DUPLEX_STREAMED"}`, `provider.attributes=["source.address"]`},
	} {
		t.Run(name, func(t *testing.T) { check(t, render(t, settings...)) })
	}
}

func TestValuesThatCannotBeRightAreRefused(t *testing.T) {
	for setting, why := range map[string]string{
		`replica=3`:                                                      "replica",
		`drain.delay=1`:                                                  "delay",
		`drain.delayMs=100`:                                              "3000",
		`mode="daemon"`:                                                  "mode",
		`args=["plugin=a.so"]`:                                           "args",
		`args=["--drain-delay-ms=0"]`:                                    "--drain_delay_ms is set by other values",
		`plugins.chain=[{"name":"a/b"}]`:                                 "name",
		`plugins.chain=[{"name":"a","policy":"deny"}]`:                   "policy",
		`image.digest="sha256:1"`:                                        "digest",
		`plugins.image=""`:                                               "plugins.image or plugins.volume",
		`plugins.volume={"emptyDir":{}}`:                                 "exclude each other",
		`plugins.volume={"name":"a"}`:                                    "volume",
		`provider.name="nginx"`:                                          "name",
		`provider.request.body="Buffered"`:                               "body",
		`provider.targetRefs=[{"name":"a"}]`:                             "group",
		`mode="sidecar"`:                                                 "needs provider.name envoy-gateway or istio, not none",
		`tls={"clientCa":true}`:                                          "needs tls.secretName",
		`tls={"secretName":"s","clientCa":true}`:                         "need tls.enabled=true",
		`tls={"secretName":"s"}`:                                         "need tls.enabled=true",
		`tls={"caConfigMap":"c"}`:                                        "need tls.enabled=true",
		`autoscaling.minReplicas=20`:                                     "above autoscaling.maxReplicas",
		`provider={"name":"gke"}`:                                        "range of the proxy-only subnet",
		`provider={"name":"gke","namespace":"other"}`:                    "release's namespace",
		`provider={"name":"gke","request":{"body":"BUFFERED"}}`:          "does not buffer bodies",
		`provider={"name":"gke","messageTimeoutMs":20000}`:               "10 s at most",
		`provider={"name":"istio","messageTimeoutMs":150}`:               "not longer than hookDeadlineMs=150",
		`provider={"name":"envoy-gateway","response":{"trailers":true}}`: "FULL_DUPLEX_STREAMED only",
		`{"provider":{"name":"envoy-gateway"},"tls":{"enabled":true}}`:   "needs tls.caConfigMap",
		`{"provider":{"name":"envoy-gateway"},"mode":"sidecar","tls":{"enabled":true}}`: "unix socket",
		`{"provider":{"name":"istio"},"mode":"sidecar","tls":{"secretName":"s"}}`:       "need tls.enabled=true",
	} {
		t.Run(setting, func(t *testing.T) {
			settings := []string{setting}
			if strings.HasPrefix(setting, "{") { // several values at once
				var values map[string]json.RawMessage
				if err := json.Unmarshal([]byte(setting), &values); err != nil {
					t.Fatal(err)
				}
				settings = nil
				for _, name := range slices.Sorted(maps.Keys(values)) {
					settings = append(settings, name+"="+string(values[name]))
				}
			}
			out, err := template(settings...)
			if err == nil || !strings.Contains(out, why) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// withoutLabels is what the chart and the host have in common.
func withoutLabels(objects []Object, kinds ...string) map[string]Object {
	kept := map[string]Object{}
	for _, object := range objects {
		if slices.Contains(kinds, object["kind"].(string)) {
			delete(object["metadata"].(map[string]any), "labels")
			kept[object.Kind()] = object
		}
	}
	return kept
}

// The chart says by values what --print_config finds out from the plugins.
func TestTheChartRendersWhatTheHostPrints(t *testing.T) {
	common := []string{`provider.attributes=["source.address"]`, `provider.maxBodyBytes=2000000`,
		`maxHeaderBytes=98304`, `maxHeaderCount=200`}
	for golden, settings := range map[string][]string{
		"envoy_gateway_headers": {`provider.name="envoy-gateway"`, `provider.targetRefs=[{"group":"gateway.networking.k8s.io","kind":"HTTPRoute","name":"myapp"}]`},
		"envoy_gateway_everything": append([]string{`provider.name="envoy-gateway"`,
			`provider.targetRefs=[{"group":"gateway.networking.k8s.io","kind":"HTTPRoute","name":"myapp"}]`,
			`provider.request={"headers":true,"body":"BUFFERED"}`,
			`provider.response={"headers":true,"body":"FULL_DUPLEX_STREAMED","trailers":true}`}, common...),
		"istio_headers": {`provider.name="istio"`, `provider.mesh=true`, `provider.namespace="istio-ingress"`},
		"istio_everything": append([]string{`provider.name="istio"`, `provider.mesh=true`, `provider.namespace="istio-ingress"`,
			`provider.request={"headers":true,"body":"BUFFERED"}`,
			`provider.response={"headers":true,"body":"STREAMED","trailers":true}`}, common...),
		"gke_headers": {`provider.name="gke"`, `networkPolicy.enabled=false`},
		"gke_everything": append([]string{`provider.name="gke"`, `networkPolicy.enabled=false`,
			`provider.request={"headers":true,"body":"FULL_DUPLEX_STREAMED"}`,
			`provider.response={"headers":true,"body":"STREAMED","trailers":true}`}, common...),
	} {
		t.Run(golden, func(t *testing.T) {
			kinds := []string{"EnvoyExtensionPolicy", "ClientTrafficPolicy", "EnvoyFilter", "DestinationRule",
				"GCPTrafficExtension", "HealthCheckPolicy"}
			printed := withoutLabels(parse(t, read(t, filepath.Join(top, "tests/host/deploy/golden", golden+".yaml"))), kinds...)
			rendered := withoutLabels(render(t, settings...), kinds...)
			if !reflect.DeepEqual(printed, rendered) {
				one, _ := yaml.Marshal(printed)
				other, _ := yaml.Marshal(rendered)
				t.Errorf("printed:\n%s\nrendered:\n%s", one, other)
			}
		})
	}
}

func envoy(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(top, ".venv/lib/python3*/site-packages/envoy/_bin/envoy"))
	if path := os.Getenv("CALLOUT_ENVOY"); path != "" {
		return path
	}
	if len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no Envoy")
		}
		t.Skip("there is no Envoy")
	}
	return found[0]
}

// patched is a bootstrap with all that an EnvoyFilter adds to or sets in a gateway's configuration.
func patched(t *testing.T, filter Object) Object {
	t.Helper()
	const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	manager := Object{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "gateway",
		"route_config": Object{"virtual_hosts": []any{Object{"name": "all", "domains": []string{"*"},
			"routes": []any{Object{"match": Object{"prefix": "/"}, "direct_response": Object{"status": 200}}}}}},
	}
	filters := []any{Object{"name": "envoy.filters.http.router",
		"typed_config": Object{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}}
	listener := Object{"name": "gateway", "address": Object{"socket_address": Object{"address": "127.0.0.1", "port_value": 0}}}
	cluster := Object{"type": "STRICT_DNS", "connect_timeout": "1s",
		"typed_extension_protocol_options": Object{httpOptions: Object{"@type": "type.googleapis.com/" + httpOptions,
			"explicit_http_config": Object{"http2_protocol_options": Object{}}}}}
	for _, patch := range filter["spec"].(map[string]any)["configPatches"].([]any) {
		value := patch.(map[string]any)["patch"].(map[string]any)["value"].(map[string]any)
		switch kind := patch.(map[string]any)["applyTo"]; kind {
		case "HTTP_FILTER":
			filters = append([]any{value}, filters...)
			service := value["typed_config"].(map[string]any)["grpc_service"].(map[string]any)
			cluster["name"] = service["envoy_grpc"].(map[string]any)["cluster_name"]
		case "NETWORK_FILTER":
			maps.Copy(manager, value["typed_config"].(map[string]any))
		case "LISTENER":
			maps.Copy(listener, value)
		case "CLUSTER":
			maps.Copy(cluster, value)
		default:
			t.Fatalf("what does %v mean?", kind)
		}
	}
	manager["http_filters"] = filters
	listener["filter_chains"] = []any{Object{"filters": []any{
		Object{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}}}}
	return Object{"static_resources": Object{"listeners": []any{listener}, "clusters": []any{cluster}}}
}

func validate(t *testing.T, bootstrap Object) (string, error) {
	t.Helper()
	data, err := json.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(envoy(t), "--mode", "validate", "--log-level", "error", "-c", file).CombinedOutput()
	return string(out), err
}

// Neither Istio nor its types look into these values.
func TestEnvoyTakesWhatIstioIsToldToPatch(t *testing.T) {
	for _, file := range append(files(t, "deploy/kubernetes/istio*.yaml", 2), files(t, "tests/host/deploy/golden/istio_*.yaml", 2)...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			for _, object := range parse(t, read(t, file)) {
				if object["kind"] != "EnvoyFilter" {
					continue
				}
				if out, err := validate(t, patched(t, object)); err != nil {
					t.Error(out)
				}
				patches := object["spec"].(map[string]any)["configPatches"].([]any)
				value := patches[0].(map[string]any)["patch"].(map[string]any)["value"].(map[string]any)
				value["typed_config"].(map[string]any)["misspelt"] = true
				if out, err := validate(t, patched(t, object)); err == nil {
					t.Errorf("Envoy takes anything: %s", out)
				}
			}
		})
	}
}

// meshOf is how Istio's gateway speaks to the host, whether the host's pods are to get a sidecar, and to which ports
// they may connect.
func meshOf(t *testing.T, objects []Object) (mode string, sidecar bool, ports []string) {
	t.Helper()
	for _, object := range objects {
		switch object["kind"] {
		case "DestinationRule":
			policy := object["spec"].(map[string]any)["trafficPolicy"].(map[string]any)
			mode = policy["tls"].(map[string]any)["mode"].(string)
		case "Deployment":
			sidecar = deploymentIn(t, object).Spec.Template.Labels["sidecar.istio.io/inject"] == "true"
		case "NetworkPolicy":
			data, _ := json.Marshal(object)
			policy := new(networkingv1.NetworkPolicy)
			if err := Strict(data, policy); err != nil {
				t.Fatal(err)
			}
			for _, rule := range policy.Spec.Egress {
				for _, port := range rule.Ports {
					protocol := corev1.ProtocolTCP
					if port.Protocol != nil {
						protocol = *port.Protocol
					}
					ports = append(ports, port.Port.String()+"/"+string(protocol))
				}
			}
		}
	}
	return mode, sidecar, ports
}

// Mutual TLS of the mesh ends in a sidecar, which has to be there, and to reach istiod and DNS.
func TestIstiosGatewaySpeaksMutualTLSToPodsWithASidecarOnly(t *testing.T) {
	const istio = `provider.name="istio"`
	for name, form := range map[string]struct {
		objects []Object
		mode    string
		ports   []string // of a sidecar; nil: there is none
	}{
		"the manifest": {parse(t, read(t, filepath.Join(top, "deploy/kubernetes/istio.yaml"))), "DISABLE", nil},
		"by default":   {render(t, istio), "DISABLE", nil},
		"own TLS":      {render(t, istio, `tls.enabled=true`), "SIMPLE", nil},
		"mesh":         {render(t, istio, `provider.mesh=true`, `podLabels={"a":"b","sidecar.istio.io/inject":"false"}`), "ISTIO_MUTUAL", []string{"15012/TCP", "53/UDP", "53/TCP"}},
		"mesh, egress": {render(t, istio, `provider.mesh=true`, `networkPolicy.egress=[{"ports":[{"port":443}]}]`), "ISTIO_MUTUAL", []string{"15012/TCP", "53/UDP", "53/TCP", "443/TCP"}},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, form.objects)
			mode, sidecar, ports := meshOf(t, form.objects)
			if mode != form.mode || sidecar != (form.ports != nil) || !slices.Equal(ports, form.ports) {
				t.Errorf("%s, sidecar %v, to %v", mode, sidecar, ports)
			}
		})
	}
}

// plugins/basic has hooks for headers and bodies of both directions.
func TestTheDoctorFindsNothingInWhatIsRendered(t *testing.T) {
	streamed := []string{`provider.request={"headers":true,"body":"STREAMED"}`, `provider.response={"headers":true,"body":"STREAMED"}`}
	for provider, options := range map[string][]string{
		"envoy-gateway": nil, "istio": nil, "gke": {"--early_end=off"},
	} {
		t.Run(provider, func(t *testing.T) {
			settings := append([]string{`provider.name="` + provider + `"`, `networkPolicy.enabled=false`}, streamed...)
			text, err := template(settings...)
			if err != nil {
				t.Fatal(text)
			}
			file := filepath.Join(t.TempDir(), "rendered.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			options := append(options, "--transport=nghttp2", "--plugin="+os.Getenv("KINDS_PLUGIN"), "--doctor="+file)
			if out, err := exec.Command(os.Getenv("KINDS_HOST"), options...).CombinedOutput(); err != nil {
				t.Errorf("%s", out)
			}
		})
	}
}

// What the options of the pods name is in the Secret.
func TestTheSecretHasTheFilesOfTheChain(t *testing.T) {
	objects := render(t, `plugins.chain=[{"name":"guard","config":"a: \"b\"\n","settings":{"policy":"deny:503"}},{"name":"stamp"}]`,
		`plugins.keys="a key"`)
	var files map[string]any
	var args []string
	for _, object := range objects {
		switch object["kind"] {
		case "Secret":
			files = object["stringData"].(map[string]any)
		case "Deployment":
			args = hostOf(t, deploymentIn(t, object)).Args
		}
	}
	want := map[string]any{"guard.config": "a: \"b\"\n", "guard.settings": `{"policy":"deny:503"}`, "keys.pub": "a key"}
	if !reflect.DeepEqual(files, want) {
		t.Errorf("%v", files)
	}
	first := []string{"--plugin=guard=/plugins/guard.so", "--plugin_config=guard=@/config/guard.config",
		"--plugin_settings=guard=@/config/guard.settings", "--plugin=stamp=/plugins/stamp.so", "--watch_plugins",
		"--plugin_keys=/config/keys.pub"}
	if len(args) < len(first) || !reflect.DeepEqual(args[:len(first)], first) {
		t.Errorf("%v", args)
	}
}

// podsOf is the template of the host's pods, as text.
func podsOf(t *testing.T, objects []Object) string {
	t.Helper()
	for _, object := range objects {
		if deployment := deploymentIn(t, object); deployment != nil {
			text, _ := json.Marshal(deployment.Spec.Template)
			return string(text)
		}
	}
	t.Fatal("there are no pods")
	return ""
}

// A host reads keys when it starts: a key that is taken away is trusted until its pods are replaced. What else is in
// the Secret is taken up without that.
func TestOtherKeysAreOtherPods(t *testing.T) {
	for _, settings := range [][]string{
		nil, {`metrics.annotations=false`}, {`podAnnotations={"a":"b"}`}, {`provider.name="istio"`, `mode="sidecar"`},
	} {
		t.Run(strings.Join(settings, " "), func(t *testing.T) {
			pods := func(keys, config string) string {
				return podsOf(t, render(t, append(settings, `plugins.keys="`+keys+`"`,
					`plugins.chain=[{"name":"guard","config":"`+config+`"}]`)...))
			}
			both := pods("one\\ntwo\\n", "a")
			if both == pods("one\\n", "a") {
				t.Error("the pods stay")
			}
			if both != pods("one\\ntwo\\n", "b") {
				t.Error("another configuration replaces the pods")
			}
		})
	}
}

func TestTheHostTakesTheOptionsOfThePods(t *testing.T) {
	plugins := t.TempDir()
	if err := os.WriteFile(filepath.Join(plugins, "basic.so"), read(t, os.Getenv("KINDS_PLUGIN")), 0o600); err != nil {
		t.Fatal(err)
	}
	pods := 0
	for _, file := range files(t, "deploy/kubernetes/*.yaml", 6) {
		for _, object := range parse(t, read(t, file)) {
			deployment := deploymentIn(t, object)
			if deployment == nil {
				continue
			}
			pods++
			args := append(hostOf(t, deployment).Args, "--check", "--strict")
			args[slices.Index(args, "--plugins_dir=/plugins")] = "--plugins_dir=" + plugins
			if out, err := exec.Command(os.Getenv("KINDS_HOST"), args...).CombinedOutput(); err != nil {
				t.Errorf("%s: %s", file, out)
			}
		}
	}
	if pods < 6 {
		t.Errorf("only %d pods", pods)
	}
}

// A drain is over before the pod is killed.
func TestThePodsHaveTimeForTheDrain(t *testing.T) {
	for settings, want := range map[string]int64{
		`drain={}`:                                  30,
		`drain={"delayMs":3000,"timeoutMs":0}`:      13,
		`drain={"delayMs":60000,"timeoutMs":1}`:     71,
		`drain={"delayMs":10000,"timeoutMs":60000}`: 80,
	} {
		for _, object := range render(t, settings) {
			deployment := deploymentIn(t, object)
			if deployment == nil {
				continue
			}
			if got := *deployment.Spec.Template.Spec.TerminationGracePeriodSeconds; got != want {
				t.Errorf("%s: %d s, not %d s", settings, got, want)
			}
		}
	}
}
