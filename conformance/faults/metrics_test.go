package faults

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func newClientset(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return clientset
}

// scrape reads a pod's metrics through the API server.
func (b *bed) scrape(pod unstructured.Unstructured) (string, error) {
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:9090/proxy/metrics", pod.GetNamespace(), pod.GetName())
	text, err := newClientset(b.t).CoreV1().RESTClient().Get().AbsPath(path).SetHeader("Accept", "text/plain").DoRaw(context.Background())
	return string(text), err
}

// metric is the value of a metric without labels; -1 when it cannot be read.
func (b *bed) metric(pod unstructured.Unstructured, name string) float64 {
	b.t.Helper()
	text, err := b.scrape(pod)
	if err != nil {
		b.t.Logf("metrics of %s: %v", pod.GetName(), err)
		return -1
	}
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			if number, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return number
			}
		}
	}
	b.t.Logf("%s has no metric %s", pod.GetName(), name)
	return -1
}
