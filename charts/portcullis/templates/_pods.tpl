{{/*
What the Deployment of a data plane may be: fields are listed that it may have, so that none passes that nobody thought of, also not
one that Kubernetes gets later. dyn() where the fields of a map are gone through, which the API server's types do not allow.
docs/src/permissions.md has the reason for each field.
*/}}
{{- define "portcullis.admission.deployments" -}}
{{- $images := concat (list (include "portcullis.dataPlaneImage" .)) .Values.admissionPolicy.additionalImages | uniq }}
{{- $volumes := .Values.admissionPolicy.additionalVolumes }}
{{- $fields := .Values.admissionPolicy.additionalPodFields }}
{{- $service := printf "%s.%s.svc" (include "portcullis.name" .) .Release.Namespace }}
variables:
  - name: pod
    expression: object.spec.template.spec
  - name: metadata
    expression: object.spec.template.metadata
  - name: containers
    expression: object.spec.template.spec.containers
  - name: images
    expression: {{ toJson $images | quote }}
  {{- include "portcullis.admission.identity" . | nindent 2 }}
  - name: owner
    expression: object.metadata.?ownerReferences.orValue([]).map(owner, [owner.name, owner.uid])[0]
  - name: arguments
    expression: >-
      ["--gateway=" + request.namespace + "/" + variables.owner[0], "--gateway-uid=" + variables.owner[1],
      "--controller={{ $service }}:8443", "--identity={{ $service }}:8444",
      "--ca-file=/var/run/portcullis/ca/ca.crt", "--token-file=/var/run/portcullis/token/token",
      "--pod-name=$(POD_NAME)", "--telemetry-address=0.0.0.0:9090", "--access-log=-"]
  - name: contexts
    expression: >-
      [dyn(variables.pod).?securityContext.orValue({})] +
      variables.containers.map(c, dyn(c).?securityContext.orValue({}))
  - name: sysctls
    expression: >-
      ["kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
      "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
      "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
      "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies"]
