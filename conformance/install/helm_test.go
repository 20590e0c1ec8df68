package install

import (
	"strings"
	"testing"
	"time"

	"portcullis.dev/conformance/support"
)

// With Helm: install, upgrade and rollback under load, uninstall with a Gateway that stays, and install again.
func TestHelm(t *testing.T) {
	leaveBare(t)
	crds(t, "none", "v1.7.0")
	helmInstalls(t)
	ns := namespace(t, "helm")
	apply(t, ns, edge())
	at := address(t, ns)
	load := support.StartLoad(at, "site.example")

	// Controller and data planes roll.
	before := pods(t, ns)
	controller := pods(t, controllerNamespace)
	must(t, "helm", "upgrade", "portcullis-crds", "charts/portcullis-crds", "--namespace", controllerNamespace)
	helmUpgrades(t, "--set", "log.level=debug", "--set", "replicas=2", "--set", "dataPlane.parameters.replicas=2", "--set", "dataPlane.parameters.podAnnotations.rolled=yes")
	rolled(t, ns, before, 2)
	rolled(t, controllerNamespace, controller, 2)

	// And back.
	before = pods(t, ns)
	must(t, "helm", "rollback", "portcullis", "1", "--namespace", controllerNamespace, "--wait")
	rolled(t, ns, before, 1)
	time.Sleep(time.Second)
	load.MustHaveServed(t)

	// Without a controller, the Gateway's data plane serves what it had. The definitions stay, and what the controller made.
	load = support.StartLoad(at, "site.example")
	gateway, deployment := uid(t, "gateway", "edge", "--namespace", ns), uid(t, "deployment", "edge-portcullis", "--namespace", ns)
	authority := uid(t, "secret", "portcullis-ca", "--namespace", controllerNamespace)
	must(t, "helm", "uninstall", "portcullis", "--namespace", controllerNamespace, "--wait")
	must(t, "helm", "uninstall", "portcullis-crds", "--namespace", controllerNamespace, "--wait")
	must(t, "kubectl", "wait", "--for=delete", "pods", "--all", "--namespace", controllerNamespace, "--timeout=60s")
	rest := must(t, "kubectl", "get", "--output=name", "--namespace", controllerNamespace, "all,secrets,leases,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets")
	if got, want := squeezed(rest), "secret/portcullis-ca lease.coordination.k8s.io/portcullis-controller configmap/kube-root-ca.crt serviceaccount/default"; got != want {
		t.Errorf("helm uninstall leaves %s in the namespace, and should leave %s", got, want)
	}
	cluster := must(t, "sh", "-c", "kubectl get clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,gatewayclasses --output=name | grep portcullis || true")
	if cluster != "" {
		t.Errorf("helm uninstall leaves in the cluster: %s", cluster)
	}
	must(t, "kubectl", "get", "customresourcedefinition", gatewayCRD, "gatewayparameters.portcullis.dev")
	ends(t, 1, []string{"No controller was found"}, "portcullis", "status")

	// The next installation takes over what it finds.
	helmInstalls(t)
	apply(t, ns, strings.Replace(edge(), "rules: [{", "hostnames: [site.example, new.example]\n  rules: [{", 1))
	support.Answers(t, at, "new.example", 200)
	load.MustHaveServed(t)
	for _, same := range []struct{ what, before, now string }{
		{"the Gateway", gateway, uid(t, "gateway", "edge", "--namespace", ns)},
		{"its Deployment", deployment, uid(t, "deployment", "edge-portcullis", "--namespace", ns)},
		{"the authority", authority, uid(t, "secret", "portcullis-ca", "--namespace", controllerNamespace)},
	} {
		if same.before != same.now {
			t.Errorf("%s was made anew", same.what)
		}
	}
	comes(t, 0, []string{"Gateway/edge OK " + at, "data plane OK 1 of 1 pod ready"}, "portcullis", "status")

	// What Helm made is not portcullis install's.
	ends(t, 4, []string{"was installed with Helm (release portcullis): use helm upgrade, or helm uninstall first"}, "portcullis", "install")
	ends(t, 4, []string{"was installed with Helm: use helm uninstall portcullis"}, "portcullis", "uninstall")

	// From Helm to the program: what Helm left behind is nobody's.
	must(t, "helm", "uninstall", "portcullis", "--namespace", controllerNamespace, "--wait")
	must(t, "helm", "uninstall", "portcullis-crds", "--namespace", controllerNamespace, "--wait")
	ends(t, 0, []string{"Installed, and ready."}, "portcullis", "install", "--wait")
	ends(t, 0, []string{"CustomResourceDefinition gatewayparameters.portcullis.dev deleted"}, "portcullis", "uninstall", "--crds")
}

// pods lists the pods of ours in a namespace that are not on their way out.
func pods(t *testing.T, namespace string) []string {
	t.Helper()
	return strings.Fields(must(t, "kubectl", "get", "pods", "--namespace", namespace, "--selector", "app.kubernetes.io/name in (portcullis,portcullis-data-plane)",
		"--output", `go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}`))
}

// rolled waits until none of the former pods is there, and as many new ones are ready.
func rolled(t *testing.T, namespace string, former []string, count int) {
	t.Helper()
	if len(former) == 0 {
		t.Fatal("there were no pods in " + namespace)
	}
	support.Eventually(t, 90*time.Second, "the pods in "+namespace+" are new", func() error {
		now := do("kubectl", "get", "pods", "--namespace", namespace, "--selector", "app.kubernetes.io/name in (portcullis,portcullis-data-plane)",
			"--output", `go-template={{range .items}}{{.metadata.name}}{{range .status.conditions}}{{if eq .type "Ready"}} {{.status}}{{end}}{{end}}{{"\n"}}{{end}}`)
		lines := strings.Split(strings.TrimSpace(now.out), "\n")
		if len(lines) != count || strings.Count(now.out, " True") != count {
			return now.lacks(-1, nil)
		}
		for _, name := range former {
			if strings.Contains(now.out, name) {
				return now.lacks(-1, nil)
			}
		}
		return nil
	})
}
