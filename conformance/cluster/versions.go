package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// versions is versions.json: the one place where every version of the test cluster is pinned.
type versions struct {
	Toolchain      string                    `json:"toolchain"`
	Modules        map[string]moduleVersions `json:"modules"`
	DebianPackages []string                  `json:"debian_packages"`
}

// moduleVersions pins one Go module of ours: what its go.mod must require, and the toolchain that builds it.
type moduleVersions struct {
	Toolchain string            `json:"toolchain"`
	Requires  map[string]string `json:"requires"`
}

func readVersions(conformance string) (versions, error) {
	var read versions
	text, err := os.ReadFile(filepath.Join(conformance, "versions.json"))
	if err != nil {
		return read, err
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return read, fmt.Errorf("versions.json: %w", err)
	}
	return read, nil
}

func (v versions) toolchain(module string) string {
	if own := v.Modules[module].Toolchain; own != "" {
		return own
	}
	return v.Toolchain
}

// require gives the pinned version of one requirement, without its "v".
func (v versions) require(module, path string) string {
	return strings.TrimPrefix(v.Modules[module].Requires[path], "v")
}

// suites lists the versions of the official suite that are pinned.
func (v versions) suites() []string {
	var found []string
	for name := range v.Modules {
		if version, isSuite := strings.CutPrefix(name, "suite-"); isSuite {
			found = append(found, version)
		}
	}
	slices.Sort(found)
	return found
}

// check compares a module's go.mod with what versions.json pins, so that neither can drift alone.
func (v versions) check(module, goMod string) error {
	required := requirements(goMod)
	var problems []error
	for path, version := range v.Modules[module].Requires {
		if required[path] != version {
			problems = append(problems, fmt.Errorf("%s/go.mod requires %s %s, versions.json pins %s: make them equal", module, path, required[path], version))
		}
	}
	return errors.Join(problems...)
}

var requirement = regexp.MustCompile(`^(?:require\s+)?([^\s()]+\.[^\s()]+/[^\s()]+|[^\s()]+\.[^\s()]+)\s+(v[^\s]+)(\s+// indirect)?$`)

// requirements reads the direct and indirect requirements of a go.mod.
func requirements(goMod string) map[string]string {
	found := map[string]string{}
	for _, line := range strings.Split(goMod, "\n") {
		if match := requirement.FindStringSubmatch(strings.TrimSpace(line)); match != nil {
			found[match[1]] = match[2]
		}
	}
	return found
}
