package faults

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
)

// What is in Secrets is nowhere else: not in a log, a metric, a status, an Event, an object or a report.
func TestSecretsStaySecret(t *testing.T) {
	b := newBed(t, "secrets")
	b.secretive("served")
	s := b.secrets()
	s.pods()
	s.objects()
	s.files("../reports/*", "../reports/*/*")
	s.done()
}

// A crash tells nothing: a data plane and the controller, with keys loaded, are ended by faults that leave a core, and for
// want of memory. Neither what they leave nor what anybody tells of it has what is in a Secret.
func TestCrashesTellNothing(t *testing.T) {
	b := newBed(t, "crash")
	address := b.secretive("served")
	s := b.secrets()
	system := &bed{t: t, namespace: controllerNamespace}
	programs := []struct {
		name string
		pods func() []unstructured.Unstructured
		fill func()
	}{
		{"data plane", func() []unstructured.Unstructured { return b.pods("served") }, func() { b.fillWithRequests(address, "served.example") }},
		{"controller", system.controllers, func() { b.fillWithObjects() }},
	}
	for _, program := range programs {
		for _, signal := range []syscall.Signal{syscall.SIGILL, syscall.SIGSEGV} {
			pod := &program.pods()[0]
			process := processOf(t, pod)
			if mayDump(t, process) {
				t.Errorf("the kernel may write a core of the %s", program.name)
			}

			replaceClock(t, process, faulty[signal])
			state := b.ended(pod)
			if code := state["exitCode"]; code != int64(128+int(signal)) {
				t.Errorf("after %s the %s ended with %v (%v)", signal, program.name, code, state["reason"])
			}
			s.crashed(pod)
			b.replace(pod, program.pods)
		}
		// A pod that is ready is not yet one that the Service sends to.
		b.serves(address, "served.example")
		pod := &program.pods()[0]
		limitMemory(t, processOf(t, pod))
		program.fill()
		state := b.ended(pod)
		if state["reason"] != "OOMKilled" {
			t.Errorf("without memory the %s ended with %v (%v)", program.name, state["exitCode"], state["reason"])
		}
		s.crashed(pod)
		b.replace(pod, program.pods)
	}
	b.serves(address, "served.example")
	b.isServed("served")
	s.objects()
	s.files(filepath.Dir(os.Getenv("KUBECONFIG"))+"/var/log/*", filepath.Dir(os.Getenv("KUBECONFIG"))+"/var/log/*/*")
	s.done()
}

const canary = "canary-kx81vq7hz2w0ypd5"

// secretive makes a Gateway with a good and a bad Secret, and waits until it serves.
func (b *bed) secretive(gateway string) (address string) {
	b.t.Helper()
	encoded := base64.StdEncoding.EncodeToString([]byte("-----BEGIN PRIVATE KEY-----\n" + canary + "\n-----END PRIVATE KEY-----\n"))
	b.apply(secret(b.t, "good", "tls.example") + `
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: bad}
data: {tls.crt: ` + encoded + `, tls.key: ` + encoded + `}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ` + gateway + `}
spec:
  gatewayClassName: ` + class + `
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: good, protocol: HTTPS, port: 443, hostname: tls.example, tls: {certificateRefs: [{name: good}]}}
  - {name: bad, protocol: HTTPS, port: 443, hostname: bad.example, tls: {certificateRefs: [{name: bad}]}}
---
` + route("served", gateway))
	address = b.address(gateway)
	b.serves(address, "served.example")
	eventually(b.t, 30*time.Second, "TLS is served", func() error { return handshake(address, "tls.example") })
	_ = handshake(address, "bad.example")
	return address
}

// searcher looks for what is in Secrets.
type searcher struct {
	t         *testing.T
	clientset *kubernetes.Clientset
	needles   map[string]string
	searched  int
}

// secrets reads every private key of the cluster.
func (b *bed) secrets() *searcher {
	b.t.Helper()
	s := &searcher{t: b.t, clientset: newClientset(b.t), needles: map[string]string{"the bad Secret": canary}}
	secrets, err := s.clientset.CoreV1().Secrets("").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, secret := range secrets.Items {
		for name, value := range secret.Data {
			if !strings.Contains(string(value), "PRIVATE KEY") {
				continue
			}
			place := secret.Namespace + "/" + secret.Name + " " + name
			// The middle of a key: its beginning is the same for all keys of a kind.
			lines := strings.Split(strings.TrimSpace(string(value)), "\n")
			if middle := lines[len(lines)/2]; len(middle) >= 16 {
				s.needles[place] = middle
				s.needles[place+" (base64)"] = base64.StdEncoding.EncodeToString(value)[40:80]
			}
			// What stands in memory: a part that is no structure.
			if block, _ := pem.Decode(value); block != nil && len(block.Bytes) > 100 {
				s.needles[place+" (binary)"] = string(block.Bytes[40:56])
			}
		}
	}
	if len(s.needles) < 4 {
		b.t.Fatalf("only %d secrets to look for: the controller's own and the test's should be there", len(s.needles))
	}
	return s
}

func (s *searcher) search(place string, text []byte) {
	s.searched++
	for secret, needle := range s.needles {
		if bytes.Contains(text, []byte(needle)) {
			s.t.Errorf("%s shows what is in %s", place, secret)
		}
	}
}

func (s *searcher) done() { s.t.Logf("searched %d places for %d secrets", s.searched, len(s.needles)) }

