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
	"slices"
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
	controlGroup string
	routes       []int
	samples      int
	flips        int
	pace         time.Duration
	connections  int
	load         int
	watch        time.Duration
	label        string
	keep         bool
}

// report is what is printed.
type report struct {
	Label        string       `json:"label"`
	GatewayClass string       `json:"gatewayClass"`
	Started      time.Time    `json:"started"`
	LoadAverage  [2]string    `json:"loadAverage"`
	Sizes        []sizeReport `json:"sizes"`
	// Failure is why there are no more sizes.
	Failure string `json:"failure,omitempty"`
}

// sizeReport is what was measured with a number of routes.
type sizeReport struct {
	Routes   int             `json:"routes"`
	Addition *additionReport `json:"addition,omitempty"`
	// FirstAnswer is the time from the acknowledged creation to the first 200.
	FirstAnswer quantiles `json:"firstAnswerMilliseconds"`
	// FirstAnswerTold is the part of it until a watch of this program's own showed the route, FirstAnswerRest what came after that.
	FirstAnswerTold quantiles `json:"firstAnswerToldMilliseconds"`
	FirstAnswerRest quantiles `json:"firstAnswerRestMilliseconds"`
	Idle            cost      `json:"idle"`
	Changing        cost      `json:"changing"`
	// ChangesPerSecond were made while Changing.
	ChangesPerSecond float64 `json:"changesPerSecond"`
	// ControllerPerChange and DataPlanePerChange are milliseconds of CPU.
	ControllerPerChange float64 `json:"controllerCpuMillisecondsPerChange"`
	DataPlanePerChange  float64 `json:"dataPlaneCpuMillisecondsPerChange"`
	// Flips are changes under load.
	Flips *flipReport `json:"flips,omitempty"`
}

func main() {
	var s settings
	var routes string
	flag.StringVar(&s.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "how to reach the cluster")
	flag.StringVar(&s.gatewayClass, "gateway-class", "portcullis", "the GatewayClass to measure")
	flag.StringVar(&s.image, "image", "registry.k8s.io/gateway-api/conformance/echo-basic:v0.1.0", "the backend's image")
	flag.StringVar(&s.controller, "controller", "portcullis controller", "parts of the command lines of the control plane's processes")
	flag.StringVar(&s.dataPlane, "data-plane", "portcullis data-plane", "parts of the command lines of the data plane's processes")
	flag.StringVar(&s.controlGroup, "control-group", "", "part of the name of the control group that these processes are in")
	flag.StringVar(&routes, "routes", "0,1000,5000", "numbers of routes, ascending")
	flag.IntVar(&s.samples, "samples", 100, "how many routes are created and asked for at each number")
	flag.IntVar(&s.flips, "flips", 200, "how often a route's backend is changed under load")
	flag.DurationVar(&s.pace, "pace", 200*time.Millisecond, "the time between two of these changes")
	flag.IntVar(&s.connections, "connections", 8, "how many connections make the load")
	flag.IntVar(&s.load, "load", 1000, "requests in each second; 0 for as many as there are answers")
	flag.DurationVar(&s.watch, "watch", 10*time.Second, "how long processes are watched idle, and changing")
	flag.StringVar(&s.label, "label", "", "a name for the report")
	flag.BoolVar(&s.keep, "keep", false, "leave what was made: the cluster goes anyway")
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
	bed, err := newBed(ctx, s)
	if err != nil {
		fail(err)
	}
	result, err := bed.measure(ctx, s)
	if err != nil && len(result.Sizes) > 0 {
		// What was measured before is not lost.
		say("failed: %s", err)
		result.Failure, err = err.Error(), nil
	}
	if err == nil {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(result)
	}
	if !s.keep {
		say("removing what was made")
		bed.remove()
	}
	if err != nil {
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

func (b *bed) measure(ctx context.Context, s settings) (*report, error) {
	result := &report{Label: s.label, GatewayClass: s.gatewayClass, Started: time.Now().UTC().Truncate(time.Second)}
	result.LoadAverage[0] = loadAverage()
	present := 0
	for _, routes := range s.routes {
		size, err := b.measureSize(ctx, s, present, routes)
		if err != nil {
			return result, fmt.Errorf("with %d routes: %w", routes, err)
		}
		present = routes
		result.Sizes = append(result.Sizes, *size)
	}
	result.LoadAverage[1] = loadAverage()
	return result, nil
}

func (b *bed) measureSize(ctx context.Context, s settings, present, routes int) (*sizeReport, error) {
	size := &sizeReport{Routes: routes}
	if routes > present {
		addition, err := b.add(ctx, s, present, routes)
		if err != nil {
			return nil, err
		}
		size.Addition = addition
	}
	say("%d routes: first answers", routes)
	times, err := b.firstAnswers(ctx, s.samples)
	if err != nil {
		return nil, err
	}
	size.FirstAnswer, size.FirstAnswerTold, size.FirstAnswerRest = quantilesOf(times.all), quantilesOf(times.told), quantilesOf(times.rest)
	time.Sleep(3 * time.Second)
	say("%d routes: idle", routes)
	size.Idle, _ = watch(ctx, s, func(context.Context) int { return 0 })
	say("%d routes: changing", routes)
	changing, changes := watch(ctx, s, func(ctx context.Context) int { return b.change(ctx, 100*time.Millisecond) })
	size.Changing = changing
	size.ChangesPerSecond = float64(changes) / s.watch.Seconds()
	size.ControllerPerChange = 1000 * (changing.Controller.Cores - size.Idle.Controller.Cores) / size.ChangesPerSecond
	size.DataPlanePerChange = 1000 * (changing.DataPlane.Cores - size.Idle.DataPlane.Cores) / size.ChangesPerSecond
	if s.flips > 0 {
		if size.Flips, err = b.flip(ctx, s); err != nil {
			return nil, fmt.Errorf("flips: %w", err)
		}
	}
	return size, nil
}

// loadAverage is that of the whole machine: what else it did.
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return ""
	}
	return strings.Join(fields[:3], " ")
}

// quantiles of a series, in milliseconds.
type quantiles struct {
	Samples int     `json:"samples"`
	Median  float64 `json:"median"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
}

func quantilesOf(times []time.Duration) quantiles {
	if len(times) == 0 {
		return quantiles{}
	}
	slices.Sort(times)
	// The smallest value that so many are not above.
	at := func(percent int) float64 {
		return milliseconds(times[max(0, (len(times)*percent+99)/100-1)])
	}
	return quantiles{Samples: len(times), Median: at(50), P99: at(99), Max: at(100)}
}

func milliseconds(duration time.Duration) float64 { return float64(duration.Microseconds()) / 1000 }
