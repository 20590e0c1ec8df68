package faults

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The controller goes away: traffic goes on, a new data plane pod waits, and everything follows when it is back.
func TestControllerIsAway(t *testing.T) {
	b := newBed(t, "controller")
	address := b.gateway("served")
	load := startLoad(address, "served.example")

	scale(t, controllerNamespace, controllerName, 0)
	b.apply(route("later", "served"))
	time.Sleep(5 * time.Second)

	// A pod that joins now has nothing to serve: it waits, and is neither ready nor failing.
	joined := b.addPod("served")
	time.Sleep(10 * time.Second)
	pod, err := b.of("Pod").Get(context.Background(), joined, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if isReady(*pod) {
		t.Error("a data plane without a configuration is ready")
	}
	if restarts := restarts(pod); restarts > 0 {
		t.Errorf("a data plane that waits was restarted %d times", restarts)
	}

	scale(t, controllerNamespace, controllerName, 1)
	b.serves(address, "later.example")
	b.routeSays("later", "Accepted", "True")
	b.isServed("served")
	load.mustHaveServed(t)
}

// The controller is killed without a word, again and again: no request is lost, and changes go on being served.
func TestControllerIsKilled(t *testing.T) {
	b := newBed(t, "kill")
	address := b.gateway("served")
	load := startLoad(address, "served.example")
	for round := range 3 {
		b.apply(route(fmt.Sprintf("round-%d", round), "served"))
		list, err := client.Resource(resources["Pod"]).Namespace(controllerNamespace).List(context.Background(),
			metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) == 0 {
			t.Fatal("no pod of the controller is found by its label")
		}
		for _, pod := range list.Items {
			now := int64(0)
			_ = client.Resource(resources["Pod"]).Namespace(controllerNamespace).Delete(context.Background(), pod.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now})
		}
		b.serves(address, fmt.Sprintf("round-%d.example", round))
		b.routeSays(fmt.Sprintf("round-%d", round), "Accepted", "True")
		b.isServed("served")
	}
	load.mustHaveServed(t)
}

// etcd and the API server are away for a minute: the last configuration serves, and what comes after is followed.
func TestAPIServerIsAway(t *testing.T) {
	b := newBed(t, "apiserver")
	address := b.gateway("served")
	load := startLoad(address, "served.example")
	cluster(t, "kill", "apiserver")
	cluster(t, "kill", "etcd")
	time.Sleep(time.Minute)
	cluster(t, "start", "etcd")
	cluster(t, "start", "apiserver")
	back := time.Now()
	b.apply(route("later", "served"))
	b.serves(address, "later.example")
	b.routeSays("later", "Accepted", "True")
	// Where Kubernetes misses the node for too long meanwhile, it says of its pods that they are not ready until it hears of them again,
	// and status says so, too.
	b.nodesAreHeardOf(back)
	b.readyPods("served", 1)
	b.isServed("served")
	load.mustHaveServed(t)
}

// nodesAreHeardOf waits until each node has renewed its lease since then, and its controller has had time to see it.
func (b *bed) nodesAreHeardOf(since time.Time) {
	b.t.Helper()
	eventually(b.t, 3*time.Minute, "the nodes are heard of", func() error {
		leases, err := client.Resource(resources["Lease"]).Namespace("kube-node-lease").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, lease := range leases.Items {
			text, _, _ := unstructured.NestedString(lease.Object, "spec", "renewTime")
			if renewed, err := time.Parse(time.RFC3339Nano, text); err != nil || renewed.Before(since) {
				return fmt.Errorf("the lease of %s was renewed at %s", lease.GetName(), text)
			}
		}
		return nil
	})
	time.Sleep(10 * time.Second)
}

