package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"text/template"
	"time"
)

// The files of the node's programs, templates over nodeFacts.
//
//go:embed files
var nodeFiles embed.FS

// nodeFacts fills the templates.
type nodeFacts struct {
	NodeIP, DNSIP, PodRange  string
	PauseImage, CorednsImage string
	CgroupRoot               string
}

// nodeConfig is what up tells the node.
type nodeConfig struct {
	CgroupRoot string `json:"cgroup_root"`
	CRDs       bool   `json:"crds"` // apply those of /run/programs/crds
}

// nodeCommand is the cluster's second process: it configures the network, starts every program in order, and
// then answers on its control socket. In: node.json and the pki folder. Out: a cluster, and progress for up.
func nodeCommand(arguments []string) error {
	if len(arguments) != 1 {
		return usageError{"internal-node is started by up"}
	}
	if err := os.Setenv("PATH", strings.Join([]string{programs + "/containerd", programs + "/kubernetes", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}, ":")); err != nil {
		return err
	}
	n := &node{supervisor: newSupervisor(), started: time.Now()}
	listener, err := net.Listen("unix", clusterRun+"/control.sock")
	if err != nil {
		return err
	}
	go func() {
		if err := n.bringUp(arguments[0]); err != nil {
			n.report("", err)
		}
	}()
	return http.Serve(listener, n.handler())
}

// node starts the cluster and knows how far it has come.
type node struct {
	supervisor *supervisor
	started    time.Time

	mutex sync.Mutex
	phase string
	ready bool
	fault error
}

// nodeStatus is the answer to GET /status.
type nodeStatus struct {
	Phase      string           `json:"phase"`
	Ready      bool             `json:"ready"`
	Error      string           `json:"error,omitempty"`
	Components []componentState `json:"components"`
}

func (n *node) report(phase string, err error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if err != nil {
		n.fault = err
		fmt.Printf("%6.2fs failed: %v\n", time.Since(n.started).Seconds(), err)
		return
	}
	n.phase = phase
	fmt.Printf("%6.2fs %s\n", time.Since(n.started).Seconds(), phase)
}

func (n *node) status() nodeStatus {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	status := nodeStatus{Phase: n.phase, Ready: n.ready, Components: n.supervisor.list()}
	if n.fault != nil {
		status.Error = n.fault.Error()
	}
	return status
}

// bringUp starts everything; what does not need each other starts side by side.
func (n *node) bringUp(client string) error {
	n.report("configuring the network", nil)
	config, err := readNodeConfig()
	if err != nil {
		return err
	}
	if err := writeFiles(config); err != nil {
		return err
	}
	if err := configureNetwork(client); err != nil {
		return err
	}
	imported := make(chan error, 1)
	if err := n.startAll("etcd", "containerd"); err != nil {
		return err
	}
	go func() { imported <- importImages() }()
	n.report("waiting for etcd", nil)
	if err := waitFor(20*time.Second, "etcd", func() error { return connect("tcp", "127.0.0.1:2379") }); err != nil {
		return err
	}
	if err := n.startAll("apiserver"); err != nil {
		return err
	}
	api, err := newAPI()
	if err != nil {
		return err
	}
	n.report("waiting for the API server", nil)
	if err := waitFor(90*time.Second, "the API server", func() error { return api.get("/readyz", nil) }); err != nil {
		return err
	}
	if err := n.startAll("controller-manager", "scheduler", "kube-proxy", "loadbalancer"); err != nil {
		return err
	}
	if err := kubectl("apply", "--server-side", "-f", clusterFiles+"/dns.yaml"); err != nil {
		return err
	}
	crds := make(chan error, 1)
	go func() { crds <- applyGatewayCRDs(config) }()
	n.report("waiting for the images", nil)
	if err := <-imported; err != nil {
		return err
	}
	if err := n.startAll("kubelet"); err != nil {
		return err
	}
	n.report("waiting for the node", nil)
	if err := waitFor(60*time.Second, "the node", api.nodeReady); err != nil {
		return err
	}
	n.report("waiting for DNS", nil)
	if err := waitFor(60*time.Second, "DNS", api.dnsReady); err != nil {
		return err
	}
	n.report("waiting for the CRDs", nil)
	if err := <-crds; err != nil {
		return err
	}
	n.report("ready", nil)
	n.mutex.Lock()
	n.ready = true
	n.mutex.Unlock()
	return nil
}

