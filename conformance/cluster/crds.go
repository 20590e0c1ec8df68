package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// crdsFolder gives the folder that kubectl applies for a channel of a release; empty for none.
func crdsFolder(b *builder, channel, version string) (string, error) {
	if !slices.Contains(b.versions.suites(), version) {
		return "", usageError{fmt.Sprintf("versions.json pins no CRDs %s, but %s", version, strings.Join(b.versions.suites(), " and "))}
	}
	if !slices.Contains([]string{"experimental", "standard", "none"}, channel) {
		return "", usageError{fmt.Sprintf("there is no channel %q: experimental, standard or none", channel)}
	}
	if channel == "none" {
		return "", nil
	}
	folder, err := b.ensure("crds-" + version)
	if err != nil {
		return "", err
	}
	if channel == "standard" {
		return folder, nil // the release's top folder names the standard files
	}
	return filepath.Join(folder, channel), nil
}

func applyCRDs(r record, folder string) error {
	if output, err := inClient(r, "kubectl", "apply", "--server-side", "-k", folder).CombinedOutput(); err != nil {
		return fmt.Errorf("applying %s: %w: %s", folder, err, output)
	}
	output, err := inClient(r, "kubectl", "wait", "--for=condition=Established", "--all", "crd", "--timeout=60s").CombinedOutput()
	if err != nil {
		return fmt.Errorf("waiting for the CRDs: %w: %s", err, output)
	}
	return nil
}

// crdsCommand replaces the Gateway API's CRDs: the old ones are deleted, and with them every object of theirs.
func crdsCommand(arguments []string) error {
	flags := flag.NewFlagSet("crds", flag.ContinueOnError)
	version := flags.String("crds-version", defaultSuite, "version of the Gateway API CRDs")
	if len(arguments) == 0 || strings.HasPrefix(arguments[0], "-") {
		return usageError{"usage: conformance/run crds experimental|standard|none [--crds-version VERSION]"}
	}
	if err := flags.Parse(arguments[1:]); err != nil {
		return usageError{err.Error()}
	}
	b, err := newBuilder()
	if err != nil {
		return err
	}
	folder, err := crdsFolder(b, arguments[0], *version)
	if err != nil {
		return err
	}
	running, err := runningCluster()
	if err != nil {
		return err
	}
	if err := deleteCRDs(running); err != nil {
		return err
	}
	running.CRDs = ""
	if folder != "" {
		if err := applyCRDs(running, folder); err != nil {
			return err
		}
		running.CRDs = arguments[0] + " " + *version
	}
	fmt.Fprintln(os.Stderr, "Gateway API CRDs:", orNone(running.CRDs))
	return running.write()
}

// deleteCRDs deletes the policy that guards upgrades first, because it would refuse the other channel.
func deleteCRDs(r record) error {
	policy := []string{"kubectl", "delete", "--ignore-not-found", "validatingadmissionpolicybinding,validatingadmissionpolicy", "safe-upgrades.gateway.networking.k8s.io"}
	if output, err := inClient(r, policy...).CombinedOutput(); err != nil {
		return fmt.Errorf("deleting the upgrade policy: %w: %s", err, output)
	}
	output, err := inClient(r, "kubectl", "get", "crd", "-o", "name").Output()
	if err != nil {
		return fmt.Errorf("listing CRDs: %w", err)
	}
	var names []string
	for _, name := range strings.Fields(string(output)) {
		if strings.HasSuffix(name, ".gateway.networking.k8s.io") || strings.HasSuffix(name, ".gateway.networking.x-k8s.io") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	command := append([]string{"kubectl", "delete", "--ignore-not-found", "--wait=false"}, names...)
	if output, err := inClient(r, command...).CombinedOutput(); err != nil {
		return fmt.Errorf("deleting CRDs: %w: %s", err, output)
	}
	// The API server's cleanup of a definition fails while its storage starts, and is tried again ever more seldom, after minutes
	// at last (https://github.com/operator-framework/operator-controller/issues/1437); a change makes it try at once.
	wait := append([]string{"kubectl", "wait", "--for=delete", "--timeout=5s"}, names...)
	for range 24 {
		if output, err = inClient(r, wait...).CombinedOutput(); err == nil {
			return nil
		}
		tried := "portcullis.dev/deletion-tried=" + strconv.FormatInt(time.Now().Unix(), 10)
		_ = inClient(r, append([]string{"kubectl", "annotate", "--overwrite"}, append(names, tried)...)...).Run()
	}
	why, _ := inClient(r, "kubectl", "get", "crd", "--output=custom-columns=NAME:.metadata.name,FINALIZERS:.metadata.finalizers,CONDITIONS:.status.conditions").CombinedOutput()
	return fmt.Errorf("deleting CRDs: %w: %s\n%s", err, output, why)
}
