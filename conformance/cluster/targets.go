package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// target is one entry of the cache.
type target struct {
	name   string
	group  string // cluster: what up needs; suite, helm and monitoring: built when first used
	module string // the module of ours that it is built in
	// inputs says, beside the module's files and toolchain, what the result depends on: flags and other targets.
	inputs []string
	needs  []string
	build  func(b *builder, folder string) error
}

// kubernetesPrograms are the names that the one binary answers to.
var kubernetesPrograms = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}

func targets(pinned versions) []target {
	all := []target{
		kubernetesTarget(pinned),
		containerdTarget(pinned),
		programTarget("coredns", "coredns", "", "github.com/coredns/coredns"),
		programTarget("echo-basic", "echo-basic", "", "sigs.k8s.io/gateway-api/conformance/echo-basic"),
		programTarget("pause", "cluster", "", "./pause"),
		programTarget("loadbalancer", "loadbalancer", "", "."),
		imagesTarget(),
		helmTarget(pinned),
		prometheusTarget(),
	}
	for _, version := range pinned.suites() {
		all = append(all, suiteTarget(version), crdsTarget(version))
	}
	return all
}

// programTarget is one program from one package.
func programTarget(name, module, linkerFlags, what string) target {
	return target{
		name: name, group: "cluster", module: module, inputs: []string{linkerFlags, what},
		build: func(b *builder, folder string) error {
			return b.goBuild(module, filepath.Join(folder, name), linkerFlags, what)
		},
	}
}

func kubernetesTarget(pinned versions) target {
	version := pinned.require("kubernetes", "k8s.io/kubernetes")
	parts := strings.SplitN(version, ".", 3)
	var flags []string
	// Without a version kubectl refuses to work, and feature gates have no emulation version.
	for _, path := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags, fmt.Sprintf("-X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s", path, version, parts[0], parts[1]))
	}
	linkerFlags := strings.Join(flags, " ")
	t := programTarget("kubernetes", "kubernetes", linkerFlags, ".")
	t.inputs = append(t.inputs, kubernetesPrograms...)
	t.build = func(b *builder, folder string) error {
		if err := b.goBuild("kubernetes", filepath.Join(folder, "kubernetes"), linkerFlags, "."); err != nil {
			return err
		}
		for _, name := range kubernetesPrograms {
			if err := os.Symlink("kubernetes", filepath.Join(folder, name)); err != nil {
				return err
			}
		}
		return nil
	}
	return t
}

func containerdTarget(pinned versions) target {
	linkerFlags := "-X github.com/containerd/containerd/v2/version.Version=" + pinned.require("containerd", "github.com/containerd/containerd/v2")
	t := programTarget("containerd", "containerd", linkerFlags, "")
	t.build = func(b *builder, folder string) error {
		for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
			if err := b.goBuild("containerd", filepath.Join(folder, name), linkerFlags, "github.com/containerd/containerd/v2/cmd/"+name); err != nil {
				return err
			}
		}
		return nil
	}
	return t
}

func helmTarget(pinned versions) target {
	linkerFlags := "-X helm.sh/helm/v4/internal/version.version=v" + pinned.require("helm", "helm.sh/helm/v4")
	t := programTarget("helm", "helm", linkerFlags, "helm.sh/helm/v4/cmd/helm")
	t.group = "helm"
	return t
}

// prometheusTarget finds nothing but Pods and files: the clouds' discovery is most of its size.
func prometheusTarget() target {
	const tags = "remove_all_sd,enable_kubernetes_sd"
	return target{
		name: "prometheus", group: "monitoring", module: "prometheus", inputs: []string{tags},
		build: func(b *builder, folder string) error {
			_, err := b.golang("prometheus", "build", "-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", "-s -w", "-o", folder+"/",
				"github.com/prometheus/prometheus/cmd/prometheus", "github.com/prometheus/prometheus/cmd/promtool")
			return err
		},
	}
}

// suiteTarget is the official suite as a test binary.
func suiteTarget(version string) target {
	module := "suite-" + version
	return target{
		name: module, group: "suite", module: module,
		build: func(b *builder, folder string) error {
			_, err := b.golang(module, "test", "-c", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(folder, "suite"), ".")
			return err
		},
	}
}

// crdsTarget is the CRDs of one release, copied from its Go module.
func crdsTarget(version string) target {
	module := "suite-" + version
	return target{
		name: "crds-" + version, group: "cluster", module: module,
		build: func(b *builder, folder string) error {
			if _, err := b.golang(module, "mod", "download", "sigs.k8s.io/gateway-api"); err != nil {
				return err
			}
			source, err := b.golang(module, "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api")
			if err != nil {
				return err
			}
			return os.CopyFS(folder, os.DirFS(filepath.Join(source, "config", "crd")))
		},
	}
}

// folder gives the place of a target in the cache: its name and the hash of all that it is made of.
func (b *builder) folder(t target) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, t.name, runtime.GOARCH, b.versions.toolchain(t.module), strings.Join(t.inputs, "\n"))
	for _, name := range t.needs {
		needed, err := b.folder(b.target(name))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(hash, filepath.Base(needed))
	}
	if t.module != "" {
		folder := b.moduleFolder(t.module)
		if t.module == "cluster" {
			folder = filepath.Join(folder, "pause") // all that a target takes from there
		}
		if err := hashFiles(hash, folder); err != nil {
			return "", err
		}
	}
	return filepath.Join(b.cache, t.name+"-"+hex.EncodeToString(hash.Sum(nil))[:16]), nil
}

// hashFiles adds the names and contents of a module's files, except tests of our own programs.
func hashFiles(hash io.Writer, folder string) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if strings.HasSuffix(path, "_test.go") && entry.Name() != "conformance_test.go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(hash, "%s %x\n", relative, sha256.Sum256(text))
		return nil
	})
}

func packagesCommand([]string) error {
	b, err := newBuilder()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("only root can install packages; the cluster needs: %s", strings.Join(b.versions.DebianPackages, " "))
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("there is no apt-get here; install what these Debian packages carry: %s", strings.Join(b.versions.DebianPackages, " "))
	}
	if installed(b.versions.DebianPackages) {
		return nil
	}
	if err := aptGet("update", "-qq"); err != nil {
		return err
	}
	return aptGet(append([]string{"install", "-y", "-qq", "--no-install-recommends"}, b.versions.DebianPackages...)...)
}

func installed(packages []string) bool {
	output, err := exec.Command("dpkg-query", append([]string{"-W", "-f", "${db:Status-Abbrev}\n"}, packages...)...).Output()
	return err == nil && strings.Count(string(output), "ii") == len(packages)
}

func aptGet(arguments ...string) error {
	command := exec.Command("apt-get", arguments...)
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w", strings.Join(arguments, " "), err)
	}
	return nil
}
