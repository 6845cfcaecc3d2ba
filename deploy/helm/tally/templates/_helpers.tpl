{{- define "tally.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a role: (list . "server"). */}}
{{- define "tally.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "tally.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{ include "tally.selector" . }}
{{- end -}}

{{- define "tally.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{/* Where usage events and records are, from Secrets. */}}
{{- define "tally.stores" -}}
- name: TALLY_RECORDS
  valueFrom: {secretKeyRef: {name: {{ .records.secretName }}, key: {{ .records.secretKey }}}}
- name: TALLY_JOURNAL
  valueFrom: {secretKeyRef: {name: {{ .journal.secretName }}, key: {{ .journal.secretKey }}}}
{{- end -}}

{{/* Journals are where the records are, unless said otherwise. */}}
{{- define "tally.serverStores" -}}
{{- $journal := ternary .Values.journal .Values.records (ne .Values.journal.secretName "") -}}
{{- include "tally.stores" (dict "records" .Values.records "journal" $journal) -}}
{{- end -}}

{{/* Requests end, leads are handed over, spools are shipped: twice the time-out, as the API port closes after the rest. */}}
{{- define "tally.grace" -}}
{{- add .drainDelay (mul 2 .drainTimeout) 20 -}}
{{- end -}}

{{- define "tally.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "tally.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* A probe of the API's port: (list path scheme). */}}
{{- define "tally.probe" -}}
httpGet: {path: {{ index . 0 }}, port: api, scheme: {{ index . 1 }}}
timeoutSeconds: 3
{{- end -}}

{{- define "tally.probes" -}}
startupProbe: # once it was ready: at a first start the tables are made, at a gateway's its server is awaited
  {{- include "tally.probe" (list "/startupz" .) | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 300
livenessProbe:
  {{- include "tally.probe" (list "/healthz" .) | nindent 2 }}
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  {{- include "tally.probe" (list "/readyz" .) | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 2
{{- end -}}

{{/* Where the pods of a role may run: (list . role values). */}}
{{- define "tally.placement" -}}
{{- $v := index . 2 -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tally.selector" (list (index . 0) (index . 1)) | nindent 8 }}
{{- with $v.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The volume of a role's data folder: values of storage. */}}
{{- define "tally.dataClaim" -}}
- metadata:
    name: data
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .className }}
    storageClassName: {{ . }}
    {{- end }}
    resources: {requests: {storage: {{ .size }}}}
{{- end -}}