// A CRD is deleted, which deletes its objects, and comes back: other kinds go on, and new objects are served.
func TestCRDsAreRecreated(t *testing.T) {
	b := newBed(t, "crds")
	address := b.gateway("served")
	load := startLoad(address, "served.example")
	crds := client.Resource(resources["CustomResourceDefinition"])
	for _, name := range []string{"grpcroutes.gateway.networking.k8s.io", "referencegrants.gateway.networking.k8s.io"} {
		recreate(t, crds.Get, crds.Create, crds.Delete, name)
	}
	load.mustHaveServed(t)

	recreate(t, crds.Get, crds.Create, crds.Delete, "httproutes.gateway.networking.k8s.io")
	b.answers(address, "served.example", 404)
	b.attached("served", 0)
	b.apply(route("served", "served"))
	b.serves(address, "served.example")
	b.routeSays("served", "Accepted", "True")
	b.attached("served", 1)
	b.isServed("served")
}

// A Secret turns bad: its listener says so, the others serve on, also of the same Gateway; and it recovers.
func TestSecretTurnsBad(t *testing.T) {
	t.Parallel()
	b := newBed(t, "secret")
	bystander := b.gateway("bystander")
	b.apply(secret(t, "certificate", "tls.example") + `
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: served}
spec:
  gatewayClassName: ` + class + `
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: https, protocol: HTTPS, port: 443, hostname: tls.example, tls: {certificateRefs: [{name: certificate}]}}
---
` + route("served", "served"))
	address := b.address("served")
	b.serves(address, "served.example")
	eventually(t, 30*time.Second, "TLS is served", func() error { return handshake(address, "tls.example") })
	load, other := startLoad(address, "served.example"), startLoad(bystander, "bystander.example")

	b.apply("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: certificate}\ndata: {tls.crt: Z2FyYmFnZQ==, tls.key: Z2FyYmFnZQ==}")
	b.listenerSays("served", "https", "ResolvedRefs", "False/InvalidCertificateRef")
	b.listenerSays("served", "https", "Programmed", "False")
	b.listenerSays("served", "http", "Programmed", "True")
	eventually(t, 10*time.Second, "TLS is refused", func() error {
		if handshake(address, "tls.example") == nil {
			return fmt.Errorf("a handshake succeeded")
		}
		return nil
	})
	b.apply(secret(t, "certificate", "tls.example"))
	eventually(t, 30*time.Second, "TLS is served again", func() error { return handshake(address, "tls.example") })
	b.listenerSays("served", "https", "ResolvedRefs", "True")
	b.listenerSays("served", "https", "Programmed", "True")
	b.isServed("served")
	load.mustHaveServed(t)
	other.mustHaveServed(t)
}

// An object has a value that this version does not know: it is refused, and every other object is read.
func TestValueFromTheFuture(t *testing.T) {
	b := newBed(t, "future")
	address := b.gateway("served")
	load := startLoad(address, "served.example")
	crds := client.Resource(resources["CustomResourceDefinition"])
	name := "httproutes.gateway.networking.k8s.io"
	original, err := crds.Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	future := original.DeepCopy()
	addEnumValue(future.Object, "RequestHeaderModifier", "TeleportRequest")
	if _, err := crds.Update(context.Background(), future, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, 30*time.Second, "the CRD is as it was", func() error {
			current, err := crds.Get(context.Background(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			current.Object["spec"] = original.Object["spec"]
			_, err = crds.Update(context.Background(), current, metav1.UpdateOptions{})
			return err
		})
	})
	b.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: future}
spec:
  parentRefs: [{name: served}]
  hostnames: [future.example]
  rules:
  - filters: [{type: TeleportRequest}]
    backendRefs: [{name: backend, port: 8080}]
