package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// identityVariable marks the processes that were started in a cluster's client network.
const identityVariable = "PORTCULLIS_CONFORMANCE_ID"

func downCommand(arguments []string) error {
	if len(arguments) > 0 {
		return usageError{"down takes no argument"}
	}
	if os.Geteuid() != 0 {
		return impossibleError{[]string{"only root can remove a cluster"}}
	}
	unlock, err := lockOperation()
	if err != nil {
		return err
	}
	defer unlock()
	return removeLeftovers()
}

// removeLeftovers removes all that clusters have left, running or not: processes first, then control groups,
// then files. Doing it again changes nothing.
func removeLeftovers() error {
	last, exists, err := readRecord()
	if err != nil {
		return err
	}
	if exists {
		if err := stopProcesses(last); err != nil {
			return err
		}
	}
	if err := stopUnrecorded(); err != nil {
		return err
	}
	if err := removeCgroups(last.ID); err != nil {
		return err
	}
	if err := os.Remove(recordFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return removeStates()
}

// stopProcesses kills the cluster's first process, and with it every process of the node, then what runs in the
// client's network; it waits until they are gone.
func stopProcesses(r record) error {
	if r.Init.alive() {
		if err := syscall.Kill(r.Init.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	if err := waitGone("the node's processes", func() bool { return r.Init.alive() }); err != nil {
		return err
	}
	return waitGone("processes in the client's network", func() bool {
		left := clientProcesses(r)
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone by now
		}
		return len(left) > 0
	})
}

// stopUnrecorded kills first processes that no record names: an up that was killed may leave one.
func stopUnrecorded() error {
	return waitGone("processes of a cluster without a record", func() bool {
		left := firstProcesses()
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone by now
		}
		return len(left) > 0
	})
}

// firstProcesses finds the first processes of clusters whose state lies in this state folder.
func firstProcesses() []int {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	var found []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		words := strings.Split(string(text), "\x00")
		if len(words) < 3 || words[1] != "internal-init" || filepath.Dir(words[2]) != stateBase() {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

func waitGone(what string, left func() bool) error {
	for range 1500 {
		if !left() {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s do not end", what)
}

// clientProcesses finds the processes that were started in the client's network: they are in that namespace and
// carry this cluster's identity (a namespace's number alone may have been given to another one since).
func clientProcesses(r record) []int {
	if r.Client.ClientInode == 0 {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	wanted := fmt.Sprintf("net:[%d]", r.Client.ClientInode)
	mark := []byte(identityVariable + "=" + r.ID)
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		namespace, err := os.Readlink(filepath.Join("/proc", entry.Name(), "ns", "net"))
		if err != nil || namespace != wanted {
			continue
		}
		environment, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err != nil || !slices.ContainsFunc(bytes.Split(environment, []byte{0}), func(v []byte) bool { return bytes.Equal(v, mark) }) {
			continue
		}
		found = append(found, pid)
	}
	return found
}

// removeStates removes the state folders. No mount of the machine lies in them, because the node has mounts of
// its own; should there be one all the same, nothing is removed.
func removeStates() error {
	names, err := stateFolders()
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, name := range names {
		folder := filepath.Join(stateBase(), name)
		if mounted := mountBelow(string(mounts), folder); mounted != "" {
			return fmt.Errorf("%s is still mounted: unmount it, then run down again", mounted)
		}
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
	}
	return nil
}

// stateFolders names the folders of all starts that are left.
func stateFolders() ([]string, error) {
	entries, err := os.ReadDir(stateBase())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// mountBelow gives a mount point in or below a folder.
func mountBelow(mountinfo, folder string) string {
	for _, line := range strings.Split(mountinfo, "\n") {
		fields := strings.Fields(line)
		if len(fields) > 4 && (fields[4] == folder || strings.HasPrefix(fields[4], folder+"/")) {
			return fields[4]
		}
	}
	return ""
}

// cgroupRoots are the roots of every control group hierarchy of the machine: one, or one per controller.
func cgroupRoots() ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseCgroupRoots(string(text)), nil
}

func parseCgroupRoots(mountinfo string) []string {
	var roots []string
	for _, line := range strings.Split(mountinfo, "\n") {
		before, after, found := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !found || len(fields) < 5 {
			continue
		}
		kind, _, _ := strings.Cut(after, " ")
		if (kind == "cgroup" || kind == "cgroup2") && !slices.Contains(roots, fields[4]) {
			roots = append(roots, fields[4])
		}
	}
	return roots
}

func cgroupOf(id string) string { return "/portcullis-conformance-" + id }

// makeCgroups makes the group below which every container of the cluster is put.
func makeCgroups(name string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return err
		}
	}
	return copyCpuset(roots, name)
}

// copyCpuset fills in the processors and memory nodes, which a new group of a version 1 hierarchy does not inherit.
func copyCpuset(roots []string, name string) error {
	for _, root := range roots {
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			text, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				continue // not this hierarchy, or version 2, where it is inherited
			}
			if err := os.WriteFile(filepath.Join(root, name, file), text, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeCgroups removes the groups of the last cluster and of all whose state folder is left, the innermost
// first; processes that are still in one are the cluster's, and are killed.
func removeCgroups(last string) error {
	names, err := stateFolders()
	if err != nil {
		return err
	}
	if last != "" {
		names = append(names, last)
	}
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		for _, name := range names {
			if err := removeCgroup(filepath.Join(root, cgroupOf(name))); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeCgroup(top string) error {
	if _, err := os.Stat(top); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var last error
	gone := func() bool {
		var folders []string
		last = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return nil // a group that vanished meanwhile is what is wanted
		})
		slices.Reverse(folders)
		for _, folder := range folders {
			killAll(folder)
			if err := syscall.Rmdir(folder); err != nil && !errors.Is(err, syscall.ENOENT) {
				last = fmt.Errorf("removing %s: %w", folder, err)
			}
		}
		_, err := os.Stat(top)
		return !errors.Is(err, os.ErrNotExist)
	}
	if err := waitGone("control groups", gone); err != nil {
		return errors.Join(err, last)
	}
	return nil
}

func killAll(cgroup string) {
	text, err := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	if err != nil {
		return
	}
	for _, word := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone by now
		}
	}
}
