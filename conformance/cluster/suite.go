package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// defaultSuite is the release that the project implements.
const defaultSuite = "v1.7.0"

// What a report says of the implementation.
const (
	implementationOrganization = "portcullis"
	implementationProject      = "portcullis"
	implementationURL          = "https://portcullis.dev"
	implementationContact      = "@portcullis/maintainers"
)

// suiteNamespaces are made by the suite; those of a run that was interrupted are removed before the next.
var suiteNamespaces = []string{
	"gateway-conformance-infra", "gateway-conformance-app-backend", "gateway-conformance-web-backend",
}

// suiteOptions is what was asked for.
type suiteOptions struct {
	version      string
	profiles     []string
	run          []string
	single       string
	skip         string
	gatewayClass string
	parallel     int
	report       string
	mode         string
	keep         bool
	verbose      bool
}

func parseSuiteOptions(arguments []string, versions []string) (suiteOptions, error) {
	var o suiteOptions
	var profiles, run string
	flags := flag.NewFlagSet("suite", flag.ContinueOnError)
	flags.StringVar(&o.version, "version", defaultSuite, "release of the suite: "+strings.Join(versions, " or "))
	flags.StringVar(&profiles, "profile", "GATEWAY-HTTP", "conformance profiles, separated by commas")
	flags.StringVar(&run, "run", "", "only these tests, separated by commas, with the features that the GatewayClass declares")
	flags.StringVar(&o.single, "single", "", "only this test, whether its features are declared or not")
	flags.StringVar(&o.skip, "skip", "", "leave these tests out, separated by commas")
	flags.StringVar(&o.gatewayClass, "gateway-class", "portcullis", "GatewayClass of all Gateways of the suite")
	flags.IntVar(&o.parallel, "parallel", 4, "how many tests of the parallel phase run at once")
	flags.StringVar(&o.report, "report", "", "where the report of a whole run is written (default: below conformance/reports)")
	flags.StringVar(&o.mode, "mode", "default", "label of the mode in the report")
	flags.BoolVar(&o.keep, "keep", false, "take over and leave the suite's base resources: quicker for one test after another")
	flags.BoolVar(&o.verbose, "verbose", false, "print all that the suite prints")
	if err := flags.Parse(arguments); err != nil {
		return o, usageError{err.Error()}
	}
	if flags.NArg() > 0 {
		return o, usageError{"suite takes no argument " + flags.Arg(0)}
	}
	if !slices.Contains(versions, o.version) {
		return o, usageError{fmt.Sprintf("versions.json pins no suite %s, but %s", o.version, strings.Join(versions, " and "))}
	}
	o.profiles = splitList(profiles)
	o.run = splitList(run)
	if o.single != "" && len(o.run) > 0 {
		return o, usageError{"--run and --single exclude each other"}
	}
	return o, nil
}

func splitList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

// whole says whether every test of the profiles runs, so that the report says something.
func (o suiteOptions) whole() bool { return len(o.run) == 0 && o.single == "" && o.skip == "" }

// testArguments are the arguments of the suite's test binary. No feature is named: the suite takes them from
// the GatewayClass's status.
func (o suiteOptions) testArguments(report, implementationVersion string) []string {
	pattern := "^TestConformance$"
	if len(o.run) > 0 {
		var quoted []string
		for _, name := range o.run {
			quoted = append(quoted, regexp.QuoteMeta(name))
		}
		pattern += "/^(" + strings.Join(quoted, "|") + ")$"
	}
	arguments := []string{
		"-test.v", "-test.timeout=90m", "-test.run=" + pattern, "-test.parallel=" + strconv.Itoa(o.parallel),
		"-gateway-class=" + o.gatewayClass,
		"-conformance-profiles=" + strings.Join(o.profiles, ","),
		"-usable-address=" + usableAddress, "-unusable-address=" + unusableAddress,
		"-mode=" + o.mode,
		"-organization=" + implementationOrganization, "-project=" + implementationProject,
		"-url=" + implementationURL, "-contact=" + implementationContact, "-version=" + implementationVersion,
	}
	if o.whole() {
		arguments = append(arguments, "-report-output="+report)
	}
	if o.single != "" {
		arguments = append(arguments, "-run-test="+o.single)
	}
	if o.skip != "" {
		arguments = append(arguments, "-skip-tests="+o.skip)
	}
	if o.keep {
		arguments = append(arguments, "-cleanup-base-resources=false")
	}
	return arguments
}

