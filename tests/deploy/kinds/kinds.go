// SPDX-License-Identifier: Apache-2.0

// Package kinds checks resources as the server of a cluster would that has Kubernetes, Envoy Gateway, the Gateway API,
// Istio and the Prometheus Operator: by the projects' own Go types, and by their definitions of custom resources with their rules (CEL). The
// versions are those of go.mod. What is written for kgateway and agentgateway is checked by written_down.yaml.
package kinds

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	egv1a1 "github.com/envoyproxy/gateway/api/v1alpha1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1b1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	"sigs.k8s.io/yaml"
)

// Object is one resource.
type Object map[string]any

// Kind is "GROUP/VERSION KIND".
func (o Object) Kind() string { return fmt.Sprintf("%v %v", o["apiVersion"], o["kind"]) }

var separator = regexp.MustCompile(`(?m)^---$`)

// Parse splits a file into its resources. A key that stands twice is an error.
func Parse(text []byte) ([]Object, error) {
	var objects []Object
	for _, document := range separator.Split(string(text), -1) {
		data, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			return nil, err
		}
		object := map[string]any{}
		if err := utiljson.Unmarshal(data, &object); err != nil { // whole numbers become int64
			return nil, err
		}
		if len(object) > 0 {
			objects = append(objects, object)
		}
	}
	return objects, nil
}

// By their kind, a value of each project's own type.
var types = map[string]func() any{
	"v1 Namespace":                                        func() any { return new(corev1.Namespace) },
	"v1 ServiceAccount":                                   func() any { return new(corev1.ServiceAccount) },
	"v1 Service":                                          func() any { return new(corev1.Service) },
	"v1 Secret":                                           func() any { return new(corev1.Secret) },
	"v1 ConfigMap":                                        func() any { return new(corev1.ConfigMap) },
	"apps/v1 Deployment":                                  func() any { return new(appsv1.Deployment) },
	"policy/v1 PodDisruptionBudget":                       func() any { return new(policyv1.PodDisruptionBudget) },
	"autoscaling/v2 HorizontalPodAutoscaler":              func() any { return new(autoscalingv2.HorizontalPodAutoscaler) },
	"networking.k8s.io/v1 NetworkPolicy":                  func() any { return new(networkingv1.NetworkPolicy) },
	"gateway.networking.k8s.io/v1 BackendTLSPolicy":       func() any { return new(gwv1.BackendTLSPolicy) },
	"gateway.networking.k8s.io/v1beta1 ReferenceGrant":    func() any { return new(gwv1b1.ReferenceGrant) },
	"gateway.envoyproxy.io/v1alpha1 EnvoyExtensionPolicy": func() any { return new(egv1a1.EnvoyExtensionPolicy) },
	"gateway.envoyproxy.io/v1alpha1 ClientTrafficPolicy":  func() any { return new(egv1a1.ClientTrafficPolicy) },
	"gateway.envoyproxy.io/v1alpha1 SecurityPolicy":       func() any { return new(egv1a1.SecurityPolicy) },
	"gateway.envoyproxy.io/v1alpha1 Backend":              func() any { return new(egv1a1.Backend) },
	"monitoring.coreos.com/v1 ServiceMonitor":             func() any { return new(monitoringv1.ServiceMonitor) },
	"gateway.envoyproxy.io/v1alpha1 EnvoyProxy":           func() any { return new(egv1a1.EnvoyProxy) },
}

// Kinds whose types and definitions are not to be had: this folder has a definition of the part that is used.
var writtenDown = map[string]bool{
	"gateway.kgateway.dev/v1alpha1 GatewayExtension": true,
	"gateway.kgateway.dev/v1alpha1 TrafficPolicy":    true,
	"agentgateway.dev/v1alpha1 AgentgatewayPolicy":   true,
}

// Istio's types are protobuf's; only the spec is such a message.
var messages = map[string]func() proto.Message{
	"networking.istio.io/v1alpha3 EnvoyFilter": func() proto.Message { return new(networking.EnvoyFilter) },
	"networking.istio.io/v1 DestinationRule":   func() proto.Message { return new(networking.DestinationRule) },
}

// Strict decodes JSON into a value, and refuses what has no place in it.
func Strict(data []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(value)
}

