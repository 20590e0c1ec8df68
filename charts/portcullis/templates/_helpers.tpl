{{/* Names are fixed: data planes find the controller by them, and the admission policy names its ServiceAccount. */}}
{{- define "portcullis.name" -}}
portcullis-controller
{{- end }}

{{- define "portcullis.selector" -}}
app.kubernetes.io/name: portcullis
app.kubernetes.io/component: controller
{{- end }}

{{- define "portcullis.labels" -}}
{{ include "portcullis.selector" . }}
app.kubernetes.io/part-of: portcullis
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "portcullis.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- with .Values.image.digest }}{{ $image }}@{{ . }}{{ else }}{{ $image }}{{ end -}}
{{- end }}

{{- define "portcullis.dataPlaneImage" -}}
{{ .Values.dataPlane.image | default (include "portcullis.image" .) }}
{{- end }}

{{- define "portcullis.account" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "portcullis.name" . }}
{{- end }}

{{/* Whether the class has parameters. */}}
{{- define "portcullis.hasParameters" -}}
{{- if or .Values.dataPlane.parameters .Values.dataPlane.upstreams .Values.dataPlane.allowGatewayFields }}true{{ end -}}
{{- end }}

{{/* Settings that are right one by one and wrong together. */}}
{{- define "portcullis.check" -}}
{{- if and (eq .Values.secretAccess.mode "listed") (not .Values.secretAccess.namespaces) }}
{{- fail "secretAccess.mode is listed, and secretAccess.namespaces names none: list the namespaces whose Secrets may be read" }}
{{- end }}
{{- if and (ne .Values.secretAccess.mode "listed") .Values.secretAccess.namespaces }}
{{- fail "secretAccess.namespaces has namespaces, and secretAccess.mode is not listed: set the mode, or remove the namespaces" }}
{{- end }}
{{- if .Values.watchNamespaces }}
{{- range .Values.secretAccess.namespaces }}
{{- if not (has . $.Values.watchNamespaces) }}
{{- fail (printf "secretAccess.namespaces has %s, and watchNamespaces has not: Secrets are read only where Gateways are" .) }}
{{- end }}
{{- end }}
{{- if and (include "portcullis.hasParameters" .) (not (has .Release.Namespace .Values.watchNamespaces)) }}
{{- fail (printf "the parameters of the GatewayClass lie in %s, and watchNamespaces has not: add it" .Release.Namespace) }}
{{- end }}
{{- end }}
{{- if and (include "portcullis.hasParameters" .) (not .Values.gatewayClass.create) }}
{{- fail "dataPlane has parameters, and gatewayClass.create is false: no GatewayClass would refer to them" }}
{{- end }}
{{- end }}
