package faults

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// What is in Secrets is nowhere else: not in a log, a metric, a status, an Event, an object or a report.
func TestSecretsStaySecret(t *testing.T) {
	ctx := context.Background()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	b := newBed(t, "secrets")
	const canary = "canary-kx81vq7hz2w0ypd5"
	encoded := base64.StdEncoding.EncodeToString([]byte("-----BEGIN PRIVATE KEY-----\n" + canary + "\n-----END PRIVATE KEY-----\n"))
	b.apply(secret(t, "good", "tls.example") + `
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: bad}
data: {tls.crt: ` + encoded + `, tls.key: ` + encoded + `}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: served}
spec:
  gatewayClassName: ` + class + `
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: good, protocol: HTTPS, port: 443, hostname: tls.example, tls: {certificateRefs: [{name: good}]}}
  - {name: bad, protocol: HTTPS, port: 443, hostname: bad.example, tls: {certificateRefs: [{name: bad}]}}
---
` + route("served", "served"))
	address := b.address("served")
	b.serves(address, "served.example")
	eventually(t, 30*time.Second, "TLS is served", func() error { return handshake(address, "tls.example") })
	_ = handshake(address, "bad.example")

	needles := map[string]string{"the bad Secret": canary}
	secrets, err := clientset.CoreV1().Secrets("").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
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
				needles[place] = middle
				needles[place+" (base64)"] = base64.StdEncoding.EncodeToString(value)[40:80]
			}
		}
	}
	if len(needles) < 4 {
		t.Fatalf("only %d secrets to look for: the controller's own and the test's should be there", len(needles))
	}
	searched := 0
	search := func(place string, text []byte) {
		searched++
		for secret, needle := range needles {
			if strings.Contains(string(text), needle) {
				t.Errorf("%s shows what is in %s", place, secret)
			}
		}
	}

	pods, err := clientset.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component in (controller, data-plane)"})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) < 2 {
		t.Fatalf("%d pods are labelled as controller or data plane; the controller's and the data plane's should be", len(pods.Items))
	}
	for _, pod := range pods.Items {
		for _, path := range []string{"log", "proxy/metrics", "proxy/healthz", "proxy/readyz"} {
			resource := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/%s", pod.Namespace, pod.Name, path)
			if strings.HasPrefix(path, "proxy/") {
				resource = fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:9090/%s", pod.Namespace, pod.Name, path)
			}
			text, err := clientset.CoreV1().RESTClient().Get().AbsPath(resource).DoRaw(ctx)
			if err != nil && pod.DeletionTimestamp == nil && path == "log" {
				t.Errorf("%s: %v", resource, err)
			}
			search(resource, text)
		}
	}
	lists, err := discovery.ServerPreferredResources(clientset.Discovery())
	if err != nil && lists == nil {
		t.Fatal(err)
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
			text, err := clientset.CoreV1().RESTClient().Get().AbsPath(prefix + "/" + resource.Name).DoRaw(ctx)
			if err != nil {
				t.Logf("%s/%s: %v", prefix, resource.Name, err)
				continue
			}
			search(prefix+"/"+resource.Name, plain(text))
		}
	}
	for _, pattern := range []string{"../reports/*", "../reports/*/*"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				search(file, text)
			}
		}
	}
	t.Logf("searched %d places for %d secrets", searched, len(needles))
}

// plain is the text without JSON's escapes, which hide nothing from a search then.
func plain(text []byte) []byte {
	var value any
	if json.Unmarshal(text, &value) != nil {
		return text
	}
	return fmt.Append(nil, value)
}
