package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portcullis.dev/conformance/support"
)

// `portcullis install`, `status` and `uninstall`, in each state that a cluster may be in.
func TestProgram(t *testing.T) {
	leaveBare(t)
	crds(t, "none", "v1.7.0")

	t.Log("nothing is there")
	ends(t, 1, []string{
		"Gateway API Missing The cluster has no definitions of the Gateway API; portcullis install brings them",
		"Deployment/portcullis-controller Missing No controller was found; portcullis install brings it",
		"GatewayClass Missing No GatewayClass has controllerName portcullis.dev/gateway-controller",
	}, "portcullis", "status")
	if done := ends(t, 0, nil, "portcullis", "uninstall"); done.out+done.err != "" {
		t.Errorf("nothing is there, and uninstall says:\n%s", done)
	}

	t.Log("installed")
	ends(t, 0, []string{"Gateway API: not found", "Gateway API: installing v1.7.0, channel standard", "GatewayClass portcullis created", "Installed, and ready."},
		"portcullis", "install", "--wait")
	again := ends(t, 0, []string{"Gateway API: found v1.7.0, channel standard, 10 definitions", "Gateway API: left as it is", "Installed, and ready."}, "portcullis", "install", "--wait")
	if strings.Contains(again.out, "created") || strings.Contains(again.out, " changed") {
		t.Errorf("the second installation is not the first: %s", again)
	}
	installed := []string{"Gateway API OK v1.7.0, channel standard", "Deployment/portcullis-controller OK 1 of 1 pod ready", "GatewayClass/portcullis OK"}
	ends(t, 0, installed, "portcullis", "status")

	t.Log("healthy")
	ns := namespace(t, "program")
	apply(t, ns, edge())
	at := address(t, ns)
	healthy := append(installed, "Gateway/edge OK "+at, "listener http OK 1 attached route", "data plane OK 1 of 1 pod ready, generation 1", "HTTPRoute/site parent "+ns+"/edge OK")
	comes(t, 0, healthy, "portcullis", "status")

	t.Log("a listener that cannot be, and one without its Secret")
	apply(t, ns, edge("  - {name: tcp, protocol: TCP, port: 81}",
		"  - {name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: absent}]}}"))
	comes(t, 1, []string{
		"listener http OK 1 attached route",
		"listener tcp Accepted=False/UnsupportedProtocol",
		"listener https ResolvedRefs=False/InvalidCertificateRef",
		"absent",
		"data plane OK",
	}, "portcullis", "status")
	apply(t, ns, edge())
	comes(t, 0, []string{"Gateway/edge OK"}, "portcullis", "status")

	t.Log("other options")
	load := support.StartLoad(at, "site.example")
	ends(t, 0, []string{"Deployment portcullis-system/portcullis-controller changed", "Installed, and ready."}, "portcullis", "install", "--replicas", "2", "--wait")
	ends(t, 0, []string{"Deployment/portcullis-controller OK 2 of 2 pods ready"}, "portcullis", "status")
	ends(t, 1, []string{"portcullis: not ready after 5 s: Deployment portcullis-system/portcullis-controller:", "1 to be replaced: pod portcullis-controller-", "localhost/portcullis:absent"},
		"portcullis", "install", "--image", "localhost/portcullis:absent", "--wait", "--timeout", "5")
	ends(t, 1, []string{"Deployment/portcullis-controller Progressing 1 of 1 pods are available, 1 up to date, 1 to be replaced: pod portcullis-controller-", "localhost/portcullis:absent"}, "portcullis", "status")
	ends(t, 0, []string{"Installed, and ready."}, "portcullis", "install", "--wait")

	t.Log("the controller is down")
	must(t, "kubectl", "scale", "--namespace", controllerNamespace, "deployment/portcullis-controller", "--replicas=0")
	comes(t, 1, []string{"Deployment/portcullis-controller Unavailable the controller is scaled to 0 pods", "Gateway/edge OK " + at, "data plane OK 1 of 1 pod ready"}, "portcullis", "status")
	apply(t, ns, edge("  - {name: other, protocol: HTTP, port: 8080}"))
	ends(t, 1, []string{"Gateway/edge Outdated The status is about generation"}, "portcullis", "status")

	t.Log("uninstalled, with a Gateway")
	would := ends(t, 0, []string{"Deployment portcullis-system/portcullis-controller would be deleted"}, "portcullis", "uninstall", "--dry-run")
	if strings.Contains(would.out, "CustomResourceDefinition") {
		t.Errorf("definitions stay: %s", would)
	}
	ends(t, 0, []string{
		"these Gateways are still there, and so are their data planes", ns + "/edge",
		"Deployment portcullis-system/portcullis-controller deleted", "GatewayClass portcullis deleted", "Secret portcullis-system/portcullis-ca deleted",
		"Namespace portcullis-system deleted",
	}, "portcullis", "uninstall")
	ends(t, 0, nil, "portcullis", "uninstall")
	must(t, "kubectl", "wait", "--for=delete", "namespace/"+controllerNamespace, "--timeout=60s")
	if done := ends(t, 0, nil, "portcullis", "uninstall"); done.out+done.err != "" {
		t.Errorf("nothing is left, and uninstall says:\n%s", done)
	}
	must(t, "kubectl", "get", "customresourcedefinition", gatewayCRD, "gatewayparameters.portcullis.dev")
	ends(t, 1, []string{"No controller was found"}, "portcullis", "status")
	load.MustHaveServed(t)

	t.Log("installed again, with another authority")
	ends(t, 0, []string{"Installed, and ready."}, "portcullis", "install", "--wait")
	comes(t, 0, []string{"Gateway/edge OK " + at, "listener other OK 1 attached route", "data plane OK 1 of 1 pod ready"}, "portcullis", "status")
	support.Answers(t, at+":8080", "site.example", 200)
	must(t, "kubectl", "delete", "gateway", "edge", "--namespace", ns)

	t.Log("uninstalled with all")
	apply(t, ns, "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: other}\nspec: {controllerName: example.com/other}")
	ends(t, 4, []string{"the GatewayClass other is of another controller, example.com/other"}, "portcullis", "uninstall", "--crds", "--gateway-api-crds")
	ends(t, 0, installed, "portcullis", "status")
	must(t, "kubectl", "delete", "gatewayclass", "other")
	ends(t, 0, []string{"CustomResourceDefinition " + gatewayCRD + " deleted"}, "portcullis", "uninstall", "--crds", "--gateway-api-crds")
	if rest := gatewayAPI(t); rest != "" {
		t.Errorf("definitions are left:\n%s", rest)
	}
}

