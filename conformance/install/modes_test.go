package install

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"portcullis.dev/conformance/support"
)

// With fewer permissions: traffic where they reach, and elsewhere a status that says what is missing and how to give it.
func TestModes(t *testing.T) {
	leaveBare(t)
	crds(t, "none", "v1.7.0")
	inside, outside := namespace(t, "inside"), namespace(t, "outside")
	for _, ns := range []string{inside, outside} {
		apply(t, ns, support.Secret(t, "certificate", "tls.example"))
	}
	const listener = "  - {name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: certificate}]}}"

	t.Log("Roles in the watched namespaces")
	helmInstalls(t, "--set", "watchNamespaces={"+inside+"}")
	may(t, inside, "list secrets", "watch secrets", "create deployments", "update gateways/status", "list endpointslices")
	mayNot(t, outside, "list secrets", "get secrets", "create deployments", "list gateways", "update gateways/status", "list endpointslices")
	mayNot(t, controllerNamespace, "list secrets", "watch secrets", "create deployments")
	mayNot(t, "", "list secrets", "watch secrets", "get secrets", "create deployments", "list gateways")
	apply(t, outside, edge(listener))
	apply(t, inside, edge(listener))
	at := address(t, inside)
	handshakes(t, at)
	pending := must(t, "kubectl", "get", "gateway", "edge", "--namespace", outside, "--output", `jsonpath={.status.conditions[?(@.type=="Programmed")].status}`)
	if pending == "True" || do("kubectl", "get", "deployment", "edge-portcullis", "--namespace", outside).code == 0 {
		t.Error("a Gateway of a namespace that is not watched is served")
	}

	t.Log("Secrets of listed namespaces")
	helmUpgrades(t, "--set", "secretAccess.mode=listed", "--set", "secretAccess.namespaces={"+inside+"}")
	may(t, inside, "list secrets", "create deployments")
	may(t, outside, "create deployments", "list gateways")
	mayNot(t, outside, "get secrets", "list secrets", "watch secrets")
	mayNot(t, "", "get secrets", "list secrets", "watch secrets")
	mayNot(t, controllerNamespace, "list secrets", "watch secrets")
	handshakes(t, at)
	other := address(t, outside)
	refused(t, outside, other, "secretAccess.namespaces")

	t.Log("Secrets of labelled namespaces")
	helmUpgrades(t, "--set", "secretAccess.mode=labelled")
	mayNot(t, inside, "get secrets", "list secrets")
	mayNot(t, "", "get secrets", "list secrets", "watch secrets")
	refused(t, outside, other, "portcullis.dev/secrets=allowed")
	refused(t, inside, at, "portcullis.dev/secrets=allowed")
	// As printed by the chart.
	notes := must(t, "helm", "get", "notes", "portcullis", "--namespace", controllerNamespace)
	_, commands, _ := strings.Cut(notes, "is each namespace with certificates):")
	must(t, "sh", "-c", strings.ReplaceAll(commands, "NAMESPACE", outside))
	may(t, outside, "list secrets", "watch secrets")
	mayNot(t, inside, "get secrets", "list secrets")
	handshakes(t, other)
	refused(t, inside, at, "portcullis.dev/secrets=allowed")
	must(t, "kubectl", "label", "namespace", outside, "portcullis.dev/secrets-")
	refused(t, outside, other, "portcullis.dev/secrets=allowed")
	// Cleartext listeners were served all the while.
	for _, address := range []string{at, other} {
		support.Answers(t, address, "site.example", 200)
	}
}

// may asks the API server what the controller's ServiceAccount may do in a namespace; without one, in all.
func may(t *testing.T, namespace string, rights ...string) {
	t.Helper()
	can(t, "yes", namespace, rights)
}

func mayNot(t *testing.T, namespace string, rights ...string) {
	t.Helper()
	can(t, "no", namespace, rights)
}

func can(t *testing.T, expected, namespace string, rights []string) {
	t.Helper()
	where := []string{"--namespace", namespace}
	if namespace == "" {
		where = []string{"--all-namespaces"}
	}
	for _, right := range rights {
		verb, resource, _ := strings.Cut(right, " ")
		resource, subresource, _ := strings.Cut(resource, "/")
		arguments := append([]string{"auth", "can-i", verb, resource, "--subresource", subresource, "--as", controllerAccount, "--quiet=false"}, where...)
		if said := squeezed(do("kubectl", arguments...).out); said != expected {
			t.Errorf("may the controller %s %v? %q, and it should be %q", right, where, said, expected)
		}
	}
}

func handshakes(t *testing.T, address string) {
	t.Helper()
	support.Eventually(t, 30*time.Second, "TLS is served", func() error { return support.Handshake(address, "tls.example") })
}

// refused waits until the listener has no certificate, says why and how to allow it, and serves no TLS.
func refused(t *testing.T, namespace, address, remedy string) {
	t.Helper()
	support.Eventually(t, 30*time.Second, "the Secret in "+namespace+" is refused", func() error {
		said := do("kubectl", "get", "gateway", "edge", "--namespace", namespace, "--output",
			`jsonpath={.status.listeners[?(@.name=="https")].conditions[?(@.type=="ResolvedRefs")]}`)
		for _, text := range []string{`"status":"False"`, `"reason":"InvalidCertificateRef"`, namespace + "/certificate", remedy} {
			if !strings.Contains(said.out, text) {
				return fmt.Errorf("%q is not in %s", text, said)
			}
		}
		if support.Handshake(address, "tls.example") == nil {
			return fmt.Errorf("TLS is still served")
		}
		return nil
	})
}