func suiteCommand(arguments []string) error {
	b, err := newBuilder()
	if err != nil {
		return err
	}
	options, err := parseSuiteOptions(arguments, b.versions.suites())
	if err != nil {
		return err
	}
	running, err := runningCluster()
	if err != nil {
		return err
	}
	if !strings.HasSuffix(running.CRDs, " "+options.version) {
		return fmt.Errorf("the cluster has the CRDs %q, the suite is %s: conformance/run crds replaces them", orNone(running.CRDs), options.version)
	}
	folder, err := b.ensure("suite-" + options.version)
	if err != nil {
		return err
	}
	version, err := implementationVersion(b.conformance)
	if err != nil {
		return err
	}
	if !options.keep {
		if err := deleteSuiteNamespaces(running); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp("", "portcullis-suite-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	report := filepath.Join(work, "report.yaml")
	begin := time.Now()
	results, failed, err := runSuite(b, running, options, filepath.Join(folder, "suite"), options.testArguments(report, version), work)
	if err != nil {
		return err
	}
	fmt.Printf("\nthe suite %s took %s\n", options.version, time.Since(begin).Round(time.Second))
	if !options.whole() {
		return judgeSelection(options, results, failed)
	}
	return judgeWhole(b, running, options, results, failed, report, version)
}

// runSuite runs the test binary in the client's network and follows what it prints; all of it goes to a log.
func runSuite(b *builder, r record, o suiteOptions, binary string, arguments []string, work string) (*testLog, bool, error) {
	logs := filepath.Join(b.cache, "logs")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, false, err
	}
	log, err := os.Create(filepath.Join(logs, "suite-"+o.version+"-"+time.Now().Format("20060102-150405")+".log"))
	if err != nil {
		return nil, false, err
	}
	defer log.Close()
	fmt.Printf("running the suite %s, log: %s\n", o.version, log.Name())

	// The interrupt reaches the suite too; this process waits for its end.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)

	command := inClient(r, append([]string{binary}, arguments...)...)
	command.Dir = work
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, false, err
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		return nil, false, err
	}
	var progress io.Writer = os.Stdout
	copied := io.Writer(log)
	if o.verbose {
		progress, copied = io.Discard, io.MultiWriter(log, os.Stdout)
	}
	results := newTestLog(progress)
	if err := results.follow(io.TeeReader(output, copied)); err != nil {
		return nil, false, errors.Join(err, command.Process.Kill(), command.Wait())
	}
	err = command.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, false, err
	}
	return results, err != nil, nil
}

// judgeSelection tells how single tests went; one that did not run is a failure.
func judgeSelection(o suiteOptions, results *testLog, failed bool) error {
	wanted := o.run
	if o.single != "" {
		wanted = []string{o.single}
	}
	for _, name := range results.names() {
		if len(wanted) == 0 || slices.Contains(wanted, name) {
			fmt.Printf("%-7s %s\n", results.results[name], name)
		}
	}
	for _, name := range wanted {
		switch results.results[name] {
		case "pass":
		case "":
			fmt.Printf("%-7s %s\n", "missing", name)
			failed = true
		case "skip":
			fmt.Printf("%s needs a feature that the GatewayClass does not declare: --single runs it all the same\n", name)
			failed = true
		default:
			failed = true
		}
	}
	if failed {
		results.printFailures(os.Stdout)
		return silentError{exitFailure}
	}
	return nil
}

// judgeWhole puts the report in its place and sums it up.
func judgeWhole(b *builder, r record, o suiteOptions, results *testLog, failed bool, report, version string) error {
	text, err := os.ReadFile(report)
	if err != nil {
		return fmt.Errorf("the suite wrote no report, so it did not come to its end: %w", err)
	}
	parsed, err := parseReport(text)
	if err != nil {
		return err
	}
	if missing := parsed.missing(o.profiles); len(missing) > 0 || results.panicked {
		results.printFailures(os.Stdout)
		return fmt.Errorf("the suite did not come to its end: no results for %s", strings.Join(missing, ", "))
	}
	place := o.report
	if place == "" {
		channel, _, _ := strings.Cut(r.CRDs, " ")
		place = filepath.Join(b.conformance, "reports", o.version, channel+"-"+version+"-"+o.mode+"-report.yaml")
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(place, text, 0o644); err != nil {
		return err
	}
	parsed.print(os.Stdout)
	results.printOutside(os.Stdout, parsed)
	results.printFailures(os.Stdout)
	fmt.Println("report:", place)
	if failed || parsed.failed() > 0 || parsed.skipped() > 0 {
		fmt.Printf("FAILED: %d tests of the profiles failed, %d were skipped\n", parsed.failed(), parsed.skipped())
		return silentError{exitFailure}
	}
	fmt.Println("PASSED: nothing failed, nothing was skipped")
	return nil
}

// deleteSuiteNamespaces removes what a run that was interrupted has left.
func deleteSuiteNamespaces(r record) error {
	arguments := append([]string{"kubectl", "delete", "namespace", "--ignore-not-found", "--timeout=180s"}, suiteNamespaces...)
	if output, err := inClient(r, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("removing the suite's namespaces: %w: %s", err, output)
	}
	return nil
}

var workspaceVersion = regexp.MustCompile(`(?m)^\[workspace\.package\]\n(?:[^\[].*\n)*?version = "([^"]+)"`)

// implementationVersion is the workspace's version, as a report wants it.
func implementationVersion(conformance string) (string, error) {
	text, err := os.ReadFile(filepath.Join(conformance, "..", "Cargo.toml"))
	if err != nil {
		return "", err
	}
	match := workspaceVersion.FindSubmatch(text)
	if match == nil {
		return "", errors.New("Cargo.toml has no version in [workspace.package]")
	}
	return "v" + string(match[1]), nil
}