// What cannot be done is said, with the exit code of the table.
func TestClustersThatCannotBeReached(t *testing.T) {
	folder := t.TempDir()
	own, err := os.ReadFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	server := "https://172.30.0.2:6443"
	if !strings.Contains(string(own), server) {
		t.Fatal("the test cluster has another address")
	}
	for _, wrong := range []struct {
		name, file string
		says       []string
	}{
		{"absent", filepath.Join(folder, "absent"), []string{"portcullis: ", filepath.Join(folder, "absent")}},
		{"not YAML", file("broken", "a: ["), []string{"portcullis: ", filepath.Join(folder, "broken")}},
		{"empty", file("empty", ""), []string{"portcullis: ", filepath.Join(folder, "empty")}},
		{"refused", file("refused", strings.ReplaceAll(string(own), server, "https://172.30.0.2:1")), []string{"portcullis: ", "https://172.30.0.2:1", "refused"}},
		{"another authority", file("authority", withoutAuthority(string(own))), []string{"portcullis: ", server, "certificate"}},
	} {
		t.Run(wrong.name, func(t *testing.T) {
			for _, command := range []struct {
				arguments []string
				code      int
			}{{[]string{"status"}, 3}, {[]string{"install"}, 4}, {[]string{"uninstall"}, 4}} {
				done := ends(t, command.code, wrong.says, "portcullis", append(command.arguments, "--kubeconfig", wrong.file)...)
				if strings.Count(done.err, "\n") != 1 || done.out != "" {
					t.Errorf("it should say one line: %s", done)
				}
			}
		})
	}
	ends(t, 3, []string{"portcullis: ", "elsewhere"}, "portcullis", "status", "--context", "elsewhere")
	ends(t, 2, []string{"--namespace \"Not_a_name\" is no name of a namespace"}, "portcullis", "install", "--namespace", "Not_a_name")
	ends(t, 2, []string{"invalid value '21' for '--replicas"}, "portcullis", "install", "--replicas", "21")
}

// withoutAuthority is a kubeconfig that trusts what the machine trusts.
func withoutAuthority(kubeconfig string) string {
	before, after, _ := strings.Cut(kubeconfig, ", certificate-authority-data: ")
	_, after, _ = strings.Cut(after, "}")
	return before + "}" + after
}

// Who may nothing is told what is missing, and nothing is done.
func TestWithoutRights(t *testing.T) {
	leaveBare(t)
	crds(t, "standard", "v1.7.0")
	ns := "install-rights"
	must(t, "kubectl", "create", "namespace", ns)
	t.Cleanup(func() { must(t, "kubectl", "delete", "namespace", ns) })
	must(t, "kubectl", "create", "serviceaccount", "nobody", "--namespace", ns)
	token := strings.TrimSpace(must(t, "kubectl", "create", "token", "nobody", "--namespace", ns))
	own, err := os.ReadFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, own, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "kubectl", "config", "--kubeconfig", config, "set-credentials", "nobody", "--token", token)
	must(t, "kubectl", "config", "--kubeconfig", config, "set-context", "--current", "--user", "nobody")

	who := `User "system:serviceaccount:` + ns + `:nobody" cannot`
	ends(t, 4, []string{"portcullis: cannot list customresourcedefinitions:", who}, "portcullis", "install", "--kubeconfig", config)
	ends(t, 4, []string{"portcullis: cannot list gatewayclasses:", who}, "portcullis", "uninstall", "--kubeconfig", config)
	ends(t, 3, []string{"portcullis: ", "gateways", who}, "portcullis", "status", "--kubeconfig", config)
	if err := bare(); err != nil {
		t.Error(err)
	}
}