// pods searches what the controller and the data planes say.
func (s *searcher) pods() {
	ctx := context.Background()
	pods, err := s.clientset.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component in (controller, data-plane)"})
	if err != nil {
		s.t.Fatal(err)
	}
	if len(pods.Items) < 2 {
		s.t.Fatalf("%d pods are labelled as controller or data plane; the controller's and the data plane's should be", len(pods.Items))
	}
	for _, pod := range pods.Items {
		for _, path := range []string{"log", "proxy/metrics", "proxy/healthz", "proxy/readyz"} {
			resource := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/%s", pod.Namespace, pod.Name, path)
			if strings.HasPrefix(path, "proxy/") {
				resource = fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:9090/%s", pod.Namespace, pod.Name, path)
			}
			text, err := s.clientset.CoreV1().RESTClient().Get().AbsPath(resource).DoRaw(ctx)
			if err != nil && pod.DeletionTimestamp == nil && path == "log" {
				s.t.Errorf("%s: %v", resource, err)
			}
			s.search(resource, text)
		}
	}
}

// crashed searches the log of the container of a pod that ended; its termination message is in the pod's status.
func (s *searcher) crashed(pod *unstructured.Unstructured) {
	text, err := s.clientset.CoreV1().Pods(pod.GetNamespace()).GetLogs(pod.GetName(), &corev1.PodLogOptions{Previous: true}).DoRaw(context.Background())
	if err != nil {
		s.t.Errorf("the log before the crash of %s: %v", pod.GetName(), err)
	}
	if len(text) == 0 {
		s.t.Errorf("%s has no log from before its crash", pod.GetName())
	}
	s.search("the previous log of "+pod.GetName(), text)
	current, err := client.Resource(resources["Pod"]).Namespace(pod.GetNamespace()).Get(context.Background(), pod.GetName(), metav1.GetOptions{})
	if err != nil {
		s.t.Error(err)
		return
	}
	s.search("the status of "+pod.GetName(), fmt.Append(nil, current.Object))
}

// objects searches every object that can be listed, except Secrets.
func (s *searcher) objects() {
	lists, err := discovery.ServerPreferredResources(s.clientset.Discovery())
	if err != nil && lists == nil {
		s.t.Fatal(err)
	}
	for _, list := range lists {
		for _, resource := range list.APIResources {
			prefix := "/apis/" + list.GroupVersion
			if list.GroupVersion == "v1" {
				prefix = "/api/v1"
			}
			if resource.Name == "secrets" || !strings.Contains(resource.Verbs.String(), "list") {
				continue
			}
			text, err := s.clientset.CoreV1().RESTClient().Get().AbsPath(prefix + "/" + resource.Name).DoRaw(context.Background())
			if err != nil {
				s.t.Logf("%s/%s: %v", prefix, resource.Name, err)
				continue
			}
			s.search(prefix+"/"+resource.Name, plain(text))
		}
	}
}

func (s *searcher) files(patterns ...string) {
	for _, pattern := range patterns {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				s.search(file, text)
			}
		}
	}
}

// ended waits until a pod's container was started again and says how the one before ended.
func (b *bed) ended(pod *unstructured.Unstructured) (state map[string]any) {
	b.t.Helper()
	eventually(b.t, time.Minute, "the container of "+pod.GetName()+" ended", func() error {
		current, err := client.Resource(resources["Pod"]).Namespace(pod.GetNamespace()).Get(context.Background(), pod.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		statuses, _, _ := unstructured.NestedSlice(current.Object, "status", "containerStatuses")
		for _, status := range statuses {
			var found bool
			if state, found, _ = unstructured.NestedMap(status.(map[string]any), "lastState", "terminated"); found {
				return nil
			}
		}
		return fmt.Errorf("it did not")
	})
	return state
}

// replace deletes a pod, for its next restart would wait, and waits until the pod that comes instead is ready.
func (b *bed) replace(pod *unstructured.Unstructured, pods func() []unstructured.Unstructured) {
	b.t.Helper()
	b.deleteAtOnce(pod)
	eventually(b.t, 2*time.Minute, "a successor of "+pod.GetName()+" is ready", func() error {
		current := pods()
		if len(current) != 1 || current[0].GetName() == pod.GetName() || !isReady(current[0]) {
			return fmt.Errorf("there are %d pods, and it is not", len(current))
		}
		return nil
	})
}

// fillWithRequests opens requests that are never finished, until the server is gone or has had enough of them.
func (b *bed) fillWithRequests(address, host string) {
	b.t.Helper()
	for number := range 2000 {
		connection, err := net.DialTimeout("tcp", net.JoinHostPort(address, "80"), time.Second)
		if err != nil && number == 0 {
			b.t.Fatalf("there is no server to fill: %v", err)
		}
		if err != nil {
			return
		}
		defer connection.Close()
		_ = connection.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := fmt.Fprintf(connection, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000000\r\nX-Filler: %s\r\n\r\n%s", host, strings.Repeat("x", 7000), strings.Repeat("y", 60000)); err != nil {
			return
		}
	}
}

// fillWithObjects makes objects that the controller reads.
func (b *bed) fillWithObjects() {
	b.t.Helper()
	for number := range 400 {
		matches := make([]any, 8)
		for index := range matches {
			matches[index] = map[string]any{"path": map[string]any{"type": "PathPrefix", "value": fmt.Sprintf("/%d/%s", index, strings.Repeat("z", 900))}}
		}
		rules := make([]any, 16)
		for index := range rules {
			rules[index] = map[string]any{"matches": matches}
		}
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": map[string]any{"name": fmt.Sprintf("filler-%d", number)},
			"spec": map[string]any{"parentRefs": []any{map[string]any{"name": "absent"}}, "rules": rules},
		}}
		if _, err := b.of("HTTPRoute").Create(context.Background(), object, metav1.CreateOptions{}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// plain is the text without JSON's escapes, which hide nothing from a search then.
func plain(text []byte) []byte {
	var value any
	if json.Unmarshal(text, &value) != nil {
		return text
	}
	return fmt.Append(nil, value)
}
