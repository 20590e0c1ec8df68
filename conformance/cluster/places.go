package main

import (
	"errors"
	"os"
	"path/filepath"
)

// Where things lie on the host. Inside the node, var, run and tmp of the state folder are mounted over the
// machine's own /var, /run and /tmp, so that every program keeps its default paths and reaches nothing else.

// conformanceFolder is the folder of versions.json and the modules.
func conformanceFolder() (string, error) {
	folder := os.Getenv("PORTCULLIS_CONFORMANCE_DIR")
	if folder == "" {
		return "", errors.New("PORTCULLIS_CONFORMANCE_DIR is not set: start this command through conformance/run")
	}
	return folder, nil
}

// cacheFolder holds the built binaries.
func cacheFolder() (string, error) {
	if folder := os.Getenv("PORTCULLIS_CONFORMANCE_CACHE"); folder != "" {
		return filepath.Abs(folder)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".cache", "portcullis-conformance"), nil
}

// stateBase holds the lock, the record of the running cluster, and one fresh folder per start.
func stateBase() string {
	if folder := os.Getenv("PORTCULLIS_CONFORMANCE_STATE"); folder != "" {
		return filepath.Clean(folder)
	}
	return "/var/lib/portcullis-conformance"
}

// stateFolder is the folder of one start of the cluster.
type stateFolder string

func (s stateFolder) path(parts ...string) string {
	return filepath.Join(append([]string{string(s)}, parts...)...)
}

func (s stateFolder) kubeconfig() string    { return s.path("kubeconfig") }
func (s stateFolder) tools() string         { return s.path("bin") }
func (s stateFolder) initLog() string       { return s.path("node.log") }
func (s stateFolder) namespaces() string    { return s.path("namespaces.json") }
func (s stateFolder) controlSocket() string { return s.path("run", "cluster", "control.sock") }
func (s stateFolder) nodeConfig() string    { return s.path("run", "cluster", "node.json") }
func (s stateFolder) log(component string) string {
	return s.path("var", "log", "cluster", component+".log")
}

// Where things lie inside the node.
const (
	clusterRun    = "/run/cluster"
	clusterPKI    = clusterRun + "/pki"
	clusterFiles  = clusterRun + "/files"
	clusterLogs   = "/var/log/cluster"
	auditLog      = clusterLogs + "/audit.log"
	programs      = "/run/programs"
	containerdAPI = "/run/containerd/containerd.sock"
)
