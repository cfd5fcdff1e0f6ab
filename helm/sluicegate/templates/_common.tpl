{{- define "sluicegate.name" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains "sluicegate" .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-sluicegate" (.Release.Name | trunc 29 | trimSuffix "-") }}
{{- end -}}
{{- end -}}

{{/* Labels that select a component's pods: immutable once installed. Call with (list $ "worker"). */}}
{{- define "sluicegate.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: sluicegate
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of an object. part-of is what the guard looks for: our own pods are never isolated. */}}
{{- define "sluicegate.labels" -}}
{{- $root := index . 0 -}}
{{ include "sluicegate.selector" . }}
app.kubernetes.io/part-of: sluicegate
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- define "sluicegate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The settings file: what the chart knows, under what the operator adds. */}}
{{- define "sluicegate.settings" -}}
{{- $kafka := dict "bootstrap" .Values.kafka.bootstrap "prefix" .Values.kafka.prefix "security" .Values.kafka.security -}}
{{- if hasPrefix "sasl" .Values.kafka.security -}}
{{- $_ := set $kafka "sasl_mechanism" .Values.kafka.saslMechanism -}}
{{- $_ := set $kafka "sasl_username" .Values.kafka.saslUsername -}}
{{- $_ := set $kafka "sasl_password_file" "/etc/sluicegate/login/password" -}}
{{- end -}}
{{- if and (hasSuffix "tls" .Values.kafka.security) .Values.kafka.tlsSecret.name -}}
{{- $_ := set $kafka "ca_file" "/etc/sluicegate/tls/ca.crt" -}}
{{- if .Values.kafka.tlsSecret.clientCertificate -}}
{{- $_ := set $kafka "certificate_file" "/etc/sluicegate/tls/tls.crt" -}}
{{- $_ := set $kafka "key_file" "/etc/sluicegate/tls/tls.key" -}}
{{- end -}}
{{- end -}}
{{- $topics := dict "event_partitions" (int .Values.topics.eventPartitions) "rollup_partitions" (int .Values.topics.rollupPartitions) "replication" (int .Values.topics.replication) -}}
{{- $health := dict "host" "0.0.0.0" "port" 9464 -}}
{{/* The engine is told the same layout; the program refuses settings where the two differ. */}}
{{- $engine := dict "event_partitions" (int .Values.topics.eventPartitions) "rollup_partitions" (int .Values.topics.rollupPartitions) -}}
{{- $ours := dict "stream" (dict "kafka" $kafka "topics" $topics "health" $health) "engine" $engine -}}
{{- with .Values.responder.optIn -}}
{{- $_ := set $ours "response" (dict "opt_in" .) -}}
{{- end -}}
{{- if .Values.exporter.enabled -}}
{{- $packets := dict "uplinks" .Values.exporter.uplinks "cluster_networks" .Values.exporter.clusterNetworks -}}
{{- $_ := set $ours "exporter" (dict "packets" $packets "live" (dict "spool" "/var/spool/sluicegate")) -}}
{{- end -}}
{{- toYaml (mustMergeOverwrite $ours (deepCopy .Values.settings)) -}}
{{- end -}}

{{/* Pod fields that every component shares. */}}
{{- define "sluicegate.pod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
volumes:
  - name: settings
    configMap: {name: {{ include "sluicegate.name" . }}-settings}
  - name: scratch
    emptyDir: {sizeLimit: 64Mi}
  {{- if hasPrefix "sasl" .Values.kafka.security }}
  - name: login
    secret:
      secretName: {{ .Values.kafka.passwordSecret.name }}
      items: [{key: {{ .Values.kafka.passwordSecret.key }}, path: password}]
  {{- end }}
  {{- if and (hasSuffix "tls" .Values.kafka.security) .Values.kafka.tlsSecret.name }}
  - name: tls
    secret: {secretName: {{ .Values.kafka.tlsSecret.name }}}
  {{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Container fields that every component shares. Call with (list $ "worker"). */}}
{{- define "sluicegate.container" -}}
{{- $component := index . 1 -}}
{{- with index . 0 -}}
image: {{ include "sluicegate.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
env:
  - {name: SLUICEGATE_CONFIG, value: /etc/sluicegate/settings/settings.yaml}
  {{- /* A name in the consumer group: who comes back under it keeps its partitions. */}}
  {{- if eq $component "worker" }}
  - name: SLUICEGATE_STREAM__WORKER__INSTANCE
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- else if eq $component "responder" }}
  - {name: SLUICEGATE_STREAM__WORKER__INSTANCE, value: responder}
  - {name: SLUICEGATE_RESPONSE__UPKEEP__KILL_SWITCH, value: {{ printf "%s/sluicegate-stop" .Release.Namespace | quote }}}
  - {name: SLUICEGATE_RESPONSE__UPKEEP__LEASE, value: {{ printf "%s/%s-responder" .Release.Namespace (include "sluicegate.name" .) | quote }}}
  {{- if .Values.responder.nodeKey.secret }}
  - {name: SLUICEGATE_RESPONSE__NODE_STEPS__ENABLED, value: "true"}
  - {name: SLUICEGATE_RESPONSE__NODE_STEPS__PRIVATE_KEY_FILE, value: /etc/sluicegate/node-key/key.pem}
  - {name: SLUICEGATE_RESPONSE__NODE_STEPS__KEY_ID, value: {{ .Values.responder.nodeKey.keyId | quote }}}
  {{- end }}
  {{- if .Values.responder.operators }}
  - {name: SLUICEGATE_RESPONSE__COMMANDS__PUBLIC_KEYS_FILE, value: /etc/sluicegate/settings/operators.yaml}
  {{- end }}
  {{- end }}
volumeMounts:
  - {name: settings, mountPath: /etc/sluicegate/settings, readOnly: true}
  - {name: scratch, mountPath: /tmp}
  {{- if and (eq $component "responder") .Values.responder.nodeKey.secret }}
  - {name: node-key, mountPath: /etc/sluicegate/node-key, readOnly: true}
  {{- end }}
  {{- if hasPrefix "sasl" .Values.kafka.security }}
  - {name: login, mountPath: /etc/sluicegate/login, readOnly: true}
  {{- end }}
  {{- if and (hasSuffix "tls" .Values.kafka.security) .Values.kafka.tlsSecret.name }}
  - {name: tls, mountPath: /etc/sluicegate/tls, readOnly: true}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* A start reads inventory and snapshots first, so readiness may take a while; a stall fails liveness. */}}
{{- define "sluicegate.probes" -}}
ports:
  - {name: metrics, containerPort: 9464}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}
