package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// component is one program of the cluster that the node runs itself.
type component struct {
	name      string
	program   string // below /run/programs
	arguments []string
}

// componentState is what can be told about a component.
type componentState struct {
	Name     string `json:"name"`
	State    string `json:"state"` // running, paused, killed, waiting (to be started again), not started
	Pid      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts"`
	Last     string `json:"last,omitempty"` // how its last process ended
}

const (
	stateNotStarted = "not started"
	stateRunning    = "running"
	statePaused     = "paused"
	stateKilled     = "killed"
	stateWaiting    = "waiting"
)

// components gives every program with its arguments.
func components() []component {
	pki := func(name string) string { return clusterPKI + "/" + name }
	kubeconfig := func(name string) string { return clusterRun + "/" + name + ".kubeconfig" }
	return []component{
		{"etcd", "kubernetes/etcd", []string{
			"--name=node", "--data-dir=/var/lib/etcd", "--log-level=warn",
			"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster=node=http://127.0.0.1:2380",
			"--unsafe-no-fsync", "--quota-backend-bytes=4294967296",
		}},
		{"apiserver", "kubernetes/kube-apiserver", []string{
			"--etcd-servers=http://127.0.0.1:2379",
			"--advertise-address=" + nodeIP, "--secure-port=6443",
			"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
			"--client-ca-file=" + pki("ca.crt"),
			"--kubelet-certificate-authority=" + pki("ca.crt"),
			"--kubelet-client-certificate=" + pki("apiserver.crt"), "--kubelet-client-key=" + pki("apiserver.key"),
			"--kubelet-preferred-address-types=InternalIP",
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file=" + pki("service-accounts.pub"),
			"--service-account-signing-key-file=" + pki("service-accounts.key"),
			"--service-cluster-ip-range=" + serviceRange,
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--allow-privileged=true", "--profiling=false",
			"--audit-policy-file=" + clusterFiles + "/audit.yaml", "--audit-log-path=" + auditLog, "--audit-log-maxsize=0",
			"--shutdown-delay-duration=0s",
		}},
		{"controller-manager", "kubernetes/kube-controller-manager", []string{
			"--kubeconfig=" + kubeconfig("kube-controller-manager"),
			"--authentication-kubeconfig=" + kubeconfig("kube-controller-manager"),
			"--authorization-kubeconfig=" + kubeconfig("kube-controller-manager"),
			"--bind-address=127.0.0.1", "--leader-elect=false",
			"--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key"),
			"--root-ca-file=" + pki("ca.crt"),
			"--service-account-private-key-file=" + pki("service-accounts.key"),
			"--use-service-account-credentials=true",
			"--node-monitor-period=1s", "--kube-api-qps=300", "--kube-api-burst=600",
		}},
		{"scheduler", "kubernetes/kube-scheduler", []string{
			"--config=" + clusterFiles + "/kube-scheduler.yaml",
			"--authentication-kubeconfig=" + kubeconfig("kube-scheduler"),
			"--authorization-kubeconfig=" + kubeconfig("kube-scheduler"),
			"--bind-address=127.0.0.1",
		}},
		{"containerd", "containerd/containerd", []string{"--config=" + clusterFiles + "/containerd.toml", "--log-level=warn"}},
		{"kubelet", "kubernetes/kubelet", []string{
			"--config=" + clusterFiles + "/kubelet.yaml", "--kubeconfig=" + kubeconfig("kubelet"),
			"--hostname-override=node", "--node-ip=" + nodeIP,
		}},
		{"kube-proxy", "kubernetes/kube-proxy", []string{"--config=" + clusterFiles + "/kube-proxy.yaml"}},
		{"loadbalancer", "loadbalancer/loadbalancer", []string{
			"--kubeconfig=" + kubeconfig("loadbalancer"), "--pool=" + poolRange, "--static=" + poolStatic,
		}},
	}
}

// restartDelay is how long the node waits before it starts a program again that ended by itself.
const restartDelay = time.Second

// supervisor runs the components: one that ends by itself is started again, one that was killed on purpose stays away.
type supervisor struct {
	mutex      sync.Mutex
	components []component
	states     map[string]*componentState
	processes  map[string]*os.Process
}

func newSupervisor() *supervisor {
	s := &supervisor{components: components(), states: map[string]*componentState{}, processes: map[string]*os.Process{}}
	for _, c := range s.components {
		s.states[c.name] = &componentState{Name: c.name, State: stateNotStarted}
	}
	return s
}

// start starts a component that is not running.
func (s *supervisor) start(name string) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	state := s.states[name]
	if state.State == stateRunning || state.State == statePaused {
		return fmt.Errorf("%s is %s", name, state.State)
	}
	return s.launch(name)
}

// launch starts the process; the mutex is held.
func (s *supervisor) launch(name string) error {
	c := s.component(name)
	log, err := os.OpenFile(filepath.Join(clusterLogs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(filepath.Join(programs, c.program), c.arguments...)
	command.Stdout, command.Stderr = log, log
	command.Dir = "/run"
	if err := command.Start(); err != nil {
		return err
	}
	state := s.states[name]
	state.State, state.Pid = stateRunning, command.Process.Pid
	s.processes[name] = command.Process
	go s.watch(name, command)
	return nil
}

// watch waits for a component's process, and starts another when nobody wanted it to end.
func (s *supervisor) watch(name string, command *exec.Cmd) {
	_ = command.Wait() // how it ended is in ProcessState
	s.mutex.Lock()
	defer s.mutex.Unlock()
	state := s.states[name]
	if s.processes[name] != command.Process {
		return
	}
	delete(s.processes, name)
	state.Pid, state.Last = 0, command.ProcessState.String()
	if state.State == stateKilled {
		return
	}
	fmt.Printf("%s %s ended: %s\n", time.Now().Format(time.RFC3339), name, state.Last)
	state.State = stateWaiting
	time.AfterFunc(restartDelay, func() { s.restart(name) })
}

func (s *supervisor) restart(name string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	state := s.states[name]
	if state.State != stateWaiting {
		return
	}
	state.Restarts++
	if err := s.launch(name); err != nil {
		state.Last = err.Error()
		time.AfterFunc(restartDelay, func() { s.restart(name) })
	}
}

// kill ends a component at once and waits until it is gone.
func (s *supervisor) kill(name string) error {
	s.mutex.Lock()
	state, process := s.states[name], s.processes[name]
	if process == nil && state.State != stateWaiting {
		s.mutex.Unlock()
		return fmt.Errorf("%s is %s", name, state.State)
	}
	state.State = stateKilled
	s.mutex.Unlock()
	if process == nil {
		return nil
	}
	if err := process.Kill(); err != nil {
		return err
	}
	for range 200 {
		s.mutex.Lock()
		gone := s.processes[name] == nil
		s.mutex.Unlock()
		if gone {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s did not end", name)
}

// signal freezes or thaws a component.
func (s *supervisor) signal(name string, signal syscall.Signal, from, to string) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	state := s.states[name]
	if state.State != from {
		return fmt.Errorf("%s is %s", name, state.State)
	}
	if err := s.processes[name].Signal(signal); err != nil {
		return err
	}
	state.State = to
	return nil
}

func (s *supervisor) component(name string) component {
	for _, c := range s.components {
		if c.name == name {
			return c
		}
	}
	return component{name: name}
}

// list gives the states in the order of the components.
func (s *supervisor) list() []componentState {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var all []componentState
	for _, c := range s.components {
		all = append(all, *s.states[c.name])
	}
	return all
}

func (s *supervisor) knows(name string) bool {
	_, known := s.states[name]
	return known
}
