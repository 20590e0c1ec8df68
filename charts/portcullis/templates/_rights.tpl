{{/*
What the controller may do, by where it holds. A test holds these lists against what its parts say that they need
(RIGHTS in crates/cluster and crates/controller): not one verb more or less.
*/}}

{{/* Resources without a namespace: a ClusterRole in every mode. */}}
{{- define "portcullis.rights.cluster" -}}
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [gatewayclasses]
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [gatewayclasses/status]
  verbs: [update]
- apiGroups: [""]
  resources: [namespaces, nodes]
  verbs: [list, watch]
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
{{- end }}

{{/* Where Gateways and routes are. */}}
{{- define "portcullis.rights.namespaces" -}}
- apiGroups: [gateway.networking.k8s.io]
  resources:
    - gateways
    - listenersets
    - httproutes
    - grpcroutes
    - tlsroutes
    - tcproutes
    - udproutes
    - backendtlspolicies
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources:
    - gateways/status
    - listenersets/status
    - httproutes/status
    - grpcroutes/status
    - tlsroutes/status
    - tcproutes/status
    - udproutes/status
    - backendtlspolicies/status
  verbs: [update]
- apiGroups: [gateway.networking.k8s.io]
  resources: [referencegrants]
  verbs: [list, watch]
- apiGroups: [gateway.networking.x-k8s.io]
  resources: [xlistenersets, xbackends, xbackendtrafficpolicies, xtelemetrypolicies]
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.x-k8s.io]
  resources: [xlistenersets/status, xbackends/status, xbackendtrafficpolicies/status, xtelemetrypolicies/status]
  verbs: [update]
- apiGroups: [portcullis.dev]
  resources: [gatewayparameters]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
# What a data plane consists of. The admission policy confines what may be written.
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, create, patch, delete]
# Whose certificate a data plane asks for, and how its pods are.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get]
# What was found about objects, told on them.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/*
Where only some namespaces are watched: what the addresses of the API server and of the controller take, to which no route may lead. The
first in the namespace default, the second in the controller's own.
*/}}
{{- define "portcullis.rights.apiServer" -}}
- apiGroups: [""]
  resources: [services]
  resourceNames: [kubernetes]
  verbs: [get]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  resourceNames: [kubernetes]
  verbs: [get]
{{- end }}

{{- define "portcullis.rights.ownService" -}}
- apiGroups: [""]
  resources: [services]
  resourceNames: [portcullis-controller]
  verbs: [get]
# Kubernetes gives them names of its own.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list]
{{- end }}

{{/* Where Secrets may be read. */}}
{{- define "portcullis.rights.secrets" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
{{- end }}

{{/* In the controller's own namespace. */}}
{{- define "portcullis.rights.own" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [portcullis-controller]
  verbs: [get, update]
# Kubernetes cannot confine create to a name.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [portcullis-ca]
  verbs: [get, update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- end }}
