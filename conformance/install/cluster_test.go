package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portcullis.dev/conformance/support"
)

const (
	controllerNamespace = "portcullis-system"
	controllerAccount   = "system:serviceaccount:portcullis-system:portcullis-controller"
	echoImage           = "registry.k8s.io/gateway-api/conformance/echo-basic:v0.1.0"
	gatewayCRD          = "gateways.gateway.networking.k8s.io"
)

// root is the repository, where the commands of the documentation are given.
var root string

func TestMain(m *testing.M) {
	code, err := prepared(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func prepared(m *testing.M) (code int, err error) {
	for _, name := range []string{"KUBECONFIG", "PORTCULLIS_CLUSTER", "PORTCULLIS_PROGRAM"} {
		if os.Getenv(name) == "" {
			return 0, fmt.Errorf("%s is not set: see doc.go", name)
		}
	}
	if root, err = filepath.Abs("../.."); err != nil {
		return 0, err
	}
	tools, err := os.MkdirTemp("", "portcullis-install-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tools)
	if err := os.Symlink(os.Getenv("PORTCULLIS_PROGRAM"), filepath.Join(tools, "portcullis")); err != nil {
		return 0, err
	}
	helm := fmt.Sprintf("#!/bin/sh\nexec %q helm \"$@\"\n", os.Getenv("PORTCULLIS_CLUSTER"))
	if err := os.WriteFile(filepath.Join(tools, "helm"), []byte(helm), 0o755); err != nil {
		return 0, err
	}
	if err := os.Setenv("PATH", tools+":"+os.Getenv("PATH")); err != nil {
		return 0, err
	}
	if err := bare(); err != nil {
		return 0, err
	}
	channel, version := definitions()
	code = m.Run()
	restore := exec.Command(os.Getenv("PORTCULLIS_CLUSTER"), "crds", channel, "--crds-version", version)
	if output, err := restore.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("giving the cluster its CRDs back: %w: %s", err, output)
	}
	return code, bare()
}

// bare says what of Portcullis the cluster has.
func bare() error {
	there := do("kubectl", "get", "--ignore-not-found", "--output=name", "namespace/"+controllerNamespace, "clusterrole/portcullis-controller",
		"customresourcedefinition/gatewayparameters.portcullis.dev")
	if there.code != 0 {
		return fmt.Errorf("is the cluster there? %s", there)
	}
	policies := do("sh", "-c", "kubectl get validatingadmissionpolicies --output=name | grep portcullis")
	if rest := there.out + policies.out; rest != "" {
		return fmt.Errorf("the cluster is not without Portcullis:\n%s", rest)
	}
	return nil
}

// definitions gives channel and version of the Gateway API as the test cluster's command names them.
func definitions() (channel, version string) {
	says := do("kubectl", "get", "customresourcedefinition", gatewayCRD, "--output",
		`jsonpath={.metadata.annotations.gateway\.networking\.k8s\.io/channel} {.metadata.annotations.gateway\.networking\.k8s\.io/bundle-version}`)
	fields := strings.Fields(says.out)
	if says.code != 0 || len(fields) != 2 {
		return "none", "v1.7.0"
	}
	return fields[0], fields[1]
}

// result is what a command did.
type result struct {
	command  string
	out, err string
	code     int
}

func (r result) String() string {
	return fmt.Sprintf("%s\nended with %d\n%s%s", r.command, r.code, r.out, r.err)
}

// do runs a command in the repository.
func do(name string, arguments ...string) result { return doWith("", name, arguments...) }

func doWith(input, name string, arguments ...string) result {
	command := exec.Command(name, arguments...)
	command.Dir = root
	command.Stdin = strings.NewReader(input)
	var out, err bytes.Buffer
	command.Stdout, command.Stderr = &out, &err
	failure := command.Run()
	done := result{command: strings.Join(command.Args, " "), out: out.String(), err: err.String()}
	if exit := new(exec.ExitError); errors.As(failure, &exit) {
		done.code = exit.ExitCode()
	} else if failure != nil {
		done.code, done.err = -1, failure.Error()
	}
	return done
}

// must runs a command that has to succeed, and gives what it printed.
func must(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	return mustWith(t, "", name, arguments...)
}

func mustWith(t *testing.T, input, name string, arguments ...string) string {
	t.Helper()
	done := doWith(input, name, arguments...)
	if done.code != 0 {
		t.Fatal(done)
	}
	return done.out
}

// ends runs a command that has to end with that code and to print these texts, whatever the blanks between words.
func ends(t *testing.T, code int, texts []string, name string, arguments ...string) result {
	t.Helper()
	done := do(name, arguments...)
	if problem := done.lacks(code, texts); problem != nil {
		t.Error(problem)
	}
	return done
}

func (r result) lacks(code int, texts []string) error {
	if r.code != code {
		return fmt.Errorf("should end with %d: %s", code, r)
	}
	for _, text := range texts {
		if !strings.Contains(squeezed(r.out+"\n"+r.err), squeezed(text)) {
			return fmt.Errorf("should print %q: %s", text, r)
		}
	}
	return nil
}

// comes waits until a command ends with that code and prints these texts.
func comes(t *testing.T, code int, texts []string, name string, arguments ...string) {
	t.Helper()
	support.Eventually(t, 60*time.Second, strings.Join(append([]string{name}, arguments...), " "), func() error {
		return do(name, arguments...).lacks(code, texts)
	})
}

func squeezed(text string) string { return strings.Join(strings.Fields(text), " ") }

// apply puts documents into a namespace.
func apply(t *testing.T, namespace, documents string) {
	t.Helper()
	mustWith(t, documents, "kubectl", "apply", "--namespace", namespace, "--filename", "-")
}

// crds gives the cluster these definitions of the Gateway API, in the place of those that it has.
func crds(t *testing.T, channel, version string) {
	t.Helper()
	must(t, os.Getenv("PORTCULLIS_CLUSTER"), "crds", channel, "--crds-version", version)
}

// object reads an object.
func object(t *testing.T, arguments ...string) map[string]any {
	t.Helper()
	read := map[string]any{}
	text := must(t, "kubectl", append([]string{"get", "--output=json"}, arguments...)...)
	if err := json.Unmarshal([]byte(text), &read); err != nil {
		t.Fatal(err)
	}
	return read
}

// uid tells an object from one that was made anew.
func uid(t *testing.T, arguments ...string) string {
	t.Helper()
	return must(t, "kubectl", append([]string{"get", "--output=jsonpath={.metadata.uid}"}, arguments...)...)
}

// leaveBare removes at the test's end whatever it left of Portcullis, and the Gateway API.
func leaveBare(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(do("kubectl", "get", "pods,gateways,httproutes", "--all-namespaces"))
			t.Log(do("kubectl", "logs", "--namespace", controllerNamespace, "deployment/portcullis-controller", "--tail=60", "--pod-running-timeout=1s"))
		}
		// Their data planes go with Gateways, without anyone's help.
		do("kubectl", "delete", "gateways", "--all", "--all-namespaces")
		for _, release := range []string{"portcullis", "portcullis-crds"} {
			do("helm", "uninstall", release, "--namespace", controllerNamespace)
		}
		do("kubectl", "delete", "--ignore-not-found", "--filename", "deploy/install.yaml", "--grace-period=1")
		if err := bare(); err != nil {
			t.Error(err)
		}
		crds(t, "none", "v1.7.0")
	})
}

