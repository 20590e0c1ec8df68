package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// builder fills the cache of binaries. A built target is a folder named after it and the hash of all that it is
// made of, so that a warm cache needs no Go and an old one is never taken for a new one.
type builder struct {
	conformance string
	cache       string
	versions    versions
	targets     []target
}

func newBuilder() (*builder, error) {
	conformance, err := conformanceFolder()
	if err != nil {
		return nil, err
	}
	cache, err := cacheFolder()
	if err != nil {
		return nil, err
	}
	pinned, err := readVersions(conformance)
	if err != nil {
		return nil, err
	}
	return &builder{conformance: conformance, cache: cache, versions: pinned, targets: targets(pinned)}, nil
}

func buildCommand(arguments []string) error {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	list := flags.Bool("list", false, "only say what is built and what would be")
	prune := flags.Bool("prune", false, "remove what the present sources no longer name")
	if err := flags.Parse(arguments); err != nil {
		return usageError{err.Error()}
	}
	b, err := newBuilder()
	if err != nil {
		return err
	}
	chosen, err := b.choose(flags.Args())
	if err != nil {
		return err
	}
	if *list {
		return b.list(chosen)
	}
	for _, t := range chosen {
		if _, err := b.ensure(t.name); err != nil {
			return err
		}
	}
	if *prune {
		return b.prune()
	}
	return nil
}

// choose turns names of targets and groups into targets; no name means all of them.
func (b *builder) choose(names []string) ([]target, error) {
	if len(names) == 0 {
		return b.targets, nil
	}
	var chosen []target
	for _, name := range names {
		before := len(chosen)
		for _, t := range b.targets {
			if t.name == name || t.group == name {
				chosen = append(chosen, t)
			}
		}
		if len(chosen) == before {
			return nil, usageError{fmt.Sprintf("there is no target %q: build --list shows them", name)}
		}
	}
	return chosen, nil
}

func (b *builder) list(chosen []target) error {
	for _, t := range chosen {
		folder, err := b.folder(t)
		if err != nil {
			return err
		}
		state := "to build"
		if _, err := os.Stat(folder); err == nil {
			state = "built"
		}
		fmt.Printf("%-14s %-12s %-9s %s\n", t.name, t.group, state, folder)
	}
	return nil
}

// ensure gives the folder of a target, building it first when it is not in the cache.
func (b *builder) ensure(name string) (string, error) {
	t := b.target(name)
	folder, err := b.folder(t)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	for _, needed := range t.needs {
		if _, err := b.ensure(needed); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(filepath.Join(b.cache, "build.lock"), "waiting for another build of the test cluster's binaries")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	return folder, b.build(t, folder)
}

// build makes a target in a folder beside its place and moves it there when it is whole.
func (b *builder) build(t target, folder string) error {
	if t.module != "" {
		goMod, err := os.ReadFile(filepath.Join(b.moduleFolder(t.module), "go.mod"))
		if err != nil {
			return err
		}
		if err := b.versions.check(t.module, string(goMod)); err != nil {
			return err
		}
	}
	unfinished := folder + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.MkdirAll(unfinished, 0o755); err != nil {
		return err
	}
	start := time.Now()
	fmt.Fprintf(os.Stderr, "building %s\n", t.name)
	if err := t.build(b, unfinished); err != nil {
		return fmt.Errorf("building %s: %w", t.name, err)
	}
	if err := os.Rename(unfinished, folder); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "built %s in %s\n", t.name, time.Since(start).Round(time.Second))
	return nil
}

// prune removes every target whose hash the present sources do not give.
func (b *builder) prune() error {
	keep := []string{"command", "build.lock", "logs"}
	for _, t := range b.targets {
		folder, err := b.folder(t)
		if err != nil {
			return err
		}
		keep = append(keep, filepath.Base(folder))
	}
	entries, err := os.ReadDir(b.cache)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if slices.Contains(keep, entry.Name()) {
			continue
		}
		fmt.Fprintf(os.Stderr, "removing %s\n", entry.Name())
		if err := os.RemoveAll(filepath.Join(b.cache, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) target(name string) target {
	for _, t := range b.targets {
		if t.name == name {
			return t
		}
	}
	return target{name: name, build: func(*builder, string) error {
		return fmt.Errorf("versions.json pins nothing of this name")
	}}
}

func (b *builder) moduleFolder(module string) string {
	if module == "cluster" || module == "loadbalancer" {
		return filepath.Join(b.conformance, module)
	}
	return filepath.Join(b.conformance, "modules", module)
}

// golang runs the Go command in one of the modules, with its pinned toolchain, at low priority.
func (b *builder) golang(module string, arguments ...string) (string, error) {
	command := exec.Command("nice", append([]string{"go"}, arguments...)...)
	command.Dir = b.moduleFolder(module)
	command.Env = append(os.Environ(), "GOTOOLCHAIN="+b.versions.toolchain(module), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go %s (in %s): %w", strings.Join(arguments, " "), module, err)
	}
	return strings.TrimSpace(string(output)), nil
}

// goBuild builds one program, without paths and symbols.
func (b *builder) goBuild(module, output, linkerFlags, what string) error {
	_, err := b.golang(module, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w "+linkerFlags, "-o", output, what)
	return err
}