validations:
  - message: a data plane's Deployment selects its own pods and nothing else
    expression: >-
      object.spec.selector.?matchLabels.orValue({}) == variables.selector && !has(object.spec.selector.matchExpressions)
  - message: a data plane's pods have its labels, and none by which others are found
    expression: >-
      ["app.kubernetes.io/instance", "gateway.networking.k8s.io/gateway-name", "gateway.networking.k8s.io/gateway-class-name"]
      .all(label, variables.metadata.?labels[?label].orValue("") == object.metadata.?labels[?label].orValue("-")) &&
      variables.metadata.?labels[?"app.kubernetes.io/managed-by"].orValue("") == "portcullis" &&
      variables.metadata.?labels[?"app.kubernetes.io/name"].orValue("") == "portcullis-data-plane" &&
      variables.metadata.?labels[?"app.kubernetes.io/component"].orValue("") == "data-plane" &&
      variables.metadata.?labels[?"app"].orValue("") == "gateway-controller" &&
      !("k8s-app" in variables.metadata.?labels.orValue({}))
  - message: a data plane's pod has only fields of which it is known what they do (admissionPolicy.additionalPodFields)
    expression: >-
      dyn(variables.pod).all(field, field in ["affinity", "automountServiceAccountToken", "containers", "dnsConfig", "dnsPolicy",
      "enableServiceLinks", "hostUsers", "imagePullSecrets", "nodeSelector", "os", "preemptionPolicy", "priorityClassName",
      "readinessGates", "restartPolicy", "schedulerName", "securityContext", "serviceAccount", "serviceAccountName",
      "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints", "volumes"
      {{- range $fields }}, {{ . | quote }}{{ end }}]) &&
      {{- if not (has "dnsConfig" $fields) }}
      dyn(variables.pod).?dnsConfig.orValue({}).all(field, field == "options") &&
      {{- end }}
      variables.pod.?os.?name.orValue("linux") == "linux"
  - message: a data plane has one container, which runs "portcullis data-plane" from an allowed image (admissionPolicy.additionalImages)
    expression: >-
      variables.containers.size() == 1 &&
      variables.containers.all(c, c.name == "data-plane" && c.image in variables.images &&
      dyn(c).all(field, field in ["args", "env", "image", "imagePullPolicy", "livenessProbe", "name", "readinessProbe", "resources",
      "securityContext", "terminationMessagePath", "terminationMessagePolicy", "volumeMounts"]))
  - message: a data plane is told its own Gateway and this controller, and where its files are
    expression: >-
      variables.containers.all(c, has(c.args) && c.args.size() > 0 && c.args[0] == "data-plane" &&
      variables.arguments.all(argument, argument in c.args) &&
      c.args.all(argument, argument == "data-plane" || argument in variables.arguments ||
      argument.matches("^--(shutdown-delay|drain-timeout|workers)=[0-9.]+$") || argument.matches("^--log-level=[a-z]+$")))
  - message: a data plane is probed at its own port, by the kubelet alone
    expression: >-
      variables.containers.map(c, dyn(c)).all(c, [c.?livenessProbe.orValue({}), c.?readinessProbe.orValue({})].all(probe,
      probe.size() == 0 || probe.?httpGet.?path.orValue("") in ["/healthz", "/readyz"] && probe.httpGet.port == 9090 &&
      probe.httpGet.all(field, field in ["path", "port", "scheme"])))
  - message: a data plane's pod has the restricted profile
    expression: >-
      variables.pod.?securityContext.?runAsNonRoot.orValue(false) &&
      variables.pod.?securityContext.?seccompProfile.?type.orValue("") in ["RuntimeDefault", "Localhost"] &&
      variables.pod.?securityContext.?sysctls.orValue([]).all(s, s.name in variables.sysctls) &&
      variables.containers.all(c,
      c.?securityContext.?allowPrivilegeEscalation.orValue(true) == false &&
      c.?securityContext.?privileged.orValue(false) == false &&
      c.?securityContext.?readOnlyRootFilesystem.orValue(false) &&
      c.?securityContext.?procMount.orValue("Default") == "Default" &&
      c.?securityContext.?capabilities.?drop.orValue([]).exists(d, d == "ALL") &&
      c.?securityContext.?capabilities.?add.orValue([]).size() == 0) &&
      variables.contexts.all(context,
      context.all(field, field in ["allowPrivilegeEscalation", "appArmorProfile", "capabilities", "fsGroup", "fsGroupChangePolicy",
      "privileged", "procMount", "readOnlyRootFilesystem", "runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxChangePolicy",
      "seLinuxOptions", "seccompProfile", "supplementalGroups", "supplementalGroupsPolicy", "sysctls"]) &&
      context.?runAsNonRoot.orValue(true) && context.?runAsUser.orValue(1) > 0 && context.?runAsGroup.orValue(1) > 0 &&
      context.?fsGroup.orValue(1) > 0 && context.?supplementalGroups.orValue([]).all(group, group > 0) &&
      context.?seccompProfile.?type.orValue("RuntimeDefault") in ["RuntimeDefault", "Localhost"] &&
      context.?appArmorProfile.?type.orValue("RuntimeDefault") in ["RuntimeDefault", "Localhost"] &&
      context.?seLinuxOptions.?user.orValue("") == "" && context.?seLinuxOptions.?role.orValue("") == "" &&
      context.?seLinuxOptions.?type.orValue("") in
      ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"]) &&
      !variables.metadata.?annotations.orValue({}).exists(name, name.startsWith("container.apparmor.security.beta.kubernetes.io/"))
  - message: a data plane's pod has the ServiceAccount of its Gateway, without access to the API server
    expression: >-
      variables.pod.?serviceAccountName.orValue("") == object.metadata.name &&
      variables.pod.?automountServiceAccountToken.orValue(true) == false
  - message: a data plane's pod has no priority of the system's, and keeps pods of other namespaces from no node
    expression: >-
      !variables.pod.?priorityClassName.orValue("").startsWith("system-") &&
      variables.pod.?affinity.?podAntiAffinity.?requiredDuringSchedulingIgnoredDuringExecution.orValue([])
      .all(term, !has(term.namespaces) && !has(term.namespaceSelector))
  - message: a data plane's volumes are empty folders, its Gateway's ConfigMap, and a token for the controller alone (admissionPolicy.additionalVolumes)
    expression: >-
      variables.pod.?volumes.orValue([]).all(v,
      v.name == "portcullis-ca" ? has(v.configMap) && v.configMap.name == object.metadata.name :
      v.name == "portcullis-token" ? has(v.projected) && v.projected.?sources.orValue([]).all(s,
      has(s.serviceAccountToken) && s.serviceAccountToken.?audience.orValue("") == "portcullis.dev/controller") :
      !v.name.startsWith("portcullis-") && (has(v.emptyDir)
      {{- range $volumes }} ||
      has(v.{{ . }})
      {{- if eq . "projected" }} && v.projected.?sources.orValue([]).all(s, dyn(s).all(kind,
      kind in ["clusterTrustBundle", "configMap", "downwardAPI"{{ if has "secret" $volumes }}, "secret"{{ end }}])){{ end }}
      {{- end }}))
  - message: a data plane's own files are where it looks for them, and nothing lies over them or over the program
    expression: >-
      variables.containers.all(c, c.?volumeMounts.orValue([]).all(m,
      m.name.startsWith("portcullis-") ?
      m.mountPath == {"portcullis-ca": "/var/run/portcullis/ca", "portcullis-token": "/var/run/portcullis/token"}[m.name] &&
      !has(m.subPath) && !has(m.subPathExpr) :
      m.mountPath.startsWith("/") && !m.mountPath.split("/").exists(part, part in [".", ".."]) &&
      [m.mountPath.split("/").filter(part, part != "").map(part, "/" + part).join() + "/"].all(path,
      !path.startsWith("/portcullis/") && !path.startsWith("/var/run/portcullis/") && !"/var/run/portcullis/".startsWith(path))))
  - message: a data plane's environment comes from its pod alone, not from Secrets or ConfigMaps (admissionPolicy.additionalVolumes), and holds none of its settings
    expression: >-
      variables.containers.all(c, c.?env.orValue([]).all(e, !e.name.startsWith("PORTCULLIS_") &&
      (e.name != "POD_NAME" || e.?valueFrom.?fieldRef.?fieldPath.orValue("") == "metadata.name") &&
      (!has(e.valueFrom) || has(e.valueFrom.fieldRef) || has(e.valueFrom.resourceFieldRef)
      {{- if has "secret" $volumes }} || has(e.valueFrom.secretKeyRef){{ end }}
      {{- if has "configMap" $volumes }} || has(e.valueFrom.configMapKeyRef){{ end }})))
{{- end }}

{{/* By what everything of a Gateway selects its pods: as its own labels say, which the policy `owned` holds against its owner. */}}
{{- define "portcullis.admission.identity" -}}
- name: selector
  expression: >-
    {"app.kubernetes.io/instance": object.metadata.?labels[?"app.kubernetes.io/instance"].orValue("-"),
    "gateway.networking.k8s.io/gateway-name": object.metadata.?labels[?"gateway.networking.k8s.io/gateway-name"].orValue("-")}
{{- end }}
