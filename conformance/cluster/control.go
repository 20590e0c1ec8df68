package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The node's control socket: GET /status, POST /kill|start|pause|resume?component=NAME. Only root reaches it.

func (n *node) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(n.status()) // the caller went away
	})
	mux.HandleFunc("POST /{action}", func(w http.ResponseWriter, r *http.Request) {
		if err := n.act(r.PathValue("action"), r.URL.Query().Get("component")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	return mux
}

func (n *node) act(action, name string) error {
	if name == "coredns" {
		return actOnCoreDNS(action)
	}
	s := n.supervisor
	if !s.knows(name) {
		var names []string
		for _, c := range s.components {
			names = append(names, c.name)
		}
		return fmt.Errorf("there is no component %q: %s, coredns", name, strings.Join(names, ", "))
	}
	switch action {
	case "kill":
		return s.kill(name)
	case "start":
		return s.start(name)
	case "pause":
		return s.signal(name, syscall.SIGSTOP, stateRunning, statePaused)
	case "resume":
		return s.signal(name, syscall.SIGCONT, statePaused, stateRunning)
	}
	return fmt.Errorf("there is no action %q", action)
}

// actOnCoreDNS acts on the one component that is a Deployment: killed means no replicas.
func actOnCoreDNS(action string) error {
	scale := func(replicas int) error {
		return kubectl("-n", "kube-system",
			"scale", "deployment", "coredns", "--replicas", strconv.Itoa(replicas))
	}
	switch action {
	case "kill":
		if err := scale(0); err != nil {
			return err
		}
		return kubectl("-n", "kube-system",
			"delete", "pods", "-l", "k8s-app=kube-dns", "--grace-period=0", "--force")
	case "start":
		if err := scale(1); err != nil {
			return err
		}
		return kubectl("-n", "kube-system",
			"rollout", "status", "deployment", "coredns", "--timeout=60s")
	case "pause":
		return signalByName("coredns", syscall.SIGSTOP)
	case "resume":
		return signalByName("coredns", syscall.SIGCONT)
	}
	return fmt.Errorf("there is no action %q", action)
}

// signalByName signals the processes of this process namespace, so of this cluster alone, with a name.
func signalByName(name string, signal syscall.Signal) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	found := false
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "comm"))
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue
		}
		if err := syscall.Kill(pid, signal); err != nil {
			return err
		}
		found = true
	}
	if !found {
		return fmt.Errorf("no process is called %s", name)
	}
	return nil
}

// control talks to the socket from outside.
type control struct{ client *http.Client }

func newControl(state stateFolder) *control {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", state.controlSocket())
	}
	return &control{client: &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 90 * time.Second}}
}

func (c *control) status() (nodeStatus, error) {
	var status nodeStatus
	response, err := c.client.Get("http://node/status")
	if err != nil {
		return status, err
	}
	defer response.Body.Close()
	return status, json.NewDecoder(response.Body).Decode(&status)
}

func (c *control) act(action, component string) error {
	response, err := c.client.Post("http://node/"+action+"?component="+component, "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s", strings.TrimSpace(string(body)))
}

// controlCommand is a subcommand that acts on one component.
func controlCommand(action string) func([]string) error {
	return func(arguments []string) error {
		if len(arguments) != 1 {
			return usageError{"usage: conformance/run " + action + " COMPONENT"}
		}
		running, err := runningCluster()
		if err != nil {
			return err
		}
		return newControl(running.state()).act(action, arguments[0])
	}
}