func (n *node) startAll(names ...string) error {
	for _, name := range names {
		if err := n.supervisor.start(name); err != nil {
			return err
		}
	}
	return nil
}

func readNodeConfig() (nodeConfig, error) {
	var config nodeConfig
	text, err := os.ReadFile(clusterRun + "/node.json")
	if err != nil {
		return config, err
	}
	return config, json.Unmarshal(text, &config)
}

// writeFiles fills in the programs' configuration.
func writeFiles(config nodeConfig) error {
	facts := nodeFacts{
		NodeIP: nodeIP, DNSIP: dnsIP, PodRange: podRange,
		PauseImage: pauseImage, CorednsImage: corednsImage, CgroupRoot: config.CgroupRoot,
	}
	if err := os.MkdirAll(clusterLogs, 0o755); err != nil {
		return err
	}
	return fs.WalkDir(nodeFiles, "files", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		place := filepath.Join(clusterRun, path)
		if filepath.Base(filepath.Dir(path)) == "cni" {
			place = filepath.Join(clusterRun, "cni", entry.Name())
		}
		return writeTemplate(path, place, facts)
	})
}

func writeTemplate(source, place string, facts nodeFacts) error {
	parsed, err := template.New(filepath.Base(source)).Option("missingkey=error").ParseFS(nodeFiles, source)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := parsed.Execute(&text, facts); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return err
	}
	return os.WriteFile(place, text.Bytes(), 0o644)
}

func importImages() error {
	if err := waitFor(30*time.Second, "containerd", func() error { return connect("unix", containerdAPI) }); err != nil {
		return err
	}
	return run("ctr", "--address", containerdAPI, "-n", "k8s.io", "images", "import", "--local", programs+"/images/images.tar")
}

func applyGatewayCRDs(config nodeConfig) error {
	if !config.CRDs {
		return nil
	}
	if err := kubectl("apply", "--server-side", "-k", programs+"/crds"); err != nil {
		return err
	}
	return kubectl("wait", "--for=condition=Established", "--all", "crd", "--timeout=60s")
}

func kubectl(arguments ...string) error {
	return run("kubectl", append([]string{"--kubeconfig", clusterRun + "/admin.kubeconfig"}, arguments...)...)
}

// run runs a program to its end; what it said becomes part of the error.
func run(program string, arguments ...string) error {
	output, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(arguments, " "), err, output)
	}
	return nil
}

func connect(network, address string) error {
	connection, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return err
	}
	return connection.Close()
}

// waitFor tries until it succeeds; at the end of the patience it gives the last failure.
func waitFor(patience time.Duration, what string, try func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %s: %w", what, patience, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// api is the little of the Kubernetes API that the start needs.
type api struct{ client *http.Client }

func newAPI() (*api, error) {
	roots := x509.NewCertPool()
	text, err := os.ReadFile(clusterPKI + "/ca.crt")
	if err != nil {
		return nil, err
	}
	roots.AppendCertsFromPEM(text)
	certificate, err := tls.LoadX509KeyPair(clusterPKI+"/admin.crt", clusterPKI+"/admin.key")
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}}}
	return &api{client: &http.Client{Transport: transport, Timeout: 5 * time.Second}}, nil
}

func (a *api) get(path string, into any) error {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+nodeIP+":6443"+path, nil)
	if err != nil {
		return err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

func (a *api) nodeReady() error {
	var found struct {
		Spec   struct{ Taints []struct{ Key string } }
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := a.get("/api/v1/nodes/node", &found); err != nil {
		return err
	}
	for _, taint := range found.Spec.Taints {
		return fmt.Errorf("the node has the taint %s", taint.Key)
	}
	for _, condition := range found.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		if condition.Status == "True" {
			return nil
		}
		return fmt.Errorf("%s", condition.Message)
	}
	return fmt.Errorf("the node has no condition Ready")
}

func (a *api) dnsReady() error {
	var found struct {
		Status struct{ ReadyReplicas int }
	}
	if err := a.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns", &found); err != nil {
		return err
	}
	if found.Status.ReadyReplicas < 1 {
		return fmt.Errorf("no CoreDNS is ready")
	}
	return nil
}