// ByType decodes a resource by its project's own type.
func ByType(object Object) error {
	data, err := json.Marshal(object)
	if err != nil {
		return err
	}
	if make, known := types[object.Kind()]; known {
		return Strict(data, make())
	}
	if make, known := messages[object.Kind()]; known {
		spec, err := json.Marshal(object["spec"])
		if err != nil {
			return err
		}
		return protojson.Unmarshal(spec, make())
	}
	return fmt.Errorf("no type is known for %s", object.Kind())
}

// Definition is a version of a custom resource.
type Definition struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

func newDefinition(version *apiextensionsv1.CustomResourceDefinitionVersion) (*Definition, error) {
	internal := new(apiextensions.JSONSchemaProps)
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(
		version.Schema.OpenAPIV3Schema, internal, nil); err != nil {
		return nil, err
	}
	structural, err := schema.NewStructural(internal)
	if err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(internal)
	if err != nil {
		return nil, err
	}
	return &Definition{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}, nil
}

// Check finds what a server would refuse.
func (d *Definition) Check(object Object) error {
	data := map[string]any(object)
	unknown := pruning.PruneWithOptions(data, d.structural, true,
		schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return fmt.Errorf("unknown fields: %s", strings.Join(unknown, ", "))
	}
	defaulting.Default(data, d.structural)
	if found := validation.ValidateCustomResource(nil, data, d.validator); len(found) > 0 {
		return found.ToAggregate()
	}
	if found, _ := d.rules.Validate(context.Background(), nil, d.structural, data, nil,
		celconfig.RuntimeCELCostBudget); len(found) > 0 {
		return found.ToAggregate()
	}
	return nil
}

// moduleDirectory is where Go keeps the sources of a module.
func moduleDirectory(module string) (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	return strings.TrimSpace(string(out)), err
}

// Definitions reads those that the modules of Envoy Gateway and Istio ship, and those of this folder, by Kind().
var Definitions = sync.OnceValues(func() (map[string]*Definition, error) {
	gateway, err := moduleDirectory("github.com/envoyproxy/gateway")
	if err != nil {
		return nil, err
	}
	istio, err := moduleDirectory("istio.io/api")
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(gateway + "/charts/gateway-crds-helm/templates/generated/*.yaml")
	if err != nil {
		return nil, err
	}
	files = append(files, gateway+"/charts/gateway-crds-helm/templates/standard-gatewayapi-crds.yaml",
		istio+"/kubernetes/customresourcedefinitions.gen.yaml", "written_down.yaml")
	definitions := map[string]*Definition{}
	for _, file := range files {
		if err := readDefinitions(file, definitions); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return definitions, nil
})

// Lines of a chart's template around the definitions.
var templateLine = regexp.MustCompile(`(?m)^\s*\{\{.*\}\}\s*$`)

func readDefinitions(file string, definitions map[string]*Definition) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, document := range separator.Split(templateLine.ReplaceAllString(string(text), ""), -1) {
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal([]byte(document), &definition); err != nil {
			return err
		}
		if definition.Kind != "CustomResourceDefinition" {
			continue
		}
		for i := range definition.Spec.Versions {
			version := &definition.Spec.Versions[i]
			kind := fmt.Sprintf("%s/%s %s", definition.Spec.Group, version.Name, definition.Spec.Names.Kind)
			if types[kind] == nil && messages[kind] == nil && !writtenDown[kind] {
				continue // compiling all rules takes a while
			}
			made, err := newDefinition(version)
			if err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			definitions[kind] = made
		}
	}
	return nil
}

// Check says what a server would refuse of a resource. Kinds that no project here defines are left out by the caller.
func Check(object Object) error {
	if !writtenDown[object.Kind()] {
		if err := ByType(object); err != nil {
			return err
		}
	}
	definitions, err := Definitions()
	if err != nil {
		return err
	}
	if definition := definitions[object.Kind()]; definition != nil {
		return definition.Check(object)
	}
	if writtenDown[object.Kind()] || strings.Contains(object["apiVersion"].(string), ".io/v1alpha") {
		return fmt.Errorf("no definition of %s was found", object.Kind())
	}
	return nil
}
