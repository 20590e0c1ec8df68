// Command loadbalancer gives every Service of type LoadBalancer an address of a pool, in its status; kube-proxy
// does the rest, for TCP and UDP alike.
//
// In: Services. Out: their status.loadBalancer, and an Event when a request cannot be granted. A request
// (spec.loadBalancerIP) is honoured when it is in the pool and free; else the Service stays without an address
// until it is. Addresses go round, so that a freed one is not given again at once.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig of the cluster")
	prefix := flag.String("pool", "", "prefix that addresses are taken from")
	static := flag.String("static", "", "range first-last of the pool that is given only when asked for")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *prefix, *static); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, kubeconfig, prefix, static string) error {
	p, err := parsePool(prefix, static)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 300, 600
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	events := record.NewBroadcaster()
	defer events.Shutdown()
	events.StartRecordingToSink(&corev1.EventSinkImpl{Interface: client.CoreV1().Events("")})

	c := &controller{
		client:    client,
		recorder:  events.NewRecorder(scheme.Scheme, core.EventSource{Component: "loadbalancer"}),
		allocator: newAllocator(p),
		refusals:  map[string]string{},
	}
	return c.run(ctx)
}

// controller decides anew about all Services whenever one has changed: there are some hundreds at most.
type controller struct {
	client    kubernetes.Interface
	recorder  record.EventRecorder
	allocator *allocator
	refusals  map[string]string // what was last said, by UID
}

func (c *controller) run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactory(c.client, 0)
	informer := factory.Core().V1().Services()
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { wake() },
		UpdateFunc: func(any, any) { wake() },
		DeleteFunc: func(any) { wake() },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	adopted := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		found, err := informer.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		if !adopted {
			c.allocator.adopt(describeAll(found))
			adopted = true
		}
		if !c.reconcile(ctx, found) {
			time.AfterFunc(time.Second, wake)
		}
	}
}

// reconcile writes what has to change; it is false when something could not be written.
func (c *controller) reconcile(ctx context.Context, found []*core.Service) bool {
	decisions := c.allocator.decide(describeAll(found))
	all := true
	for _, s := range found {
		decided, wanted := decisions[string(s.UID)]
		if !wanted && s.Spec.LoadBalancerClass != nil {
			continue // somebody else's
		}
		c.tell(s, decided)
		if err := c.write(ctx, s, decided); err != nil {
			log.Printf("%s/%s: %v", s.Namespace, s.Name, err)
			all = false
		}
	}
	c.forget(found)
	return all
}

// tell records an Event when the reason of a refusal is new.
func (c *controller) tell(s *core.Service, decided decision) {
	uid := string(s.UID)
	if decided.refusal == c.refusals[uid] {
		return
	}
	if decided.refusal == "" {
		delete(c.refusals, uid)
		return
	}
	c.refusals[uid] = decided.refusal
	c.recorder.Event(s, core.EventTypeWarning, "AddressNotAssigned", decided.refusal)
}

// write patches the status when it says something else.
func (c *controller) write(ctx context.Context, s *core.Service, decided decision) error {
	wanted := ingress(decided)
	if slices.EqualFunc(s.Status.LoadBalancer.Ingress, wanted, sameIngress) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": wanted}}})
	if err != nil {
		return err
	}
	_, err = c.client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, meta.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	log.Printf("%s/%s: %s", s.Namespace, s.Name, decided)
	return nil
}

func (c *controller) forget(found []*core.Service) {
	present := map[string]bool{}
	for _, s := range found {
		present[string(s.UID)] = true
	}
	for uid := range c.refusals {
		if !present[uid] {
			delete(c.refusals, uid)
		}
	}
}

func ingress(decided decision) []core.LoadBalancerIngress {
	if !decided.address.IsValid() {
		return nil
	}
	mode := core.LoadBalancerIPModeVIP
	return []core.LoadBalancerIngress{{IP: decided.address.String(), IPMode: &mode}}
}

func sameIngress(a, b core.LoadBalancerIngress) bool {
	return a.IP == b.IP && a.Hostname == b.Hostname && a.IPMode != nil && b.IPMode != nil && *a.IPMode == *b.IPMode
}

func describeAll(found []*core.Service) []service {
	all := make([]service, 0, len(found))
	for _, s := range found {
		all = append(all, describe(s))
	}
	return all
}

func describe(s *core.Service) service {
	d := service{
		uid:       string(s.UID),
		name:      s.Namespace + "/" + s.Name,
		created:   s.CreationTimestamp.Time,
		wanted:    s.Spec.Type == core.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass == nil && s.DeletionTimestamp == nil,
		requested: s.Spec.LoadBalancerIP,
	}
	if given := s.Status.LoadBalancer.Ingress; len(given) == 1 {
		d.current = given[0].IP
	}
	return d
}
