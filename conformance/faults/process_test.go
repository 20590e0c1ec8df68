package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// processOf finds the program of a pod on this machine: the one in the pod's control group that is called portcullis.
func processOf(t *testing.T, pod *unstructured.Unstructured) (process int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	// systemd's names of control groups have no hyphens.
	uid := string(pod.GetUID())
	names := []string{uid, strings.ReplaceAll(uid, "-", "_")}
	for _, file := range files {
		groups, _ := os.ReadFile(file)
		program, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "comm"))
		if strings.TrimSpace(string(program)) != "portcullis" {
			continue
		}
		for _, name := range names {
			if strings.Contains(string(groups), name) {
				process, _ = strconv.Atoi(filepath.Base(filepath.Dir(file)))
				return process
			}
		}
	}
	t.Fatalf("no process of pod %s/%s is found: does it run on this machine?", pod.GetNamespace(), pod.GetName())
	return 0
}

// send sends a signal to a pod's program.
func send(t *testing.T, pod *unstructured.Unstructured, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(processOf(t, pod), signal); err != nil {
		t.Fatalf("%s to %s: %v", signal, pod.GetName(), err)
	}
}

// mayDump says whether the kernel would write a core of a process: only then do its files in /proc belong to its user.
func mayDump(t *testing.T, process int) bool {
	t.Helper()
	information, err := os.Stat(fmt.Sprintf("/proc/%d/environ", process))
	if err != nil {
		t.Fatal(err)
	}
	return information.Sys().(*syscall.Stat_t).Uid != 0
}

// limitMemory leaves the container of a process no more memory than it cannot do without: also none of the page cache that the kernel
// would give up first, of which one container has much and the next, of the same image, none.
func limitMemory(t *testing.T, process int) {
	t.Helper()
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", process))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		// One hierarchy for all (version 2), or one of memory's own.
		folder, used, limit := "/sys/fs/cgroup"+parts[2], "memory.current", "memory.max"
		if parts[0] != "0" {
			folder, used, limit = "/sys/fs/cgroup/memory"+parts[2], "memory.usage_in_bytes", "memory.limit_in_bytes"
		}
		if parts[0] != "0" && parts[1] != "memory" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, used))
		if err != nil {
			continue
		}
		bytes, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		const step = 256 << 10
		for limited := 0; bytes > 0; bytes, limited = bytes-step, limited+1 {
			// Refused when there is nothing left to give up; gone when the kernel has ended the process for it.
			if err := os.WriteFile(filepath.Join(folder, limit), []byte(strconv.Itoa(bytes)), 0o644); err != nil {
				if limited == 0 {
					t.Fatal(err)
				}
				return
			}
		}
		return
	}
	t.Fatalf("process %d has no control group for memory:\n%s", process, groups)
}
