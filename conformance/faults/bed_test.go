package faults

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

const (
	class               = "portcullis"
	controllerNamespace = "portcullis-system"
	controllerName      = "portcullis-controller"
	upToDate            = "portcullis.dev/DataPlanesUpToDate"
	echoImage           = "registry.k8s.io/gateway-api/conformance/echo-basic:v0.1.0"
)

// truthLimit is how soon after a fault, or its end, status has to say what is.
const truthLimit = 20 * time.Second

var resources = map[string]schema.GroupVersionResource{
	"Namespace":                {Version: "v1", Resource: "namespaces"},
	"Secret":                   {Version: "v1", Resource: "secrets"},
	"Service":                  {Version: "v1", Resource: "services"},
	"Pod":                      {Version: "v1", Resource: "pods"},
	"Node":                     {Version: "v1", Resource: "nodes"},
	"Lease":                    {Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},
	"EndpointSlice":            {Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"},
	"Deployment":               {Group: "apps", Version: "v1", Resource: "deployments"},
	"GatewayClass":             {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gatewayclasses"},
	"Gateway":                  {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gateways"},
	"HTTPRoute":                {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"},
	"GatewayParameters":        {Group: "portcullis.dev", Version: "v1alpha1", Resource: "gatewayparameters"},
	"CustomResourceDefinition": {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
}

var client dynamic.Interface

func TestMain(m *testing.M) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "KUBECONFIG:", err)
		os.Exit(1)
	}
	config.QPS = -1
	if client, err = dynamic.NewForConfig(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := bedsAreGone(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// bed is a namespace with backends; it goes with the test, which does not wait for it.
type bed struct {
	t         *testing.T
	namespace string
}

const bedPrefix = "faults-"

// bedsAreGone waits until nothing is left of any bed.
func bedsAreGone() (err error) {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var list *unstructured.UnstructuredList
		if list, err = client.Resource(resources["Namespace"]).List(context.Background(), metav1.ListOptions{}); err != nil {
			continue
		}
		for _, namespace := range list.Items {
			if strings.HasPrefix(namespace.GetName(), bedPrefix) {
				err = fmt.Errorf("namespace %s is still there", namespace.GetName())
			}
		}
		if err == nil {
			return nil
		}
	}
	return err
}

func newBed(t *testing.T, name string) *bed {
	t.Helper()
	b := &bed{t: t, namespace: bedPrefix + name}
	eventually(t, 2*time.Minute, "an earlier bed of the same name is gone", func() error {
		namespace, err := b.of("Namespace").Get(context.Background(), b.namespace, metav1.GetOptions{})
		if err == nil && namespace.GetDeletionTimestamp() != nil {
			return fmt.Errorf("namespace %s is being deleted", b.namespace)
		}
		return nil
	})
	b.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + b.namespace + "}")
	t.Cleanup(func() {
		if t.Failed() {
			b.tell(b.namespace)
			b.tell(controllerNamespace)
		}
		_ = client.Resource(resources["Namespace"]).Delete(context.Background(), b.namespace, metav1.DeleteOptions{})
	})
	b.apply(fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend}
spec:
  replicas: 2
  selector: {matchLabels: {app: backend}}
  template:
    metadata: {labels: {app: backend}}
    spec:
      containers:
      - name: echo
        image: %s
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        readinessProbe: {periodSeconds: 1, httpGet: {path: /health, port: 3000}}
        resources: {requests: {cpu: 5m, memory: 16Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: backend}
spec:
  selector: {app: backend}
  ports: [{port: 8080, targetPort: 3000}]
`, echoImage))
	return b
}

// tell logs how the pods of a namespace are, and what those of Portcullis said last.
func (b *bed) tell(namespace string) {
	do := func(arguments ...string) {
		output, _ := exec.Command(os.Getenv("PORTCULLIS_CLUSTER"), append([]string{"kubectl", "--namespace", namespace}, arguments...)...).CombinedOutput()
		b.t.Logf("%s\n%s", strings.Join(arguments, " "), output)
	}
	do("get", "gateways,pods,events", "--output=wide")
	for _, component := range []string{"controller", "data-plane"} {
		do("logs", "--selector=app.kubernetes.io/component="+component, "--tail=60", "--prefix", "--pod-running-timeout=1s")
	}
}

// class makes a GatewayClass of the bed's own, whose data planes are as the fields say.
func (b *bed) class(dataPlane string) (name string) {
	b.t.Helper()
	b.parameters(dataPlane)
	b.apply(fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: %[1]s}
spec:
  controllerName: portcullis.dev/gateway-controller
  parametersRef: {group: portcullis.dev, kind: GatewayParameters, name: parameters, namespace: %[1]s}
`, b.namespace))
	b.t.Cleanup(func() { _ = b.of("GatewayClass").Delete(context.Background(), b.namespace, metav1.DeleteOptions{}) })
	return b.namespace
}

func (b *bed) parameters(dataPlane string) {
	b.t.Helper()
	b.apply("apiVersion: portcullis.dev/v1alpha1\nkind: GatewayParameters\nmetadata: {name: parameters}\nspec: {dataPlane: {" + dataPlane + "}}\n")
}

// apply puts one or more documents in, in the bed's namespace, in place of what is there.
func (b *bed) apply(documents string) {
	b.t.Helper()
	for _, document := range strings.Split(documents, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			b.t.Fatal(err)
		}
		eventually(b.t, 30*time.Second, "apply "+object.GetKind()+" "+object.GetName(), func() error {
			_, err := b.of(object.GetKind()).Apply(context.Background(), object.GetName(), object, metav1.ApplyOptions{FieldManager: "faults", Force: true})
			return err
		})
	}
}

func (b *bed) of(kind string) dynamic.ResourceInterface {
	if kind == "Namespace" || kind == "GatewayClass" || kind == "Node" {
		return client.Resource(resources[kind])
	}
	return client.Resource(resources[kind]).Namespace(b.namespace)
}

func (b *bed) delete(kind, name string) {
	b.t.Helper()
	if err := b.of(kind).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// deleteAtOnce gives a pod no time to end.
func (b *bed) deleteAtOnce(pod *unstructured.Unstructured) {
	b.t.Helper()
	seconds := int64(0)
	if err := client.Resource(resources["Pod"]).Namespace(pod.GetNamespace()).Delete(context.Background(), pod.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &seconds}); err != nil {
		b.t.Fatal(err)
	}
}

// gateway makes a Gateway with an HTTP listener and a route to the backend, and waits until it answers.
func (b *bed) gateway(name string) (address string) {
	b.t.Helper()
	return b.gatewayOf(class, name)
}

// gatewayOf does so for a class of its own.
func (b *bed) gatewayOf(class, name string) (address string) {
	b.t.Helper()
	b.apply(fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %[1]s}
spec:
  gatewayClassName: %[2]s
  listeners: [{name: http, protocol: HTTP, port: 80}]
---
%[3]s
`, name, class, route(name, name)))
	address = b.address(name)
	b.serves(address, name+".example")
	return address
}

// route is a route called name, for the host name.example, on a Gateway.
func route(name, gateway string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: %[2]s}]
  hostnames: [%[1]s.example]
  rules: [{backendRefs: [{name: backend, port: 8080}]}]
`, name, gateway)
}

