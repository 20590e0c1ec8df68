package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// lockDescriptor is the file descriptor that up passes the lock in.
const lockDescriptor = 3

// namespaces is what the first process of the cluster tells: where the client's network namespace is held.
type namespaces struct {
	ClientFile  int    `json:"client_file"`
	ClientInode uint64 `json:"client_inode"`
}

// initCommand is the cluster's first process (process 1 of its own process namespace, in mount, network, host
// name and IPC namespaces of its own). It builds the node's view of the file system, holds the client's network
// namespace open, starts the node and reaps orphans. When it dies, the kernel ends every other process of the
// cluster, and with them go all mounts and interfaces: nothing can be left behind.
func initCommand(arguments []string) error {
	if len(arguments) != 2 || os.Getpid() != 1 {
		return usageError{"internal-init is started by up"}
	}
	state, bindings := stateFolder(arguments[0]), arguments[1]
	// The lock that says that a cluster is up is held by this process alone.
	syscall.CloseOnExec(lockDescriptor)
	if err := mountProc(); err != nil {
		return err
	}
	client, err := newClientNamespace()
	if err != nil {
		return err
	}
	if err := tellNamespaces(state, client); err != nil {
		return err
	}
	if err := mountNode(state, bindings); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte("node")); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	node := exec.Command("/proc/self/exe", "internal-node", fmt.Sprintf("/proc/1/fd/%d", client.Fd()))
	node.Stdout, node.Stderr = os.Stdout, os.Stderr
	if err := node.Start(); err != nil {
		return err
	}
	err = reap(node.Process.Pid)
	runtime.KeepAlive(client)
	return err
}

// reap waits for orphans until the node ends.
func reap(node int) error {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if pid == node {
			return fmt.Errorf("the node ended: %s", describe(status))
		}
	}
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return status.Signal().String()
	}
	return fmt.Sprintf("exit %d", status.ExitStatus())
}

// mountProc cuts the mounts off from the machine's and shows this process namespace in /proc.
func mountProc() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	return nil
}

// newClientNamespace makes a network namespace and keeps it open in a file that programs started here do not get.
func newClientNamespace() (*os.File, error) {
	holder := exec.Command("sleep", "60")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		return nil, fmt.Errorf("client network namespace: %w", err)
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid))
	if killed := holder.Process.Kill(); killed != nil {
		return nil, killed
	}
	_ = holder.Wait() // it ends by the kill
	return file, err
}

func tellNamespaces(state stateFolder, client *os.File) error {
	inode, err := inodeOf(client.Name(), client)
	if err != nil {
		return err
	}
	text, err := json.Marshal(namespaces{ClientFile: int(client.Fd()), ClientInode: inode})
	if err != nil {
		return err
	}
	temporary := state.namespaces() + ".new"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, state.namespaces())
}

func inodeOf(name string, file *os.File) (uint64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s has no inode", name)
	}
	return stat.Ino, nil
}

// mountNode lays the state folder's var, run and tmp over the machine's, shows the built programs under
// /run/programs, and makes all the rest read-only: the node can write nowhere else.
func mountNode(state stateFolder, bindings string) error {
	var folders map[string]string
	if err := json.Unmarshal([]byte(bindings), &folders); err != nil {
		return err
	}
	for name, source := range folders {
		place := state.path("run", "programs", name)
		if err := os.MkdirAll(place, 0o755); err != nil {
			return err
		}
		if err := bind(source, place); err != nil {
			return err
		}
	}
	// Opened now, because the first of these hides the state folder itself.
	sources := map[string]*os.File{}
	for _, name := range []string{"tmp", "run", "var"} {
		file, err := os.Open(state.path(name))
		if err != nil {
			return err
		}
		defer file.Close()
		sources[name] = file
	}
	for _, name := range []string{"tmp", "run", "var"} {
		if err := bind(fmt.Sprintf("/proc/self/fd/%d", sources[name].Fd()), filepath.Join("/", name)); err != nil {
			return err
		}
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("read-only root: %w", err)
	}
	// The kubelet wants mounts that containers can follow; the peers are this namespace's own.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("shared mounts: %w", err)
	}
	return nil
}

func bind(source, place string) error {
	if err := syscall.Mount(source, place, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", source, place, err)
	}
	return nil
}
