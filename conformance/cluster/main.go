// Command cluster builds, starts, drives and removes the test cluster: a real single-node Kubernetes in
// namespaces of its own, made of Go modules and Debian packages alone.
//
// In: a subcommand and its arguments, versions.json, and the Go modules beside it. Out: a running cluster, and
// what its programs say. Exit codes: 0 success, 1 failure, 2 wrong usage, 3 this machine cannot carry it.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

const (
	exitFailure    = 1
	exitUsage      = 2
	exitImpossible = 3
)

// subcommand is one word that the command understands.
type subcommand struct {
	arguments string
	about     string
	run       func(arguments []string) error
}

// subcommands is filled in init, because help refers to it.
var subcommands map[string]subcommand

func init() {
	subcommands = map[string]subcommand{
		"build":      {"[--list] [--prune] [TARGET…]", "fill the cache of binaries; without a target: all of it", buildCommand},
		"packages":   {"", "install the Debian packages that the cluster needs", packagesCommand},
		"doctor":     {"", "say whether this machine can carry the cluster, and what is missing", doctorCommand},
		"up":         {"[--crds experimental|standard|none] [--crds-version VERSION]", "start the cluster; print the kubeconfig's path", upCommand},
		"down":       {"", "stop everything, wait for it, remove all that it left", downCommand},
		"status":     {"", "show the cluster's programs and node", statusCommand},
		"logs":       {"[-f] COMPONENT", "print a program's log (audit: the API server's audit log)", logsCommand},
		"crds":       {"experimental|standard|none [--crds-version VERSION]", "replace the Gateway API CRDs", crdsCommand},
		"load-image": {"FILE…", "import docker or OCI archives into the node", loadImageCommand},
		"kubectl":    {"ARGUMENT…", "run kubectl in the client network", kubectlCommand},
		"helm":       {"ARGUMENT…", "run helm in the client network, or without a cluster", programCommand("helm", "helm")},
		"prometheus": {"ARGUMENT…", "run Prometheus in the client network, or without a cluster", programCommand("prometheus", "prometheus")},
		"promtool":   {"ARGUMENT…", "run promtool in the client network, or without a cluster", programCommand("prometheus", "promtool")},
		"exec":       {"COMMAND…", "run a command in the client network with KUBECONFIG set", execCommand},
		"node-exec":  {"COMMAND…", "run a command on the node (its network, mounts and processes)", nodeExecCommand},
		"kill":       {"COMPONENT", "kill a program; it stays away until start", controlCommand("kill")},
		"start":      {"COMPONENT", "start a killed program again, with the data it had", controlCommand("start")},
		"pause":      {"COMPONENT", "freeze a program", controlCommand("pause")},
		"resume":     {"COMPONENT", "let a frozen program go on", controlCommand("resume")},
		"smoke":      {"", "prove that Pods, DNS and LoadBalancer Services work", smokeCommand},
		"test":       {"", "check the programs of conformance/: gofmt, vet, unit tests", testCommand},
		"suite":      {"[OPTION…] (suite --help)", "run the official conformance suite", suiteCommand},
		"help":       {"", "this text", helpCommand},

		// Started by up, inside the cluster's namespaces.
		"internal-init": {"", "", initCommand},
		"internal-node": {"", "", nodeCommand},

		// Started by smoke, in the client's network.
		"internal-probe": {"", "", probeCommand},
	}
}

// usageError is a mistake in the arguments.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

// impossibleError says that this machine cannot carry the cluster.
type impossibleError struct{ missing []string }

func (e impossibleError) Error() string {
	return "this machine cannot carry the test cluster:\n  " + strings.Join(e.missing, "\n  ")
}

// silentError is a failure that has been told already.
type silentError struct{ code int }

func (e silentError) Error() string { return fmt.Sprintf("exit %d", e.code) }

func main() {
	if len(os.Args) < 2 {
		printUsage(os.Stderr)
		os.Exit(exitUsage)
	}
	name := os.Args[1]
	if name == "-h" || name == "--help" {
		name = "help"
	}
	command, known := subcommands[name]
	if !known {
		fmt.Fprintf(os.Stderr, "there is no subcommand %q\n", name)
		printUsage(os.Stderr)
		os.Exit(exitUsage)
	}
	os.Exit(exitCode(command.run(os.Args[2:])))
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var silent silentError
	if errors.As(err, &silent) {
		return silent.code
	}
	fmt.Fprintln(os.Stderr, err)
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	var impossible impossibleError
	if errors.As(err, &impossible) {
		return exitImpossible
	}
	return exitFailure
}

func helpCommand([]string) error {
	printUsage(os.Stdout)
	return nil
}

func printUsage(out io.Writer) {
	fmt.Fprintln(out, "usage: conformance/run SUBCOMMAND [ARGUMENT…]")
	names := make([]string, 0, len(subcommands))
	for name := range subcommands {
		if subcommands[name].about != "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		command := subcommands[name]
		fmt.Fprintf(out, "  %s %s\n      %s\n", name, command.arguments, command.about)
	}
}