func (b *bed) address(gateway string) (address string) {
	b.t.Helper()
	eventually(b.t, 3*time.Minute, "Gateway "+gateway+" is programmed", func() error {
		object, err := b.of("Gateway").Get(context.Background(), gateway, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if status, reason := condition(object, "Programmed"); status != "True" {
			return fmt.Errorf("Programmed %s/%s", status, reason)
		}
		addresses, _, _ := unstructured.NestedSlice(object.Object, "status", "addresses")
		if len(addresses) == 0 {
			return fmt.Errorf("no address")
		}
		address, _ = addresses[0].(map[string]any)["value"].(string)
		return nil
	})
	return address
}

func condition(object *unstructured.Unstructured, name string) (status, reason string) {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	return find(conditions, name)
}

func find(conditions []any, name string) (status, reason string) {
	for _, entry := range conditions {
		if entry, ok := entry.(map[string]any); ok && entry["type"] == name {
			return fmt.Sprint(entry["status"]), fmt.Sprint(entry["reason"])
		}
	}
	return "absent", ""
}

// gatewaySays waits until a condition of a Gateway is as it should be, as "True" or as "False/Reason".
func (b *bed) gatewaySays(gateway, name, wanted string) {
	b.t.Helper()
	eventually(b.t, truthLimit, fmt.Sprintf("%s of Gateway %s is %s", name, gateway, wanted), func() error {
		object, err := b.of("Gateway").Get(context.Background(), gateway, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return says(wanted)(condition(object, name))
	})
}

// listenerSays does so for a condition of a listener.
func (b *bed) listenerSays(gateway, listener, name, wanted string) {
	b.t.Helper()
	eventually(b.t, truthLimit, fmt.Sprintf("%s of listener %s of Gateway %s is %s", name, listener, gateway, wanted), func() error {
		return says(wanted)(b.listenerCondition(gateway, listener, name))
	})
}

// routeSays does so for a condition of an HTTPRoute with one parent.
func (b *bed) routeSays(route, name, wanted string) {
	b.t.Helper()
	eventually(b.t, truthLimit, fmt.Sprintf("%s of HTTPRoute %s is %s", name, route, wanted), func() error {
		object, err := b.of("HTTPRoute").Get(context.Background(), route, metav1.GetOptions{})
		if err != nil {
			return err
		}
		parents, _, _ := unstructured.NestedSlice(object.Object, "status", "parents")
		if len(parents) != 1 {
			return fmt.Errorf("%d parents", len(parents))
		}
		conditions, _ := parents[0].(map[string]any)["conditions"].([]any)
		return says(wanted)(find(conditions, name))
	})
}

// isServed waits until status says that the Gateway and all its data planes are as they should be.
func (b *bed) isServed(gateway string) {
	b.t.Helper()
	b.gatewaySays(gateway, "Programmed", "True")
	b.gatewaySays(gateway, upToDate, "True")
}

func says(wanted string) func(status, reason string) error {
	return func(status, reason string) error {
		if wanted == status || wanted == status+"/"+reason {
			return nil
		}
		return fmt.Errorf("%s/%s", status, reason)
	}
}

// listenerCondition reads a condition of a Gateway's listener.
func (b *bed) listenerCondition(gateway, listener, name string) (status, reason string) {
	object, err := b.of("Gateway").Get(context.Background(), gateway, metav1.GetOptions{})
	if err != nil {
		return err.Error(), ""
	}
	listeners, _, _ := unstructured.NestedSlice(object.Object, "status", "listeners")
	for _, entry := range listeners {
		if entry, ok := entry.(map[string]any); ok && entry["name"] == listener {
			conditions, _ := entry["conditions"].([]any)
			return find(conditions, name)
		}
	}
	return "absent", ""
}

func (b *bed) serves(address, host string) { b.answers(address, host, 200) }

// answers waits for three answers in a row with that status.
func (b *bed) answers(address, host string, status int) {
	b.t.Helper()
	eventually(b.t, 90*time.Second, fmt.Sprintf("%s answers %d for %s", address, status, host), func() error {
		for range 3 {
			if got, err := ask(newClient(), address, host); err != nil || got != status {
				return fmt.Errorf("%d %v", got, err)
			}
		}
		return nil
	})
}

func newClient() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // #nosec: the certificate is not what is tested
	}}
}

