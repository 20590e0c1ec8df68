package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// upTargets is what the node needs from the cache; each is shown under /run/programs.
var upTargets = []string{"kubernetes", "containerd", "loadbalancer", "images"}

func upCommand(arguments []string) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	channel := flags.String("crds", "experimental", "channel of the Gateway API CRDs: experimental, standard or none")
	version := flags.String("crds-version", defaultSuite, "version of the Gateway API CRDs")
	if err := flags.Parse(arguments); err != nil {
		return usageError{err.Error()}
	}
	if flags.NArg() > 0 {
		return usageError{"up takes no argument " + flags.Arg(0)}
	}
	if missing := diagnose(); len(missing) > 0 {
		return impossibleError{missing}
	}
	b, err := newBuilder()
	if err != nil {
		return err
	}
	folders := map[string]string{}
	crds, err := crdsFolder(b, *channel, *version)
	if err != nil {
		return err
	}
	described := ""
	if crds != "" {
		folders["crds"], described = crds, *channel+" "+*version
	}
	for _, name := range upTargets {
		if folders[name], err = b.ensure(name); err != nil {
			return err
		}
	}
	begin := time.Now()
	started, err := startCluster(folders, described)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "the cluster is up after %.1fs; logs are in %s\n", time.Since(begin).Seconds(), started.state().path("var", "log", "cluster"))
	fmt.Println(started.state().kubeconfig())
	return nil
}

// startCluster starts a cluster and waits until it is ready; one that does not become ready is removed again.
func startCluster(folders map[string]string, crds string) (record, error) {
	lock, err := lockCluster()
	if err != nil {
		return record{}, err
	}
	if lock == nil {
		return record{}, errors.New("a cluster is up already: only one can be; conformance/run status shows it, conformance/run down removes it")
	}
	defer lock.Close()
	started, err := launchFresh(folders, crds, lock)
	if err != nil {
		return record{}, err
	}
	if err := awaitReady(started); err != nil {
		return record{}, fmt.Errorf("%w\nits logs are kept in %s until the next up or down", err, started.state().path("var", "log", "cluster"))
	}
	return started, nil
}

// launchFresh removes what earlier clusters left, and launches.
func launchFresh(folders map[string]string, crds string, lock *os.File) (record, error) {
	unlock, err := lockOperation()
	if err != nil {
		return record{}, err
	}
	defer unlock()
	if err := removeLeftovers(); err != nil {
		return record{}, err
	}
	started, err := launch(folders, crds, lock)
	if err != nil {
		return record{}, errors.Join(err, removeLeftovers())
	}
	return started, nil
}

// launch makes the state folder and starts the first process, which takes the lock over.
func launch(folders map[string]string, crds string, lock *os.File) (record, error) {
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return record{}, err
	}
	r := record{ID: hex.EncodeToString(id), Folders: folders, CRDs: crds, StartedAt: time.Now()}
	r.Cgroup = cgroupOf(r.ID)
	// Written before anything exists, so that whatever comes to exist can be found and removed.
	if err := r.write(); err != nil {
		return r, err
	}
	if err := prepareState(r); err != nil {
		return r, err
	}
	bindings, err := json.Marshal(folders)
	if err != nil {
		return r, err
	}
	log, err := os.Create(r.state().initLog())
	if err != nil {
		return r, err
	}
	defer log.Close()
	command := exec.Command("/proc/self/exe", "internal-init", string(r.state()), string(bindings))
	command.Stdout, command.Stderr = log, log
	command.Dir = "/"
	command.Env = []string{"HOME=/run", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	command.ExtraFiles = []*os.File{lock}
	command.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := command.Start(); err != nil {
		return r, fmt.Errorf("starting the cluster's first process: %w", err)
	}
	go func() { _ = command.Wait() }() // or it would stay a zombie while up waits
	r.Init.Pid = command.Process.Pid
	if r.Init.Start, err = startTime(r.Init.Pid); err != nil {
		return r, errors.Join(fmt.Errorf("the cluster's first process ended: %w", err), tail(r.state().initLog(), 20))
	}
	if err := r.write(); err != nil {
		return r, err
	}
	told := func() error {
		text, err := os.ReadFile(r.state().namespaces())
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &r.Client)
	}
	if err := waitFor(10*time.Second, "the cluster's first process", told); err != nil {
		return r, errors.Join(err, tail(r.state().initLog(), 20))
	}
	return r, r.write()
}