---
` + route("after", "served"))
	b.serves(address, "after.example")
	b.answers(address, "future.example", 500)
	b.routeSays("future", "Accepted", "False/UnsupportedValue")
	b.routeSays("after", "Accepted", "True")
	b.isServed("served")
	load.mustHaveServed(t)
	b.delete("HTTPRoute", "future")
}

// Hundreds of statuses are due while the API server stops and goes: all are written in the end, and true.
func TestStatusQueueIsFull(t *testing.T) {
	b := newBed(t, "queue")
	address := b.gateway("served")
	load := startLoad(address, "served.example")
	const routes = 500
	var writers sync.WaitGroup
	for writer := range 10 {
		writers.Go(func() {
			for number := writer; number < routes; number += 10 {
				object := &unstructured.Unstructured{Object: map[string]any{
					"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": map[string]any{"name": fmt.Sprintf("route-%d", number)},
					"spec": map[string]any{
						"parentRefs": []any{map[string]any{"name": "served"}},
						"hostnames":  []any{fmt.Sprintf("route-%d.example", number)},
						"rules":      []any{map[string]any{"backendRefs": []any{map[string]any{"name": "backend", "port": int64(8080)}}}},
					},
				}}
				if _, err := b.of("HTTPRoute").Create(context.Background(), object, metav1.CreateOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		time.Sleep(500 * time.Millisecond)
		cluster(t, "pause", "apiserver")
		time.Sleep(2 * time.Second)
		cluster(t, "resume", "apiserver")
	}
	writers.Wait()
	eventually(t, time.Minute, "every route is accepted and counted", func() error {
		list, err := b.of("HTTPRoute").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, item := range list.Items {
			parents, _, _ := unstructured.NestedSlice(item.Object, "status", "parents")
			if len(parents) != 1 {
				return fmt.Errorf("%s has %d parents in its status", item.GetName(), len(parents))
			}
			conditions, _ := parents[0].(map[string]any)["conditions"].([]any)
			if status, reason := find(conditions, "Accepted"); status != "True" {
				return fmt.Errorf("%s is Accepted %s/%s", item.GetName(), status, reason)
			}
		}
		gateway, err := b.of("Gateway").Get(context.Background(), "served", metav1.GetOptions{})
		if err != nil {
			return err
		}
		listeners, _, _ := unstructured.NestedSlice(gateway.Object, "status", "listeners")
		if attached := listeners[0].(map[string]any)["attachedRoutes"]; attached != int64(routes+1) {
			return fmt.Errorf("attachedRoutes is %v", attached)
		}
		return nil
	})
	load.mustHaveServed(t)
}

// A hundred Gateways come and go: another one does not notice, and nothing stays behind.
func TestHundredGateways(t *testing.T) {
	bystander := newBed(t, "bystander")
	address := bystander.gateway("served")
	load := startLoad(address, "served.example")
	b := newBed(t, "hundred")
	const gateways = 100
	for number := range gateways {
		b.apply(fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway-%d}
spec:
  gatewayClassName: %s
  listeners: [{name: http, protocol: HTTP, port: 80}]
`, number, class))
	}
	eventually(t, 3*time.Minute, "each Gateway has its Deployment", func() error {
		list, err := b.of("Deployment").List(context.Background(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=portcullis"})
		if err == nil && len(list.Items) < gateways {
			err = fmt.Errorf("%d Deployments", len(list.Items))
		}
		return err
	})
	for number := range gateways {
		b.delete("Gateway", fmt.Sprintf("gateway-%d", number))
	}
	eventually(t, 3*time.Minute, "nothing is left", func() error {
		for _, kind := range []string{"Gateway", "Deployment", "Service"} {
			list, err := b.of(kind).List(context.Background(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, item := range list.Items {
				if item.GetName() != "backend" {
					return fmt.Errorf("%s %s and %d more", kind, item.GetName(), len(list.Items)-1)
				}
			}
		}
		return nil
	})
	load.mustHaveServed(t)
}

// attached waits until a Gateway with one listener says that this many routes are attached.
func (b *bed) attached(gateway string, routes int64) {
	b.t.Helper()
	eventually(b.t, truthLimit, fmt.Sprintf("%d routes are attached to Gateway %s", routes, gateway), func() error {
		object, err := b.of("Gateway").Get(context.Background(), gateway, metav1.GetOptions{})
		if err != nil {
			return err
		}
		listeners, _, _ := unstructured.NestedSlice(object.Object, "status", "listeners")
		if len(listeners) != 1 || listeners[0].(map[string]any)["attachedRoutes"] != routes {
			return fmt.Errorf("%v", listeners)
		}
		return nil
	})
}

func (b *bed) readyPods(gateway string, count int) {
	b.t.Helper()
	eventually(b.t, 2*time.Minute, fmt.Sprintf("%d data planes are ready", count), func() error {
		ready := 0
		for _, pod := range b.pods(gateway) {
			if isReady(pod) && pod.GetDeletionTimestamp() == nil {
				ready++
			}
		}
		if ready != count {
			return fmt.Errorf("%d are", ready)
		}
		return nil
	})
}

// addPod makes the Gateway's Deployment one pod larger behind the controller's back and gives the new pod's name.
func (b *bed) addPod(gateway string) (name string) {
	b.t.Helper()
	known := map[string]bool{}
	for _, pod := range b.pods(gateway) {
		known[pod.GetName()] = true
	}
	list, err := b.of("Deployment").List(context.Background(), metav1.ListOptions{LabelSelector: "gateway.networking.k8s.io/gateway-name=" + gateway})
	if err != nil || len(list.Items) != 1 {
		b.t.Fatalf("%d Deployments of %s: %v", len(list.Items), gateway, err)
	}
	patch := []byte(`{"spec":{"replicas":2}}`)
	if _, err := b.of("Deployment").Patch(context.Background(), list.Items[0].GetName(), "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		b.t.Fatal(err)
	}
	eventually(b.t, time.Minute, "another pod runs", func() error {
		for _, pod := range b.pods(gateway) {
			phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
			if !known[pod.GetName()] && phase == "Running" {
				name = pod.GetName()
				return nil
			}
		}
		return fmt.Errorf("there is none")
	})
	return name
}

func restarts(pod *unstructured.Unstructured) (total int64) {
	statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
	for _, status := range statuses {
		count, _ := status.(map[string]any)["restartCount"].(int64)
		total += count
	}
	return total
}

type (
	getter  = func(context.Context, string, metav1.GetOptions, ...string) (*unstructured.Unstructured, error)
	creator = func(context.Context, *unstructured.Unstructured, metav1.CreateOptions, ...string) (*unstructured.Unstructured, error)
	deleter = func(context.Context, string, metav1.DeleteOptions, ...string) error
)

// recreate deletes a CRD, waits until it is gone, and puts it back.
func recreate(t *testing.T, get getter, create creator, remove deleter, name string) {
	t.Helper()
	ctx := context.Background()
	crd, err := get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := remove(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, name+" is gone", func() error {
		if _, err := get(ctx, name, metav1.GetOptions{}); !errors.IsNotFound(err) {
			return fmt.Errorf("still there: %v", err)
		}
		return nil
	})
	time.Sleep(2 * time.Second)
	fresh := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": crd.GetAPIVersion(), "kind": crd.GetKind(), "spec": crd.Object["spec"],
		"metadata": map[string]any{"name": name},
	}}
	fresh.SetAnnotations(crd.GetAnnotations())
	fresh.SetLabels(crd.GetLabels())
	if _, err := create(ctx, fresh, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, name+" is served", func() error {
		current, err := get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if status, _ := condition(current, "Established"); status != "True" {
			return fmt.Errorf("not established")
		}
		return nil
	})
}

// addEnumValue adds a value to every enum that has another one, and takes away the rules that tie it to the others.
func addEnumValue(node any, beside, value string) {
	switch node := node.(type) {
	case map[string]any:
		if list, ok := node["enum"].([]any); ok {
			for _, entry := range list {
				if entry == beside {
					node["enum"] = append(list, value)
					break
				}
			}
		}
		for _, child := range node {
			addEnumValue(child, beside, value)
		}
	case []any:
		for _, child := range node {
			addEnumValue(child, beside, value)
		}
	}
}
