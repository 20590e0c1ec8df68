package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

func doctorCommand([]string) error {
	missing := diagnose()
	if len(missing) > 0 {
		return impossibleError{missing}
	}
	fmt.Println("this machine can carry the test cluster")
	return nil
}

// diagnose says what the cluster needs and this machine lacks, each with its remedy.
func diagnose() []string {
	if os.Geteuid() != 0 {
		return []string{"it must be started by root: it makes namespaces, mounts and control groups"}
	}
	var missing []string
	note := func(err error) {
		if err != nil {
			missing = append(missing, err.Error())
		}
	}
	for _, name := range []string{"ip", "nft", "conntrack", "runc", "nsenter"} {
		if _, err := exec.LookPath(name); err != nil {
			note(fmt.Errorf("%s is not installed: conformance/run packages installs it", name))
		}
	}
	for _, name := range []string{"ptp", "host-local", "loopback"} {
		if _, err := os.Stat(filepath.Join("/usr/lib/cni", name)); err != nil {
			note(fmt.Errorf("the CNI plugin %s is not in /usr/lib/cni: conformance/run packages installs it", name))
		}
	}
	note(checkCgroups())
	if len(missing) > 0 {
		return missing
	}
	note(checkNamespaces())
	return missing
}

// checkCgroups makes a control group and removes it.
func checkCgroups() error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	if len(roots) == 0 {
		return fmt.Errorf("no control groups are mounted in /sys/fs/cgroup")
	}
	for _, root := range roots {
		probe := filepath.Join(root, fmt.Sprintf("portcullis-conformance-probe-%d", os.Getpid()))
		if err := os.Mkdir(probe, 0o755); err != nil {
			return fmt.Errorf("control groups cannot be made in %s: %w", root, err)
		}
		if err := syscall.Rmdir(probe); err != nil {
			return err
		}
	}
	return nil
}

// checkNamespaces tries, in namespaces of its own, what the node will do: overlay mounts in the state folder,
// interfaces, and nftables.
func checkNamespaces() error {
	if err := os.MkdirAll(stateBase(), 0o700); err != nil {
		return err
	}
	probe, err := os.MkdirTemp(stateBase(), "probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(probe)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(probe, name), 0o755); err != nil {
			return err
		}
	}
	script := strings.Join([]string{
		"set -e",
		"mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged || { echo 'no overlay mounts in this folder: name one on a disk in PORTCULLIS_CONFORMANCE_STATE' >&2; exit 1; }",
		"ip link add probe0 type veth peer name probe1 || { echo 'no veth interfaces' >&2; exit 1; }",
		"nft add table ip probe || { echo 'no nftables' >&2; exit 1; }",
		"nft add chain ip probe nat '{ type nat hook prerouting priority 0; }' || { echo 'no address translation in nftables' >&2; exit 1; }",
	}, "\n")
	command := exec.Command("sh", "-c", script)
	command.Dir = probe
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC, Unshareflags: syscall.CLONE_NEWNS}
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("namespaces, mounts or network of the cluster do not work here (in %s): %w: %s", probe, err, strings.TrimSpace(string(output)))
	}
	return nil
}