func ask(client *http.Client, address, host string) (int, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return 0, err
	}
	request.Host = host
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// load is strict: every request has to be answered 200.
type load struct {
	cancel   context.CancelFunc
	clients  sync.WaitGroup
	lock     sync.Mutex
	requests int
	tries    int
	failures []failure
}

// failure is a request that was not answered 200.
type failure struct {
	began, ended time.Time
	what         string
}

func (f failure) String() string { return f.began.Format("15:04:05.000") + " " + f.what }

// startLoad asks over kept and over new connections until it is stopped.
func startLoad(address, host string) *load { return startPatientLoad(address, host, 1) }

// startPatientLoad tries a request again, up to that often, a moment later and over another connection.
func startPatientLoad(address, host string, tries int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	for index := range 4 {
		l.clients.Go(func() {
			client := newClient()
			for ctx.Err() == nil {
				l.request(client, address, host, tries)
				if index%2 == 0 {
					client.CloseIdleConnections()
				}
				time.Sleep(5 * time.Millisecond)
			}
			client.CloseIdleConnections()
		})
	}
	return l
}

func (l *load) request(client *http.Client, address, host string, tries int) {
	began := time.Now()
	for try := 1; ; try++ {
		status, err := ask(client, address, host)
		served := err == nil && status == 200
		if !served && try < tries {
			client.CloseIdleConnections()
			time.Sleep(50 * time.Millisecond)
			continue
		}
		l.lock.Lock()
		defer l.lock.Unlock()
		l.requests++
		l.tries = max(l.tries, try)
		if !served {
			l.failures = append(l.failures, failure{began, time.Now(), fmt.Sprintf("after %s: %d %v", time.Since(began).Round(time.Millisecond), status, err)})
		}
		return
	}
}

