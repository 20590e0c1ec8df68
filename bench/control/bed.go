package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

var (
	gateways    = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gateways"}
	httpRoutes  = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	services    = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	namespaces  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
)

const gatewayName = "bench"

// bed is what is measured upon: a namespace with a Gateway, two backends and routes.
type bed struct {
	objects   dynamic.Interface
	clientset kubernetes.Interface
	namespace string
	address   string
}

func newBed(ctx context.Context, s settings) (*bed, error) {
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	b := &bed{objects: objects, clientset: clientset, namespace: "bench-" + s.gatewayClass}
	if err := b.fill(ctx, s); err != nil {
		b.remove()
		return nil, err
	}
	return b, nil
}

func (b *bed) fill(ctx context.Context, s settings) error {
	namespace := object("v1", "Namespace", "", b.namespace, nil)
	if _, err := b.objects.Resource(namespaces).Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	for _, name := range []string{"blue", "green"} {
		if err := b.createBackend(ctx, name, s.image); err != nil {
			return err
		}
	}
	gateway := object("gateway.networking.k8s.io/v1", "Gateway", b.namespace, gatewayName, map[string]any{
		"gatewayClassName": s.gatewayClass,
		"listeners":        []any{map[string]any{"name": "http", "protocol": "HTTP", "port": int64(80)}},
	})
	if _, err := b.objects.Resource(gateways).Namespace(b.namespace).Create(ctx, gateway, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := b.createRoute(ctx, "ready", "blue"); err != nil {
		return err
	}
	return poll(ctx, 3*time.Minute, "the Gateway to serve", func() bool {
		found, err := b.objects.Resource(gateways).Namespace(b.namespace).Get(ctx, gatewayName, metav1.GetOptions{})
		if err != nil {
			return false
		}
		addresses, _, _ := unstructured.NestedSlice(found.Object, "status", "addresses")
		if len(addresses) == 0 {
			return false
		}
		address, _ := addresses[0].(map[string]any)
		b.address, _ = address["value"].(string)
		probe := newProbe(b.address)
		defer probe.close()
		return b.address != "" && probe.ask(hostname("ready")).isFrom("blue")
	})
}

func (b *bed) createBackend(ctx context.Context, name, image string) error {
	labels := map[string]any{"app": name}
	deployment := object("apps/v1", "Deployment", b.namespace, name, map[string]any{
		"replicas": int64(1),
		"selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{
			"metadata": map[string]any{"labels": labels},
			"spec": map[string]any{"containers": []any{map[string]any{
				"name": "echo", "image": image,
				"env": []any{
					environment("POD_NAME", "metadata.name"), environment("NAMESPACE", "metadata.namespace"),
				},
				"readinessProbe": map[string]any{"periodSeconds": int64(1), "httpGet": map[string]any{"path": "/health", "port": int64(3000)}},
				"resources":      map[string]any{"requests": map[string]any{"cpu": "5m", "memory": "16Mi"}},
			}}},
		},
	})
	if _, err := b.objects.Resource(deployments).Namespace(b.namespace).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		return err
	}
	service := object("v1", "Service", b.namespace, name, map[string]any{
		"selector": labels,
		"ports":    []any{map[string]any{"name": "http", "port": int64(8080), "targetPort": int64(3000)}},
	})
	_, err := b.objects.Resource(services).Namespace(b.namespace).Create(ctx, service, metav1.CreateOptions{})
	return err
}

func environment(name, field string) map[string]any {
	return map[string]any{"name": name, "valueFrom": map[string]any{"fieldRef": map[string]any{"fieldPath": field}}}
}

// remove deletes the namespace and waits until it is gone.
func (b *bed) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := b.objects.Resource(namespaces).Delete(ctx, b.namespace, metav1.DeleteOptions{}); err != nil {
		return
	}
	_ = poll(ctx, 5*time.Minute, "the namespace to go", func() bool {
		_, err := b.objects.Resource(namespaces).Get(ctx, b.namespace, metav1.GetOptions{})
		return err != nil
	})
}

func (b *bed) createRoute(ctx context.Context, name, backend string) error {
	_, err := b.objects.Resource(httpRoutes).Namespace(b.namespace).Create(ctx, b.route(name, backend), metav1.CreateOptions{})
	return err
}

func (b *bed) deleteRoute(ctx context.Context, name string) error {
	return b.objects.Resource(httpRoutes).Namespace(b.namespace).Delete(ctx, name, metav1.DeleteOptions{})
}

func (b *bed) route(name, backend string) *unstructured.Unstructured {
	return object("gateway.networking.k8s.io/v1", "HTTPRoute", b.namespace, name, map[string]any{
		"parentRefs": []any{map[string]any{"name": gatewayName}},
		"hostnames":  []any{hostname(name)},
		"rules": []any{map[string]any{
			"matches":     []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": "/"}}},
			"backendRefs": []any{map[string]any{"name": backend, "port": int64(8080)}},
		}},
	})
}

// createRoutes brings the number of routes from one to the other, eight at a time.
func (b *bed) createRoutes(ctx context.Context, from, to int) error {
	numbers := make(chan int)
	failures := make(chan error, 8)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for number := range numbers {
				if err := b.createRoute(ctx, fmt.Sprintf("route-%d", number), "blue"); err != nil {
					select {
					case failures <- err:
					default:
					}
				}
			}
		})
	}
	for number := from; number < to; number++ {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
	close(failures)
	return <-failures
}

