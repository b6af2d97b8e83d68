{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{- define "callout-host.name" -}}
{{- $chart := default .Chart.Name .Values.nameOverride -}}
{{- if contains $chart .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $chart | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "callout-host.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "callout-host.labels" -}}
{{ include "callout-host.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* metadata of a resource in the release's namespace */}}
{{- define "callout-host.metadata" -}}
name: {{ include "callout-host.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "callout-host.labels" . | nindent 2 }}
{{- end -}}

{{/* metadata of a resource beside the Gateway */}}
{{- define "callout-host.providerMetadata" -}}
name: {{ include "callout-host.name" . }}
namespace: {{ include "callout-host.providerNamespace" . }}
labels:
  {{- include "callout-host.labels" . | nindent 2 }}
{{- end -}}

{{- define "callout-host.providerNamespace" -}}
{{- default .Release.Namespace .Values.provider.namespace -}}
{{- end -}}

{{- define "callout-host.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* "true" where the host serves TLS */}}
{{- define "callout-host.tls" -}}
{{- if or .Values.tls.enabled (eq .Values.provider.name "gke") -}}true{{- end -}}
{{- end -}}

{{/* "true" where the host's pods get a sidecar of Istio's mesh */}}
{{- define "callout-host.mesh" -}}
{{- if and (eq .Values.provider.name "istio") (eq .Values.mode "deployment") .Values.provider.mesh -}}true{{- end -}}
{{- end -}}

{{- define "callout-host.port" -}}
{{- if include "callout-host.tls" . -}}8443{{- else -}}8080{{- end -}}
{{- end -}}

{{- define "callout-host.service" -}}
{{- printf "%s.%s.svc.cluster.local" (include "callout-host.name" .) .Release.Namespace -}}
{{- end -}}

{{/* How often proxies ask for health, as --print_config has it: four times within the drain delay, at most once a second. */}}
{{- define "callout-host.healthIntervalMs" -}}
{{- min 1000 (mul 50 (div (int64 .Values.drain.delayMs) 200)) -}}
{{- end -}}

{{/* Milliseconds as Kubernetes (list . N) and protobuf write them */}}
{{- define "callout-host.kubernetesTime" -}}
{{- $ms := int64 . -}}
{{- if eq (mod $ms 1000) 0 -}}{{ div $ms 1000 }}s{{- else -}}{{ $ms }}ms{{- end -}}
{{- end -}}

{{- define "callout-host.protobufTime" -}}
{{- $ms := int64 . -}}
{{- if eq (mod $ms 1000) 0 -}}{{ div $ms 1000 }}s{{- else -}}{{ printf "%d.%03d" (div $ms 1000) (mod $ms 1000) | trimSuffix "0" | trimSuffix "0" }}s{{- end -}}
{{- end -}}

{{/* "true" where trailers are sent: FULL_DUPLEX_STREAMED needs them */}}
{{- define "callout-host.trailers" -}}
{{- if or .trailers (eq .body "FULL_DUPLEX_STREAMED") -}}true{{- end -}}
{{- end -}}

{{/* The files of the Secret: configurations, settings, keys; "" if there are none */}}
{{- define "callout-host.files" -}}
{{- range .Values.plugins.chain }}
{{- if .config }}
{{ .name }}.config: {{ toJson .config }}
{{- end }}
{{- if .settings }}
{{ .name }}.settings: {{ toJson .settings | quote }}
{{- end }}
{{- end }}
{{- if .Values.plugins.keys }}
keys.pub: {{ toJson .Values.plugins.keys }}
{{- end }}
{{- end -}}

{{/* The host reads keys when it starts: others replace its pods, so that a key that is taken away is trusted no more */}}
{{- define "callout-host.keysAnnotation" -}}
{{- with .Values.plugins.keys -}}
checksum/keys: {{ sha256sum . }}
{{- end -}}
{{- end -}}

{{/* What one value alone cannot show to be wrong */}}
{{- define "callout-host.check" -}}
{{- $p := .Values.provider -}}
{{- if not (or .Values.plugins.image .Values.plugins.volume) -}}
{{- fail "plugins.image or plugins.volume has to name what is mounted at /plugins" -}}
{{- end -}}
{{- if and .Values.plugins.image .Values.plugins.volume -}}
{{- fail "plugins.image and plugins.volume exclude each other" -}}
{{- end -}}
{{- if and (eq .Values.mode "sidecar") (not (has $p.name (list "envoy-gateway" "istio"))) -}}
{{- fail (printf "mode sidecar needs provider.name envoy-gateway or istio, not %s" $p.name) -}}
{{- end -}}
{{- if and (eq .Values.mode "sidecar") .Values.tls.enabled -}}
{{- fail "mode sidecar uses a unix socket; set tls.enabled=false" -}}
{{- end -}}
{{- if and (eq .Values.mode "sidecar") (eq $p.name "envoy-gateway") (include "callout-host.files" .) -}}
{{- fail "the Envoys of Envoy Gateway may run in another namespace than a Secret of this release; put configurations into plugins.image, or use mode deployment" -}}
{{- end -}}
{{- if and .Values.tls.clientCa (not .Values.tls.secretName) -}}
{{- fail "tls.clientCa needs tls.secretName, which has ca.crt" -}}
{{- end -}}
{{- if and (or .Values.tls.secretName .Values.tls.clientCa .Values.tls.caConfigMap) (not (include "callout-host.tls" .)) -}}
{{- fail "tls.secretName, tls.clientCa and tls.caConfigMap need tls.enabled=true, without which callouts are plaintext from any client; leave them out with mode sidecar" -}}
{{- end -}}
{{- if and (eq $p.name "envoy-gateway") .Values.tls.enabled (not .Values.tls.caConfigMap) -}}
{{- fail "tls.enabled with provider envoy-gateway needs tls.caConfigMap, by which it checks the host's certificate" -}}
{{- end -}}
{{- if and (eq $p.name "gke") (ne (include "callout-host.providerNamespace" .) .Release.Namespace) -}}
{{- fail "provider gke needs the Gateway in the release's namespace; leave provider.namespace empty" -}}
{{- end -}}
{{- range $name, $direction := dict "request" $p.request "response" $p.response -}}
{{- if and (eq $p.name "gke") (eq $direction.body "BUFFERED") -}}
{{- fail (printf "provider gke does not buffer bodies; set provider.%s.body=FULL_DUPLEX_STREAMED" $name) -}}
{{- end -}}
{{- if and (eq $p.name "envoy-gateway") $direction.trailers (ne $direction.body "FULL_DUPLEX_STREAMED") -}}
{{- fail (printf "Envoy Gateway sends trailers with provider.%s.body=FULL_DUPLEX_STREAMED only" $name) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $p.name "gke") (gt (int64 $p.messageTimeoutMs) 10000) -}}
{{- fail "provider gke waits for 10 s at most; lower provider.messageTimeoutMs" -}}
{{- end -}}
{{- if and (ne $p.name "none") (le (int64 $p.messageTimeoutMs) (int64 .Values.hookDeadlineMs)) -}}
{{- fail (printf "provider.messageTimeoutMs=%d is not longer than hookDeadlineMs=%d: the proxy gives up before the plugin's error policy answers" (int64 $p.messageTimeoutMs) (int64 .Values.hookDeadlineMs)) -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (eq $p.name "gke") (not .Values.networkPolicy.from) -}}
{{- fail "provider gke needs networkPolicy.from, the range of the proxy-only subnet, or networkPolicy.enabled=false" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas" -}}
{{- end -}}
{{- range .Values.args -}}
{{- $option := index (splitList "=" .) 0 | replace "-" "_" | trimPrefix "__" -}}
{{- if has $option (list "plugin" "plugin_config" "plugin_settings" "plugin_keys" "plugins_dir" "watch_plugins" "plaintext_address" "secure_address" "health_check_address" "admin_address" "unix_socket_mode" "disable_tls" "disable_plaintext" "drain_delay_ms" "drain_timeout_ms" "hook_deadline_ms" "max_header_bytes" "max_header_count" "log_level" "log_format") -}}
{{- fail (printf "args: --%s is set by other values of this chart" $option) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The container. Its port names are those of the probes. */}}
{{- define "callout-host.container" -}}
{{- $sidecar := eq .Values.mode "sidecar" -}}
name: callout-host
image: {{ include "callout-host.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if $sidecar }}
restartPolicy: Always # a sidecar: starts before Envoy, and ends after it
{{- end }}
args:
{{- range .Values.plugins.chain }}
- --plugin={{ .name }}=/plugins/{{ .name }}.so
{{- if .config }}
- --plugin_config={{ .name }}=@/config/{{ .name }}.config
{{- end }}
{{- if .settings }}
- --plugin_settings={{ .name }}=@/config/{{ .name }}.settings
{{- end }}
{{- else }}
- --plugins_dir=/plugins
{{- end }}
{{- if .Values.plugins.chain }}
# A changed Secret is taken up without a restart.
- --watch_plugins
{{- end }}
{{- if .Values.plugins.keys }}
- --plugin_keys=/config/keys.pub
{{- end }}
{{- if $sidecar }}
- --disable_tls
- --plaintext_address=unix:/run/callout/callout.sock
# Envoy runs as another user.
- --unix_socket_mode=0666
{{- else if include "callout-host.tls" . }}
- --disable_plaintext
- --secure_address={{ .Values.listenAddress }}:8443
{{- if .Values.tls.secretName }}
- --cert_chain_path=/tls/tls.crt
- --private_key_path=/tls/tls.key
{{- end }}
{{- if .Values.tls.clientCa }}
- --client_ca_path=/tls/ca.crt
{{- end }}
{{- else }}
- --disable_tls
- --plaintext_address={{ .Values.listenAddress }}:8080
{{- end }}
- --health_check_address={{ .Values.listenAddress }}:8000
{{- if $sidecar }}
# Envoy has ended before, so there is nothing to wait for.
- --drain_delay_ms=0
{{- else }}
# Pods are scraped by their address; the NetworkPolicy says by whom.
- --admin_address={{ .Values.listenAddress }}:9902
- --drain_delay_ms={{ int64 .Values.drain.delayMs }}
{{- end }}
- --drain_timeout_ms={{ int64 .Values.drain.timeoutMs }}
- --hook_deadline_ms={{ int64 .Values.hookDeadlineMs }}
- --max_header_bytes={{ int64 .Values.maxHeaderBytes }}
- --max_header_count={{ int64 .Values.maxHeaderCount }}
- --log_level={{ .Values.logLevel }}
- --log_format=json
{{- if eq .Values.provider.name "gke" }}
# Google's load balancers do not document what an early end of the stream does.
- --early_end=off
{{- end }}
{{- range .Values.args }}
- {{ . | quote }}
{{- end }}
{{- with .Values.env }}
env:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- if $sidecar }}
startupProbe: {httpGet: {path: /, port: 8000}, periodSeconds: 1, failureThreshold: 60}
{{- else }}
ports:
- {name: grpc, containerPort: {{ include "callout-host.port" . }}}
- {name: health, containerPort: 8000}
- {name: admin, containerPort: 9902}
startupProbe: {httpGet: {path: /, port: health}, periodSeconds: 1, failureThreshold: 60}
# 503 as soon as a drain begins: the endpoint goes within --drain_delay_ms.
readinessProbe: {httpGet: {path: /, port: health}, periodSeconds: 1, failureThreshold: 1}
livenessProbe: {httpGet: {path: /live, port: admin}, periodSeconds: 10, failureThreshold: 3}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
- {name: callout-plugins, mountPath: /plugins, readOnly: true}
# For the private copies of plugins that the host loads.
- {name: callout-tmp, mountPath: /tmp}
{{- if $sidecar }}
- {name: callout-socket, mountPath: /run/callout}
{{- end }}
{{- if include "callout-host.files" . }}
- {name: callout-config, mountPath: /config, readOnly: true}
{{- end }}
{{- if and (include "callout-host.tls" .) .Values.tls.secretName }}
- {name: callout-tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- end -}}

{{- define "callout-host.volumes" -}}
- name: callout-plugins
{{- if .Values.plugins.image }}
  image: {reference: {{ .Values.plugins.image | quote }}, pullPolicy: IfNotPresent}
{{- else }}
  {{- toYaml .Values.plugins.volume | nindent 2 }}
{{- end }}
- name: callout-tmp
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.tmpSizeLimit }}}
{{- if eq .Values.mode "sidecar" }}
- name: callout-socket
  emptyDir: {}
{{- end }}
{{- if include "callout-host.files" . }}
- name: callout-config
  secret: {secretName: {{ include "callout-host.name" . }}-config}
{{- end }}
{{- if and (include "callout-host.tls" .) .Values.tls.secretName }}
- name: callout-tls
  secret: {secretName: {{ .Values.tls.secretName }}}
{{- end }}
{{- end -}}

{{/* The part of a pod by which a gateway's Envoy gets the host beside it; the argument is (list . CONTAINER), if Envoy's
container has to be named */}}
{{- define "callout-host.beside" -}}
spec:
  template:
    {{- if .Values.plugins.keys }}
    metadata:
      annotations:
        {{- include "callout-host.keysAnnotation" . | nindent 8 }}
    {{- end }}
    spec:
      initContainers:
      - {{ include "callout-host.container" . | nindent 8 | trim }}
      volumes:
      {{- include "callout-host.volumes" . | nindent 6 }}
{{- end -}}
