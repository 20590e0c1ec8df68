package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// record is what is known of a cluster from outside: enough to enter it, and to remove it after a crash.
type record struct {
	ID        string            `json:"id"`
	Init      process           `json:"init"`
	Client    namespaces        `json:"client"`
	Cgroup    string            `json:"cgroup"`
	Folders   map[string]string `json:"folders"`
	CRDs      string            `json:"crds"` // channel and version, for reports
	StartedAt time.Time         `json:"started_at"`
}

// process names one process for good: numbers are used again, a number with its start time is not.
type process struct {
	Pid   int    `json:"pid"`
	Start string `json:"start"`
}

var errNoCluster = errors.New("no cluster is up: start one with conformance/run up")

func (r record) state() stateFolder { return stateFolder(filepath.Join(stateBase(), r.ID)) }

func (r record) clientNamespace() string {
	return fmt.Sprintf("/proc/%d/fd/%d", r.Init.Pid, r.Client.ClientFile)
}

func recordFile() string { return filepath.Join(stateBase(), "cluster.json") }

// readRecord gives the record of the last cluster, which may be gone; none is not an error.
func readRecord() (record, bool, error) {
	var read record
	text, err := os.ReadFile(recordFile())
	if errors.Is(err, os.ErrNotExist) {
		return read, false, nil
	}
	if err != nil {
		return read, false, err
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return read, false, fmt.Errorf("%s: %w", recordFile(), err)
	}
	return read, true, nil
}

func (r record) write() error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	temporary := recordFile() + ".new"
	if err := os.WriteFile(temporary, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, recordFile())
}

// runningCluster gives the cluster that is up.
func runningCluster() (record, error) {
	found, exists, err := readRecord()
	if err != nil {
		return found, err
	}
	if !exists || !found.Init.alive() {
		return found, errNoCluster
	}
	return found, nil
}

// alive says whether this very process still exists.
func (p process) alive() bool {
	start, err := startTime(p.Pid)
	return err == nil && start == p.Start
}

// startTime reads field 22 of /proc/PID/stat; a zombie has no start time any more.
func startTime(pid int) (string, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", err
	}
	return parseStartTime(string(text))
}

func parseStartTime(stat string) (string, error) {
	// The second field is the name in brackets, which may hold anything.
	end := strings.LastIndex(stat, ")")
	fields := strings.Fields(stat[end+1:])
	if end < 0 || len(fields) < 20 {
		return "", fmt.Errorf("not a process's stat: %q", stat)
	}
	if fields[0] == "Z" {
		return "", errors.New("a zombie")
	}
	return fields[19], nil
}

// lockFile takes a lock that the kernel drops with the process; while it waits it says why.
func lockFile(path, waiting string) (func(), error) {
	file, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		fmt.Fprintln(os.Stderr, waiting)
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
			return nil, err
		}
	}
	return func() { _ = file.Close() }, nil
}

func openLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}

// lockCluster takes the lock that a running cluster's first process holds; nil means that one is up.
func lockCluster() (*os.File, error) {
	if err := os.MkdirAll(stateBase(), 0o700); err != nil {
		return nil, err
	}
	file, err := openLock(filepath.Join(stateBase(), "lock"))
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		_ = file.Close()
		return nil, nil
	}
	return file, err
}

// lockOperation keeps launches and removals apart.
func lockOperation() (func(), error) {
	if err := os.MkdirAll(stateBase(), 0o700); err != nil {
		return nil, err
	}
	return lockFile(filepath.Join(stateBase(), "operation.lock"), "waiting for another up or down")
}
