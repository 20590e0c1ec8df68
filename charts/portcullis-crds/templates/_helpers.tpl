{{/* A name of a Gateway API definition that the cluster has, if it has any. */}}
{{- define "portcullis-crds.present" -}}
{{- range (lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "").items }}
{{- if hasSuffix ".gateway.networking.k8s.io" .metadata.name }}
{{- $annotations := .metadata.annotations | default dict }}
{{- printf "%s: %s, channel %s\n" .metadata.name (index $annotations "gateway.networking.k8s.io/bundle-version" | default "of an unknown version") (index $annotations "gateway.networking.k8s.io/channel" | default "unknown") }}
{{- end }}
{{- end }}
{{- end }}
