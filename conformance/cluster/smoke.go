package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

//go:embed smoke/smoke.yaml
var smokeManifest string

const smokeNamespace = "portcullis-smoke"

// smokeCommand proves that the cluster does what the suite needs of it.
func smokeCommand(arguments []string) error {
	if len(arguments) > 0 {
		return usageError{"smoke takes no argument"}
	}
	running, err := runningCluster()
	if err != nil {
		return err
	}
	s := smoke{running}
	if err := s.kubectl(nil, smokeManifest, "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	failed := s.check()
	if err := s.kubectl(nil, "", "delete", "namespace", smokeNamespace, "--timeout=60s"); err != nil {
		return err
	}
	if failed {
		return silentError{exitFailure}
	}
	return nil
}

type smoke struct{ cluster record }

// kubectl runs kubectl in the client's network; what it prints goes to out.
func (s smoke) kubectl(out *string, input string, arguments ...string) error {
	command := inClient(s.cluster, append([]string{"kubectl"}, arguments...)...)
	command.Stdin = strings.NewReader(input)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	printed, err := command.Output()
	if err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(arguments, " "), err, complaint.String())
	}
	if out != nil {
		*out = strings.TrimSpace(string(printed))
	}
	return nil
}

// check prints one line per check; it is true when one failed.
func (s smoke) check() bool {
	failed := false
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"restricted Pods run", s.podsRun},
		{"a Pod without the sysctl cannot bind port 80", s.lowPortIsRefused},
		{"a Service with an impossible request has no address", s.requestIsRefused},
		{"TCP, UDP, DNS and an unused address, from the client", s.probe},
	} {
		if err := c.run(); err != nil {
			failed = true
			fmt.Printf("FAILED %s: %v\n", c.name, err)
			continue
		}
		fmt.Printf("ok     %s\n", c.name)
	}
	return failed
}

func (s smoke) podsRun() error {
	return s.kubectl(nil, "", "-n", smokeNamespace, "rollout", "status", "deployment/tcp", "deployment/udp", "--timeout=60s")
}

func (s smoke) lowPortIsRefused() error {
	if err := s.kubectl(nil, "", "-n", smokeNamespace, "wait", "pod/low-port", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s"); err != nil {
		return err
	}
	var log string
	if err := s.kubectl(&log, "", "-n", smokeNamespace, "logs", "low-port"); err != nil {
		return err
	}
	if !strings.Contains(log, "permission denied") {
		return fmt.Errorf("it ended for another reason: %s", log)
	}
	return nil
}

func (s smoke) requestIsRefused() error {
	if address, err := s.field("refused", "{.status.loadBalancer.ingress[0].ip}"); err != nil || address != "" {
		return errors.Join(err, fmt.Errorf("it has the address %q", address))
	}
	return waitFor(10*time.Second, "the Event", func() error {
		var reasons string
		err := s.kubectl(&reasons, "", "-n", smokeNamespace, "get", "events", "-o", "jsonpath={.items[?(@.involvedObject.name=='refused')].reason}")
		if err == nil && !strings.Contains(reasons, "AddressNotAssigned") {
			err = fmt.Errorf("the Events are %q", reasons)
		}
		return err
	})
}

func (s smoke) field(service, path string) (string, error) {
	var value string
	err := s.kubectl(&value, "", "-n", smokeNamespace, "get", "service", service, "-o", "jsonpath="+path)
	return value, err
}

// probe runs the checks of the network in the client's.
func (s smoke) probe() error {
	var p probe
	for _, f := range []struct {
		into          *string
		service, path string
	}{
		{&p.TCP, "tcp", "{.status.loadBalancer.ingress[0].ip}"},
		{&p.UDP, "udp", "{.status.loadBalancer.ingress[0].ip}"},
		{&p.ClusterIP, "tcp", "{.spec.clusterIP}"},
	} {
		value, err := s.field(f.service, f.path)
		if err != nil {
			return err
		}
		*f.into = value
	}
	description, err := json.Marshal(p)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	output, err := inClient(s.cluster, self, "internal-probe", string(description)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(output))
	}
	return nil
}

// probe is what the client should reach.
type probe struct{ TCP, UDP, ClusterIP string }

func probeCommand(arguments []string) error {
	var p probe
	if len(arguments) != 1 || json.Unmarshal([]byte(arguments[0]), &p) != nil {
		return usageError{"internal-probe is started by smoke"}
	}
	var problems []error
	for _, c := range []struct {
		name string
		run  func() error
	}{{"TCP", p.tcp}, {"UDP", p.udp}, {"DNS", p.dns}, {"unused address", p.unused}} {
		if err := waitFor(10*time.Second, c.name, c.run); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func (p probe) tcp() error {
	client := http.Client{Timeout: 2 * time.Second}
	response, err := client.Get("http://" + p.TCP + ":8000/")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// udp uses a connected socket: the answer must come from the address and port that was asked.
func (p probe) udp() error {
	connection, err := net.DialTimeout("udp", p.UDP+":5300", time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := connection.Write([]byte("hello")); err != nil {
		return err
	}
	answer := make([]byte, 2048)
	length, err := connection.Read(answer)
	if err != nil {
		return err
	}
	if !bytes.Contains(answer[:length], []byte("hello")) {
		return fmt.Errorf("the answer is %q", answer[:length])
	}
	return nil
}

func (p probe) dns() error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, dnsIP+":53")
	}}
	found, err := resolver.LookupHost(context.Background(), "tcp."+smokeNamespace+".svc.cluster.local.")
	if err != nil {
		return err
	}
	if len(found) != 1 || found[0] != p.ClusterIP {
		return fmt.Errorf("the Service's name gives %v, not %s", found, p.ClusterIP)
	}
	return nil
}

// unused checks that an address of the pool that nobody has refuses at once.
func (p probe) unused() error {
	connection, err := net.DialTimeout("tcp", "172.30.1.254:80", time.Second)
	if err == nil {
		return errors.Join(errors.New("something answers"), connection.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return nil
}
