package faults

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// One of two data planes is stopped: not one request fails.
func TestDataPlaneGoes(t *testing.T) {
	t.Parallel()
	b := newBed(t, "dataplane")
	address := b.gatewayOf(b.class("replicas: 2"), "served")
	b.readyPods("served", 2)

	load := startLoad(address, "served.example")
	b.delete("Pod", b.pods("served")[0].GetName())
	time.Sleep(3 * time.Second)
	b.readyPods("served", 2)
	time.Sleep(10 * time.Second)
	load.mustHaveServed(t)
	b.isServed("served")
}

// The process of one of two data planes is killed. What it was serving is cut; from when the Service has another end
// point alone, nothing fails; a client that tries again sees nothing; and other Gateways do not notice.
func TestDataPlaneIsKilled(t *testing.T) {
	t.Parallel()
	b := newBed(t, "killed")
	address := b.gatewayOf(b.class("replicas: 2"), "served")
	bystander := b.gateway("bystander")
	b.readyPods("served", 2)
	b.isServed("served")
	const tries = 40
	strict, patient := startLoad(address, "served.example"), startPatientLoad(address, "served.example", tries)
	other := startLoad(bystander, "bystander.example")
	time.Sleep(2 * time.Second)

	victim := b.pods("served")[0]
	killed := time.Now()
	send(t, &victim, syscall.SIGKILL)
	eventually(t, time.Minute, "the Service no longer has the pod", func() error { return b.endpointIsOut(victim) })
	// kube-proxy may take a second to follow.
	out := time.Now().Add(2 * time.Second)
	b.readyPods("served", 2)
	time.Sleep(time.Until(out) + 5*time.Second)
	b.isServed("served")

	failures := strict.stop(t)
	for _, failure := range failures {
		if failure.ended.Before(killed) || failure.began.After(out) {
			t.Errorf("failed although over before the kill, or begun %s after it: %s", failure.began.Sub(killed), failure)
		}
	}
	t.Logf("%d of %d requests were cut or refused; the end point was out %s after the kill", len(failures), strict.requests, out.Add(-2*time.Second).Sub(killed).Round(time.Millisecond))
	patient.mustHaveServed(t)
	other.mustHaveServed(t)
}

// A change of the Deployment's template rolls the pods: not one request fails.
func TestDataPlanesAreRolled(t *testing.T) {
	t.Parallel()
	b := newBed(t, "roll")
	address := b.gatewayOf(b.class("replicas: 2"), "served")
	b.readyPods("served", 2)
	before := map[string]bool{}
	for _, pod := range b.pods("served") {
		before[pod.GetName()] = true
	}
	load := startLoad(address, "served.example")
	b.parameters(`replicas: 2, podAnnotations: {rolled: "yes"}`)
	eventually(t, 2*time.Minute, "all pods are new", func() error {
		pods := b.pods("served")
		for _, pod := range pods {
			if before[pod.GetName()] || !isReady(pod) {
				return fmt.Errorf("%s is old or not ready", pod.GetName())
			}
		}
		if len(pods) != 2 {
			return fmt.Errorf("%d pods", len(pods))
		}
		return nil
	})
	load.mustHaveServed(t)
	b.isServed("served")
}

// A drain of the node evicts data planes one by one, as the PodDisruptionBudget says, and no request is lost.
func TestDataPlanesAreEvicted(t *testing.T) {
	t.Parallel()
	b := newBed(t, "evict")
	address := b.gatewayOf(b.class("replicas: 2"), "served")
	b.readyPods("served", 2)
	load := startLoad(address, "served.example")
	evicted := map[string]bool{}
	for _, pod := range b.pods("served") {
		evicted[pod.GetName()] = true
	}
	refused := 0
	for name := range evicted {
		eventually(t, 2*time.Minute, name+" may be evicted", func() error {
			err := b.evict(name)
			if errors.IsTooManyRequests(err) {
				refused++
			}
			return err
		})
	}
	if refused == 0 {
		t.Error("both pods were evicted at once: there is no budget, or it is not kept")
	}
	eventually(t, 2*time.Minute, "all pods are new", func() error {
		for _, pod := range b.pods("served") {
			if evicted[pod.GetName()] {
				return fmt.Errorf("%s is still there", pod.GetName())
			}
		}
		return nil
	})
	b.readyPods("served", 2)
	load.mustHaveServed(t)
	b.isServed("served")
}

// A data plane hangs: status names it while it does not answer, and the others follow.
func TestDataPlaneHangs(t *testing.T) {
	t.Parallel()
	b := newBed(t, "hang")
	b.gatewayOf(b.class("replicas: 2"), "served")
	bystander := b.gateway("bystander")
	b.readyPods("served", 2)
	b.isServed("served")
	other := startLoad(bystander, "bystander.example")
	victim := b.pods("served")[0]
	send(t, &victim, syscall.SIGSTOP)
	b.apply(route("later", "served"))
	b.gatewaySays("served", upToDate, "False/Lagging")
	b.gatewaySays("served", "Programmed", "True")
	send(t, &victim, syscall.SIGCONT)
	b.isServed("served")
	other.mustHaveServed(t)
}

// No data plane is left and none can start: status says so within seconds, and so it does when one is back.
func TestNoDataPlaneIsLeft(t *testing.T) {
	b := newBed(t, "none")
	address := b.gateway("served")
	b.isServed("served")
	b.cordon(true)
	t.Cleanup(func() { b.cordon(false) })
	b.delete("Pod", b.pods("served")[0].GetName())
	eventually(t, time.Minute, "the pod is gone", func() error {
		for _, pod := range b.pods("served") {
			if phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase"); phase != "Pending" {
				return fmt.Errorf("%s is %s", pod.GetName(), phase)
			}
		}
		return nil
	})
	b.gatewaySays("served", "Programmed", "False/NoResources")
	b.cordon(false)
	b.readyPods("served", 1)
	b.isServed("served")
	b.serves(address, "served.example")
}

// evict asks for a pod's eviction, as kubectl drain does.
func (b *bed) evict(name string) error {
	eviction := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]any{"name": name, "namespace": b.namespace},
	}}
	_, err := b.of("Pod").Create(context.Background(), eviction, metav1.CreateOptions{}, "eviction")
	return err
}

// cordon lets no new pods onto the nodes, or lets them on again.
func (b *bed) cordon(cordoned bool) {
	b.t.Helper()
	nodes, err := b.of("Node").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, node := range nodes.Items {
		patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, cordoned)
		if _, err := b.of("Node").Patch(context.Background(), node.GetName(), "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// endpointIsOut is an error as long as a Service sends to the pod.
func (b *bed) endpointIsOut(pod unstructured.Unstructured) error {
	slices, err := b.of("EndpointSlice").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, slice := range slices.Items {
		endpoints, _, _ := unstructured.NestedSlice(slice.Object, "endpoints")
		for _, endpoint := range endpoints {
			target, _, _ := unstructured.NestedString(endpoint.(map[string]any), "targetRef", "name")
			ready, _, _ := unstructured.NestedBool(endpoint.(map[string]any), "conditions", "ready")
			if target == pod.GetName() && ready {
				return fmt.Errorf("%s still has %s", slice.GetName(), target)
			}
		}
	}
	return nil
}
