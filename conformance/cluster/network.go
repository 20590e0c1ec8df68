package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// The cluster's addresses. The suite and any load come from the client, a network namespace of its own, so that
// traffic really enters from outside.
const (
	clientIP      = "172.30.0.1"
	nodeIP        = "172.30.0.2"
	podRange      = "10.244.0.0/16"
	serviceRange  = "10.96.0.0/16"
	apiServerIP   = "10.96.0.1"
	dnsIP         = "10.96.0.10"
	poolRange     = "172.30.1.0/24"
	poolStatic    = "172.30.1.200-172.30.1.249"
	usableAddress = "172.30.1.240"
	// unusableAddress is of the right family and outside of every pool.
	unusableAddress = "192.0.2.1"
)

// poolGuard refuses connections to addresses of the pool that no Service has; kube-proxy has translated the
// others before they are forwarded.
const poolGuard = `table ip portcullis_conformance {
	chain forward {
		type filter hook forward priority 10; policy accept;
		ip daddr ` + poolRange + ` meta l4proto tcp reject with tcp reset
		ip daddr ` + poolRange + ` reject with icmp type port-unreachable
	}
}
`

// configureNetwork joins the node (the caller's network namespace) and the client by a pair of interfaces.
func configureNetwork(client string) error {
	commands := []string{
		"ip link set lo up",
		"ip link add uplink type veth peer name uplink netns " + client,
		"ip address add " + nodeIP + "/24 dev uplink",
		"ip link set uplink up",
		"ip route add default via " + clientIP,
		"nsenter --net=" + client + " ip link set lo up",
		"nsenter --net=" + client + " ip address add " + clientIP + "/24 dev uplink",
		"nsenter --net=" + client + " ip link set uplink up",
		"nsenter --net=" + client + " ip route add default via " + nodeIP,
	}
	for _, command := range commands {
		words := strings.Fields(command)
		if output, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, output)
		}
	}
	// These belong to the network namespace, not to the machine.
	for name, value := range map[string]string{
		"net/ipv4/ip_forward":                 "1",
		"net/ipv4/ip_unprivileged_port_start": "1024",
		"net/ipv4/conf/all/send_redirects":    "0",
		"net/ipv4/conf/uplink/send_redirects": "0",
	} {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
			return err
		}
	}
	guard := exec.Command("nft", "-f", "-")
	guard.Stdin = strings.NewReader(poolGuard)
	if output, err := guard.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, output)
	}
	return nil
}
