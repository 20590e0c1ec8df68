package main

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// steady is how long attachedRoutes has to stay to be settled.
const steady = 3 * time.Second

// additionReport says what adding many routes at once came to.
type additionReport struct {
	Added int `json:"added"`
	// Created is the time from the first creation to the last one acknowledged, in seconds.
	Created float64 `json:"createdSeconds"`
	// Settled is the time from the first creation until attachedRoutes shows all routes, and stays so.
	Settled float64 `json:"settledSeconds"`
	// SettledAfter is the same from the last creation.
	SettledAfter float64 `json:"settledAfterLastSeconds"`
	// GatewayWrites are the updates of the Gateway's status meanwhile.
	GatewayWrites int `json:"gatewayWrites"`
	// WritesPerRoute are all writes for Gateway API kinds for each route that was added, its creation not counted.
	WritesPerRoute float64 `json:"writesPerRoute"`
	// ControllerSeconds and DataPlaneSeconds are the CPU time that it took.
	ControllerSeconds float64 `json:"controllerCpuSeconds"`
	DataPlaneSeconds  float64 `json:"dataPlaneCpuSeconds"`
}

// add brings the number of routes from one to the other and waits until the Gateway's status has settled.
func (b *bed) add(ctx context.Context, s settings, from, to int) (*additionReport, error) {
	say("creating %d routes", to-from)
	before, err := b.writes(ctx)
	if err != nil {
		return nil, err
	}
	cpu := [2]map[int]float64{s.cpuOf(s.controller), s.cpuOf(s.dataPlane)}
	start := time.Now()
	if err := b.createRoutes(ctx, from, to); err != nil {
		return nil, err
	}
	created := time.Now()
	// The route called ready is one, too.
	settled, err := b.awaitAttached(ctx, to+1)
	if err != nil {
		return nil, err
	}
	after, err := b.writes(ctx)
	if err != nil {
		return nil, err
	}
	added := to - from
	return &additionReport{
		Added:             added,
		Created:           created.Sub(start).Seconds(),
		Settled:           settled.Sub(start).Seconds(),
		SettledAfter:      max(0, settled.Sub(created).Seconds()),
		GatewayWrites:     after.gateways - before.gateways,
		WritesPerRoute:    float64(after.all-before.all-added) / float64(added),
		ControllerSeconds: since(cpu[0], s.cpuOf(s.controller)),
		DataPlaneSeconds:  since(cpu[1], s.cpuOf(s.dataPlane)),
	}, nil
}

// awaitAttached waits until the Gateway has counted so many routes for some seconds, and says since when.
func (b *bed) awaitAttached(ctx context.Context, routes int) (time.Time, error) {
	var since time.Time
	last := int64(-1)
	limit := 5*time.Minute + time.Duration(routes)*100*time.Millisecond
	err := poll(ctx, limit, fmt.Sprintf("attachedRoutes to be %d", routes), func() bool {
		found, err := b.objects.Resource(gateways).Namespace(b.namespace).Get(ctx, gatewayName, metav1.GetOptions{})
		if err != nil {
			return false
		}
		attached := attachedRoutes(found)
		if attached != last {
			last, since = attached, time.Now()
		}
		return attached == int64(routes) && time.Since(since) >= steady
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("%w (it is %d)", err, last)
	}
	return since, nil
}

func attachedRoutes(gateway *unstructured.Unstructured) int64 {
	listeners, _, _ := unstructured.NestedSlice(gateway.Object, "status", "listeners")
	if len(listeners) == 0 {
		return 0
	}
	listener, _ := listeners[0].(map[string]any)
	attached, _ := listener["attachedRoutes"].(int64)
	return attached
}

// written counts what the API server has written.
type written struct {
	// all are the writes for Gateway API kinds, gateways those of a Gateway's status.
	all, gateways int
}

func (b *bed) writes(ctx context.Context) (written, error) {
	var result written
	text, err := b.clientset.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return result, err
	}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "apiserver_request_total{") || !strings.Contains(line, `group="gateway.networking.k8s.io"`) || !isWrite(line) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return result, err
		}
		result.all += int(value)
		if strings.Contains(line, `resource="gateways"`) && strings.Contains(line, `subresource="status"`) {
			result.gateways += int(value)
		}
	}
	return result, lines.Err()
}

func isWrite(line string) bool {
	for _, verb := range []string{"POST", "PUT", "PATCH", "APPLY"} {
		if strings.Contains(line, `verb="`+verb+`"`) {
			return true
		}
	}
	return false
}
