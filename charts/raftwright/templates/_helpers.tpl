{{/* Names have room for the suffixes that are put to them. */}}
{{- define "raftwright.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "raftwright.operator" -}}
{{ include "raftwright.fullname" . }}-operator
{{- end }}

{{/* Of what is not in a namespace: two releases of one name in two namespaces must not share it. */}}
{{- define "raftwright.clusterScoped" -}}
{{ printf "%s-%s" (include "raftwright.fullname" .) (.Release.Namespace | trunc 100) }}
{{- end }}

{{/* What selects the operator's pods; never changed, since a Deployment's selector cannot be. */}}
{{- define "raftwright.selector" -}}
app.kubernetes.io/name: raftwright
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "raftwright.labels" -}}
{{- with .Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
{{ include "raftwright.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: raftwright
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "raftwright.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "raftwright.operator" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{- define "raftwright.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "raftwright.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "raftwright.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What the operator may do with RaftClusters and what it makes of them, and nothing else. A server-side apply of
what is not there yet needs both `patch` and `create`. */}}
{{- define "raftwright.rules" -}}
- apiGroups: [raftwright.io]
  resources: [raftclusters]
  verbs: [get, list, watch, patch]
- apiGroups: [raftwright.io]
  resources: [raftclusters/status]
  verbs: [patch]
# For owner references that block the owner's deletion.
- apiGroups: [raftwright.io]
  resources: [raftclusters/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# The StatefulSets' controller makes pods and claims; the operator labels, restarts, grows and deletes them.
- apiGroups: [""]
  resources: [pods, persistentvolumeclaims]
  verbs: [get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
- apiGroups: [""]
  resources: [events]
  verbs: [get, create, patch]
{{- end }}
