// Command control measures a Gateway API implementation's control plane in a cluster: how soon a route serves, what
// it costs, and whether changes cost requests.
//
// In: a kubeconfig, a GatewayClass, the names of the processes to watch on this machine. Out: one JSON document.
// It makes a namespace of its own and removes it in the end. It runs in the client network of the test cluster: conformance/run exec.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

// settings are the command line.
type settings struct {
	kubeconfig   string
	gatewayClass string
	image        string
	controller   string
	dataPlane    string
	routes       []int
	samples      int
	flips        int
	watch        time.Duration
	label        string
}

// report is what is printed.
type report struct {
	Label        string       `json:"label"`
	GatewayClass string       `json:"gatewayClass"`
	Sizes        []sizeReport `json:"sizes"`
	Flips        *flipReport  `json:"flips,omitempty"`
}

// sizeReport is what was measured with a number of routes.
type sizeReport struct {
	Routes int `json:"routes"`
	// Settle is the time from the last creation to attachedRoutes showing all routes, in seconds.
	Settle float64 `json:"settleSeconds"`
	// Writes are the API server's writes by status and other updates for each route that was added.
	WritesPerRoute float64 `json:"writesPerRoute"`
	// FirstAnswer is the time from the acknowledged creation to the first 200, in milliseconds.
	FirstAnswer quantiles `json:"firstAnswerMilliseconds"`
	Idle        cost      `json:"idle"`
	Changing    cost      `json:"changing"`
	// Changes were made in each second of Changing.
	ChangesPerSecond float64 `json:"changesPerSecond"`
}

func main() {
	var s settings
	var routes string
	flag.StringVar(&s.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "how to reach the cluster")
	flag.StringVar(&s.gatewayClass, "gateway-class", "portcullis", "the GatewayClass to measure")
	flag.StringVar(&s.image, "image", "registry.k8s.io/gateway-api/conformance/echo-basic:v0.1.0", "the backend's image")
	flag.StringVar(&s.controller, "controller", "portcullis controller", "part of the command line of the control plane's processes")
	flag.StringVar(&s.dataPlane, "data-plane", "portcullis data-plane", "part of the command line of the data plane's processes")
	flag.StringVar(&routes, "routes", "0,1000,5000", "numbers of routes, ascending")
	flag.IntVar(&s.samples, "samples", 100, "how many routes are created and asked for at each number")
	flag.IntVar(&s.flips, "flips", 200, "how often a route's backend is changed under load")
	flag.DurationVar(&s.watch, "watch", 10*time.Second, "how long processes are watched idle, and changing")
	flag.StringVar(&s.label, "label", "", "a name for the report")
	flag.Parse()
	for _, text := range strings.Split(routes, ",") {
		number, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || number < 0 {
			fail(fmt.Errorf("--routes: %q is not a number of routes", text))
		}
		s.routes = append(s.routes, number)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	result, err := measure(ctx, s)
	if err != nil {
		fail(err)
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(result); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func say(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, arguments...)...)
}

func measure(ctx context.Context, s settings) (*report, error) {
	bed, err := newBed(ctx, s)
	if err != nil {
		return nil, err
	}
	defer bed.remove()
	result := &report{Label: s.label, GatewayClass: s.gatewayClass}
	present := 0
	for _, routes := range s.routes {
		size, err := bed.measureSize(ctx, s, present, routes)
		if err != nil {
			return nil, fmt.Errorf("with %d routes: %w", routes, err)
		}
		present = routes
		result.Sizes = append(result.Sizes, *size)
	}
	if s.flips > 0 {
		if result.Flips, err = bed.flip(ctx, s.flips, 200*time.Millisecond); err != nil {
			return nil, fmt.Errorf("route flips: %w", err)
		}
	}
	return result, nil
}

func (b *bed) measureSize(ctx context.Context, s settings, present, routes int) (*sizeReport, error) {
	size := &sizeReport{Routes: routes}
	if added := routes - present; added > 0 {
		say("creating %d routes", added)
		before, err := b.writes(ctx)
		if err != nil {
			return nil, err
		}
		if err := b.createRoutes(ctx, present, routes); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := b.awaitAttached(ctx, routes); err != nil {
			return nil, err
		}
		size.Settle = time.Since(start).Seconds()
		time.Sleep(2 * time.Second)
		after, err := b.writes(ctx)
		if err != nil {
			return nil, err
		}
		size.WritesPerRoute = float64(after-before-added) / float64(added)
	}
	say("%d routes: first answers", routes)
	times, err := b.firstAnswers(ctx, s.samples)
	if err != nil {
		return nil, err
	}
	size.FirstAnswer = quantilesOf(times)
	time.Sleep(3 * time.Second)
	say("%d routes: idle", routes)
	size.Idle = watch(ctx, s, s.watch, func(context.Context) int { return 0 }).cost
	say("%d routes: changing", routes)
	changing := watch(ctx, s, s.watch, func(ctx context.Context) int { return b.change(ctx, 100*time.Millisecond) })
	size.Changing = changing.cost
	size.ChangesPerSecond = float64(changing.changes) / s.watch.Seconds()
	return size, nil
}