// namespace makes a namespace with the Service `backend`; it goes with the test.
func namespace(t *testing.T, name string) string {
	t.Helper()
	name = "install-" + name
	must(t, "kubectl", "create", "namespace", name)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(do("kubectl", "get", "gateways,httproutes,deployments,pods,events", "--output=wide", "--namespace", name))
			t.Log(do("kubectl", "describe", "gateways", "--namespace", name))
		}
		must(t, "kubectl", "delete", "namespace", name, "--timeout=120s")
	})
	apply(t, name, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend}
spec:
  replicas: 1
  selector: {matchLabels: {app: backend}}
  template:
    metadata: {labels: {app: backend}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: echo
        image: %s
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        readinessProbe: {periodSeconds: 1, httpGet: {path: /health, port: 3000}}
---
apiVersion: v1
kind: Service
metadata: {name: backend}
spec:
  selector: {app: backend}
  ports: [{port: 8080, targetPort: 3000}]
`, echoImage))
	return name
}

// edge is a Gateway with an HTTP listener, more listeners if there are any, and a route for every host.
func edge(listeners ...string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: portcullis
  listeners:
  - {name: http, protocol: HTTP, port: 80}
%s
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: site}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: backend, port: 8080}]}]
`, strings.Join(listeners, "\n"))
}

// address waits until the Gateway `edge` has one, and serves.
func address(t *testing.T, namespace string) string {
	t.Helper()
	must(t, "kubectl", "wait", "--namespace", namespace, "--for=condition=Programmed", "gateway/edge", "--timeout=90s")
	address := must(t, "kubectl", "get", "--namespace", namespace, "gateway", "edge", "--output=jsonpath={.status.addresses[0].value}")
	support.Answers(t, address, "site.example", 200)
	return address
}

// helmInstalls installs both charts as the documentation says, with these settings of the second.
func helmInstalls(t *testing.T, settings ...string) {
	t.Helper()
	must(t, "kubectl", "apply", "--filename", "deploy/namespace.yaml")
	must(t, "helm", "install", "portcullis-crds", "charts/portcullis-crds", "--namespace", controllerNamespace)
	must(t, "helm", append([]string{"install", "portcullis", "charts/portcullis", "--namespace", controllerNamespace, "--wait"}, settings...)...)
}

// helmUpgrades changes the settings, and waits until the controller has them.
func helmUpgrades(t *testing.T, settings ...string) {
	t.Helper()
	must(t, "helm", append([]string{"upgrade", "portcullis", "charts/portcullis", "--namespace", controllerNamespace, "--wait", "--reset-values"}, settings...)...)
}
