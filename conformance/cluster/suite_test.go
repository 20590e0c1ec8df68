package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestSuiteOptions(t *testing.T) {
	versions := []string{"v1.4.1", "v1.7.0"}
	cases := []struct {
		name      string
		arguments []string
		whole     bool
		fails     bool
	}{
		{"nothing", nil, true, false},
		{"profiles", []string{"--profile", "GATEWAY-HTTP,GATEWAY-TLS"}, true, false},
		{"one test", []string{"--run", "A"}, false, false},
		{"a single test", []string{"--single", "A"}, false, false},
		{"left out", []string{"--skip", "A"}, false, false},
		{"both", []string{"--run", "A", "--single", "B"}, false, true},
		{"unknown version", []string{"--version", "v1.0.0"}, false, true},
		{"an argument", []string{"A"}, false, true},
	}
	for _, c := range cases {
		o, err := parseSuiteOptions(c.arguments, versions)
		if (err != nil) != c.fails {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && o.whole() != c.whole {
			t.Errorf("%s: whole %v", c.name, o.whole())
		}
	}
}

// The features come from the GatewayClass alone, and only a whole run writes a report.
func TestSuiteArguments(t *testing.T) {
	whole := suiteOptions{profiles: []string{"GATEWAY-HTTP", "GATEWAY-TLS"}, gatewayClass: "x", parallel: 3, mode: "default"}
	arguments := whole.testArguments("/r.yaml", "v1.2.3")
	for _, wanted := range []string{"-conformance-profiles=GATEWAY-HTTP,GATEWAY-TLS", "-report-output=/r.yaml", "-test.parallel=3", "-test.run=^TestConformance$", "-version=v1.2.3"} {
		if !slices.Contains(arguments, wanted) {
			t.Errorf("%s is missing in %v", wanted, arguments)
		}
	}
	some := whole
	some.run = []string{"A", "B"}
	arguments = append(arguments, some.testArguments("/r.yaml", "v1.2.3")...)
	if !slices.Contains(arguments, "-test.run=^TestConformance$/^(A|B)$") {
		t.Errorf("no selection in %v", arguments)
	}
	for _, argument := range arguments {
		for _, never := range []string{"-supported-features", "-all-features", "-exempt-features"} {
			if strings.HasPrefix(argument, never) {
				t.Errorf("%s is given", argument)
			}
		}
	}
	if slices.ContainsFunc(some.testArguments("/r.yaml", "v1"), func(a string) bool { return strings.HasPrefix(a, "-report") }) {
		t.Error("a part of the suite writes a report")
	}
}

const testOutput = `=== RUN   TestConformance
    conformance.go:113: Running conformance tests with:
=== RUN   TestConformance/GatewayA
=== RUN   TestConformance/GatewayA/part_one
    a.go:1: 
        	Error Trace:	a.go:1
        	            				b.go:2
        	Error:      	Received unexpected error:
        	            	it broke
        	Test:       	TestConformance/GatewayA/part_one
        	Messages:   	while trying
=== RUN   TestConformance/RouteB
    b.go:1: Skipping RouteB: suite does not support X
=== RUN   TestConformance/RouteC
=== PAUSE TestConformance/RouteC
=== CONT  TestConformance/RouteC
--- FAIL: TestConformance (9.99s)
    --- FAIL: TestConformance/GatewayA (1.00s)
        --- FAIL: TestConformance/GatewayA/part_one (1.00s)
    --- SKIP: TestConformance/RouteB (0.00s)
    --- PASS: TestConformance/RouteC (2.00s)
FAIL
`

func TestFollow(t *testing.T) {
	var progress bytes.Buffer
	l := newTestLog(&progress)
	if err := l.follow(strings.NewReader(testOutput)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"GatewayA": "fail", "RouteB": "skip", "RouteC": "pass"} {
		if l.results[name] != want {
			t.Errorf("%s: %q, want %q", name, l.results[name], want)
		}
	}
	if len(l.results) != 3 || l.panicked {
		t.Errorf("results %v, panicked %v", l.results, l.panicked)
	}
	if want := "Received unexpected error: it broke (while trying)"; l.failures["GatewayA/part_one"] != want {
		t.Errorf("failures %v", l.failures)
	}
	var printed bytes.Buffer
	l.printFailures(&printed)
	if !strings.Contains(printed.String(), "failed: GatewayA\n    GatewayA/part_one: Received") {
		t.Errorf("printed %s", printed.String())
	}
	if !strings.Contains(progress.String(), "FAILED GatewayA/part_one") {
		t.Errorf("progress %s", progress.String())
	}
}

func TestFollowPanic(t *testing.T) {
	l := newTestLog(io.Discard)
	if err := l.follow(strings.NewReader("panic: test timed out after 90m0s\nrunning tests:\n")); err != nil {
		t.Fatal(err)
	}
	if !l.panicked {
		t.Error("a run that timed out counts as one that came to its end")
	}
}

const reportText = `apiVersion: gateway.networking.k8s.io/v1
gatewayAPIChannel: experimental
gatewayAPIVersion: v1.7.0
kind: ConformanceReport
mode: default
profiles:
- core:
    failedTests: [GatewayA]
    result: failure
    statistics: {Failed: 1, Passed: 39, Skipped: 0}
  extended:
    result: partial
    skippedTests: [RouteB]
    statistics: {Failed: 0, Passed: 60, Skipped: 1}
    supportedFeatures: [HTTPRouteCORS]
    unsupportedFeatures: [ListenerSet, BackendTLSPolicy]
  name: GATEWAY-HTTP
`

func TestReport(t *testing.T) {
	r, err := parseReport([]byte(reportText))
	if err != nil {
		t.Fatal(err)
	}
	if r.passed() != 99 || r.failed() != 1 || r.skipped() != 1 {
		t.Errorf("passed %d, failed %d, skipped %d", r.passed(), r.failed(), r.skipped())
	}
	if missing := r.missing([]string{"GATEWAY-HTTP", "GATEWAY-TLS"}); !slices.Equal(missing, []string{"GATEWAY-TLS"}) {
		t.Errorf("missing %v", missing)
	}
	var printed bytes.Buffer
	r.print(&printed)
	for _, wanted := range []string{"v1.7.0, experimental", "39 passed, 1 failed", "failed: GatewayA", "skipped: RouteB", "not declared: ListenerSet, BackendTLSPolicy"} {
		if !strings.Contains(printed.String(), wanted) {
			t.Errorf("%q is missing in %s", wanted, printed.String())
		}
	}
}

// A suite that failed before its tests writes a report without profiles.
func TestReportOfNothing(t *testing.T) {
	r, err := parseReport([]byte("kind: ConformanceReport\nprofiles: null\n"))
	if err != nil {
		t.Fatal(err)
	}
	if missing := r.missing([]string{"GATEWAY-HTTP"}); len(missing) != 1 {
		t.Errorf("missing %v", missing)
	}
}