// answerTimes says how soon routes served.
type answerTimes struct {
	// all is from the acknowledged creation to the first 200.
	all []time.Duration
	// told is the part of it until a watch of this program's own showed the route: what the API server and this machine take for it.
	told []time.Duration
	// rest is what came after that.
	rest []time.Duration
}

// enough is how long samples are taken: fewer of them where each takes long.
const enough = 2 * time.Minute

// firstAnswers creates routes one after another and takes the time from each acknowledged creation to its first 200.
func (b *bed) firstAnswers(ctx context.Context, samples int) (*answerTimes, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	probe := newProbe(b.address)
	defer probe.close()
	told, err := b.tell(ctx)
	if err != nil {
		return nil, err
	}
	times := &answerTimes{}
	begin := time.Now()
	for sample := range samples {
		if time.Since(begin) > enough {
			break
		}
		name := fmt.Sprintf("sample-%d", sample)
		if err := b.createRoute(ctx, name, "blue"); err != nil {
			return nil, err
		}
		start := time.Now()
		for {
			answer := probe.ask(hostname(name))
			if answer.isFrom("blue") {
				break
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if time.Since(start) > time.Minute {
				return nil, fmt.Errorf("route %s: no 200 in a minute, but %d %v", name, answer.status, answer.err)
			}
			time.Sleep(500 * time.Microsecond)
		}
		served := time.Now()
		times.all = append(times.all, served.Sub(start))
		if at, ok := told(name); ok {
			times.told = append(times.told, max(0, at.Sub(start)))
			times.rest = append(times.rest, max(0, min(served.Sub(at), served.Sub(start))))
		}
		if err := b.deleteRoute(ctx, name); err != nil {
			return nil, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return times, nil
}

// tell watches routes and gives when each was first shown, if it was within a second.
func (b *bed) tell(ctx context.Context) (func(name string) (time.Time, bool), error) {
	routes := b.objects.Resource(httpRoutes).Namespace(b.namespace)
	list, err := routes.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	watcher, err := routes.Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		return nil, err
	}
	type shown struct {
		name string
		at   time.Time
	}
	events := make(chan shown, 1024)
	go func() {
		defer close(events)
		for event := range watcher.ResultChan() {
			at := time.Now()
			object, ok := event.Object.(*unstructured.Unstructured)
			if !ok || event.Type != apiwatch.Added {
				continue
			}
			select {
			case events <- shown{object.GetName(), at}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func(name string) (time.Time, bool) {
		limit := time.After(time.Second)
		for {
			select {
			case event, ok := <-events:
				if !ok {
					return time.Time{}, false
				}
				if event.name == name {
					return event.at, true
				}
			case <-limit:
				return time.Time{}, false
			}
		}
	}, nil
}

// change edits one route after another at the given pace until the context ends, and says how often.
func (b *bed) change(ctx context.Context, pace time.Duration) int {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for changes := 0; ; changes++ {
		backend := "blue"
		if changes%2 == 0 {
			backend = "green"
		}
		if b.setBackend(ctx, "ready", backend) != nil {
			return changes
		}
		select {
		case <-ctx.Done():
			return changes
		case <-ticker.C:
		}
	}
}

func (b *bed) setBackend(ctx context.Context, route, backend string) error {
	return b.patch(ctx, route, []map[string]any{{"op": "replace", "path": "/spec/rules/0/backendRefs/0/name", "value": backend}})
}

// setVersion sets, in one write, a number that the backend shows, and the backend that belongs to it.
func (b *bed) setVersion(ctx context.Context, route string, version int) error {
	filters := []any{map[string]any{
		"type":                  "RequestHeaderModifier",
		"requestHeaderModifier": map[string]any{"set": []any{map[string]any{"name": versionHeader, "value": strconv.Itoa(version)}}},
	}}
	return b.patch(ctx, route, []map[string]any{
		{"op": "replace", "path": "/spec/rules/0/backendRefs/0/name", "value": backendOf(version)},
		{"op": "add", "path": "/spec/rules/0/filters", "value": filters},
	})
}

// versionHeader is what a route gives its backend, which shows it.
const versionHeader = "X-Bench-Version"

func backendOf(version int) string { return []string{"blue", "green"}[version%2] }

func (b *bed) patch(ctx context.Context, route string, operations []map[string]any) error {
	patch, err := json.Marshal(operations)
	if err != nil {
		return err
	}
	_, err = b.objects.Resource(httpRoutes).Namespace(b.namespace).Patch(ctx, route, types.JSONPatchType, patch, metav1.PatchOptions{})
	return err
}

func hostname(route string) string { return route + ".bench.example" }

func object(apiVersion, kind, namespace, name string, spec map[string]any) *unstructured.Unstructured {
	metadata := map[string]any{"name": name}
	if namespace != "" {
		metadata["namespace"] = namespace
	}
	content := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": metadata}
	if spec != nil {
		content["spec"] = spec
	}
	return &unstructured.Unstructured{Object: content}
}

var errTimeout = errors.New("timed out")

func poll(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("waiting for %s: %w", what, errTimeout)
}