// prepareState fills the state folder with all that the node finds there.
func prepareState(r record) error {
	state := r.state()
	for _, folder := range []string{state.path("var", "log"), state.path("var", "lib"), state.path("run", "cluster"), state.path("tmp"), state.tools()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(string(state), 0o700); err != nil {
		return err
	}
	if err := os.Symlink("/run", state.path("var", "run")); err != nil {
		return err
	}
	if err := os.Chmod(state.path("tmp"), 0o1777|os.ModeSticky); err != nil {
		return err
	}
	if err := makeCgroups(r.Cgroup); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(r.Folders["kubernetes"], "kubectl"), filepath.Join(state.tools(), "kubectl")); err != nil {
		return err
	}
	config, err := json.Marshal(nodeConfig{CgroupRoot: r.Cgroup, CRDs: r.CRDs != ""})
	if err != nil {
		return err
	}
	if err := os.WriteFile(state.nodeConfig(), config, 0o600); err != nil {
		return err
	}
	return issueAll(state)
}

// issueAll makes the certificates and kubeconfigs of this start.
func issueAll(state stateFolder) error {
	a, err := newAuthority(state.path("run", "cluster", "pki"))
	if err != nil {
		return err
	}
	if err := a.writeKeyPair("service-accounts"); err != nil {
		return err
	}
	identities := []identity{
		{file: "admin", user: "admin", groups: []string{"system:masters"}},
		{file: "apiserver", user: "kube-apiserver", groups: []string{"system:masters"}, ips: []string{"127.0.0.1", nodeIP, apiServerIP},
			names: []string{"localhost", "node", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}},
		{file: "kube-controller-manager", user: "system:kube-controller-manager"},
		{file: "kube-scheduler", user: "system:kube-scheduler"},
		{file: "kube-proxy", user: "system:kube-proxy"},
		{file: "kubelet", user: "system:node:node", groups: []string{"system:nodes"}, names: []string{"node"}, ips: []string{nodeIP, "127.0.0.1"}},
		{file: "loadbalancer", user: "loadbalancer", groups: []string{"system:masters"}},
	}
	for _, id := range identities {
		if err := a.issue(id); err != nil {
			return err
		}
		if err := a.kubeconfig(state.path("run", "cluster", id.file+".kubeconfig"), id.file); err != nil {
			return err
		}
	}
	return a.kubeconfig(state.kubeconfig(), "admin")
}

// awaitReady waits until the node says that it is ready, and stops it when it fails or the user gives up.
func awaitReady(r record) error {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	node := newControl(r.state())
	phase := ""
	deadline := time.Now().Add(5 * time.Minute)
	for {
		select {
		case <-interrupted:
			return errors.Join(errors.New("interrupted"), stopProcesses(r))
		case <-time.After(100 * time.Millisecond):
		}
		if !r.Init.alive() {
			return errors.Join(errors.New("the cluster ended"), tail(r.state().initLog(), 20))
		}
		status, err := node.status()
		if err != nil {
			status = nodeStatus{Phase: "starting"}
		}
		if status.Phase != phase {
			phase = status.Phase
			fmt.Fprintf(os.Stderr, "%5.1fs %s\n", time.Since(r.StartedAt).Seconds(), phase)
		}
		if status.Ready {
			return nil
		}
		if status.Error != "" || time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("the cluster did not come up: %s (while %s)", status.Error, phase), stopProcesses(r))
		}
	}
}

// tail is a log's end as an error.
func tail(path string, lines int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return errors.New(strings.Join(all, "\n"))
}