// stop ends the load and says what failed.
func (l *load) stop(t *testing.T) []failure {
	t.Helper()
	l.cancel()
	l.clients.Wait()
	t.Logf("%d requests, %d failed, at most %d tries", l.requests, len(l.failures), l.tries)
	return l.failures
}

// mustHaveServed ends the load; no request may have failed.
func (l *load) mustHaveServed(t *testing.T) {
	t.Helper()
	if failures := l.stop(t); len(failures) > 0 {
		t.Errorf("%d of %d requests failed, first: %v", len(failures), l.requests, failures[:min(5, len(failures))])
	}
}

func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("not within %s: %s: %v", limit, what, err)
}

// cluster runs the test cluster's own command, such as kill etcd.
func cluster(t *testing.T, arguments ...string) {
	t.Helper()
	clusterOutput(t, arguments...)
}

// clusterOutput does so and gives what it wrote.
func clusterOutput(t *testing.T, arguments ...string) []byte {
	t.Helper()
	var problems bytes.Buffer
	command := exec.Command(os.Getenv("PORTCULLIS_CLUSTER"), arguments...)
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", os.Getenv("PORTCULLIS_CLUSTER"), strings.Join(arguments, " "), err, output, problems.Bytes())
	}
	return output
}

// scale sets the replicas of a Deployment and waits until as many are ready.
func scale(t *testing.T, namespace, name string, replicas int64) {
	t.Helper()
	deployments := client.Resource(resources["Deployment"]).Namespace(namespace)
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if _, err := deployments.Patch(context.Background(), name, "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, fmt.Sprintf("%s has %d pods", name, replicas), func() error {
		object, err := deployments.Get(context.Background(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		ready, _, _ := unstructured.NestedInt64(object.Object, "status", "readyReplicas")
		all, _, _ := unstructured.NestedInt64(object.Object, "status", "replicas")
		if ready != replicas || all != replicas {
			return fmt.Errorf("%d of %d are ready", ready, all)
		}
		return nil
	})
}

// pods lists the data plane pods of a Gateway.
func (b *bed) pods(gateway string) []unstructured.Unstructured {
	b.t.Helper()
	list, err := b.of("Pod").List(context.Background(), metav1.ListOptions{LabelSelector: "gateway.networking.k8s.io/gateway-name=" + gateway})
	if err != nil {
		b.t.Fatal(err)
	}
	return list.Items
}

func isReady(pod unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
	status, _ := find(conditions, "Ready")
	return status == "True"
}

// secret is a TLS Secret with a fresh certificate.
func secret(t *testing.T, name, host string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, bytes []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: %s}\ndata: {tls.crt: %s, tls.key: %s}\n",
		name, encode("CERTIFICATE", certificate), encode("PRIVATE KEY", private))
}

// handshake says whether TLS with that name succeeds.
func handshake(address, host string) error {
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}}
	connection, err := dialer.Dial("tcp", net.JoinHostPort(address, "443"))
	if err != nil {
		return err
	}
	return connection.Close()
}
