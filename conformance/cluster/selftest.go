package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// testCommand checks the programs of this folder: format, vet and unit tests.
func testCommand(arguments []string) error {
	if len(arguments) > 0 {
		return usageError{"test takes no argument"}
	}
	b, err := newBuilder()
	if err != nil {
		return err
	}
	modules := []string{"cluster"}
	for module := range b.versions.Modules {
		sources, err := filepath.Glob(filepath.Join(b.moduleFolder(module), "*.go"))
		if err != nil {
			return err
		}
		if len(sources) > 0 {
			modules = append(modules, module)
		}
	}
	slices.Sort(modules)
	for _, module := range modules {
		if err := b.testModule(module); err != nil {
			return err
		}
	}
	return nil
}

// testModule builds as build does, so that what is in Go's cache already is used.
func (b *builder) testModule(module string) error {
	unformatted, err := b.golang(module, "run", "cmd/gofmt", "-l", ".")
	if err != nil {
		return err
	}
	if unformatted != "" {
		return fmt.Errorf("%s: gofmt would change %s", module, unformatted)
	}
	if _, err := b.golang(module, "vet", "-trimpath", "./..."); err != nil {
		return err
	}
	if tests, err := filepath.Glob(filepath.Join(b.moduleFolder(module), "*_test.go")); err != nil || len(tests) == 0 || strings.HasPrefix(module, "suite-") {
		return err // a suite's tests are the suite
	}
	output, err := b.golang(module, "test", "-trimpath", "./...")
	fmt.Fprintln(os.Stdout, output)
	return err
}
