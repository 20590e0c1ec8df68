package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRequirements(t *testing.T) {
	found := requirements(`module example.org/x

go 1.26.0

require example.org/single v1.0.0

require (
	k8s.io/kubernetes v1.37.2
	go.yaml.in/yaml/v3 v3.0.4
	sigs.k8s.io/yaml v1.6.0 // indirect
)

replace k8s.io/api => k8s.io/api v0.37.2
`)
	want := map[string]string{
		"example.org/single": "v1.0.0",
		"k8s.io/kubernetes":  "v1.37.2",
		"go.yaml.in/yaml/v3": "v3.0.4",
		"sigs.k8s.io/yaml":   "v1.6.0",
	}
	for path, version := range want {
		if found[path] != version {
			t.Errorf("%s: %q, want %q", path, found[path], version)
		}
	}
	if len(found) != len(want) {
		t.Errorf("found %v", found)
	}
}

// Every module requires what versions.json pins: there is one place to change a version.
func TestModulesAgreeWithVersions(t *testing.T) {
	pinned, err := readVersions("..")
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{conformance: ".."}
	for module := range pinned.Modules {
		text, err := os.ReadFile(filepath.Join(b.moduleFolder(module), "go.mod"))
		if err != nil {
			t.Error(err)
			continue
		}
		if err := pinned.check(module, string(text)); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckNamesTheDifference(t *testing.T) {
	pinned := versions{Modules: map[string]moduleVersions{"x": {Requires: map[string]string{"example.org/a": "v1.0.0"}}}}
	if err := pinned.check("x", "require example.org/a v1.0.0\n"); err != nil {
		t.Error(err)
	}
	if err := pinned.check("x", "require example.org/a v1.0.1\n"); err == nil {
		t.Error("a difference was not seen")
	}
}

func TestImplementationVersion(t *testing.T) {
	version, err := implementationVersion("..")
	if err != nil {
		t.Fatal(err)
	}
	if len(version) < 6 || version[0] != 'v' {
		t.Errorf("version %q", version)
	}
}
