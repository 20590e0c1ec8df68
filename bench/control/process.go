package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cost is what processes used over a while.
type cost struct {
	Controller usage `json:"controller"`
	DataPlane  usage `json:"dataPlane"`
}

// usage is one side's.
type usage struct {
	Processes int `json:"processes"`
	// Cores is the CPU time for each second, as the scheduler counts it, in nanoseconds.
	Cores float64 `json:"cores"`
	// Resident and Peak are MiB, of all processes together; Anonymous is the part of Resident that is no file.
	Resident  float64 `json:"residentMiB"`
	Anonymous float64 `json:"anonymousMiB"`
	Peak      float64 `json:"peakMiB"`
}

// watch runs something for a while and says what the processes used meanwhile.
func watch(ctx context.Context, s settings, run func(context.Context) int) (cost, int) {
	ctx, cancel := context.WithTimeout(ctx, s.watch)
	defer cancel()
	before := [2]map[int]float64{s.cpuOf(s.controller), s.cpuOf(s.dataPlane)}
	start := time.Now()
	changes := run(ctx)
	<-ctx.Done()
	elapsed := time.Since(start).Seconds()
	return cost{
		Controller: s.usageSince(before[0], s.controller, elapsed),
		DataPlane:  s.usageSince(before[1], s.dataPlane, elapsed),
	}, changes
}

func (s settings) usageSince(before map[int]float64, name string, elapsed float64) usage {
	now := s.cpuOf(name)
	total := usage{Processes: len(now), Cores: since(before, now) / elapsed}
	for process := range now {
		total.Resident += memory(process, "VmRSS:")
		total.Anonymous += memory(process, "RssAnon:")
		total.Peak += memory(process, "VmHWM:")
	}
	return total
}

// since gives the seconds of CPU between two looks.
func since(before, after map[int]float64) float64 {
	total := 0.0
	for process, now := range after {
		total += now - before[process]
	}
	return total
}

// cpuOf gives the seconds of CPU of each process of the cluster whose command line holds one of the names, parted by commas.
func (s settings) cpuOf(names string) map[int]float64 {
	found := map[int]float64{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		folder := filepath.Dir(file)
		text, err := os.ReadFile(file)
		if err != nil || !holds(strings.ReplaceAll(string(text), "\x00", " "), names) {
			continue
		}
		// Other clusters on this machine have processes of the same names.
		groups, err := os.ReadFile(filepath.Join(folder, "cgroup"))
		if err != nil || !strings.Contains(string(groups), s.controlGroup) {
			continue
		}
		process, err := strconv.Atoi(filepath.Base(folder))
		if err == nil && process != os.Getpid() {
			found[process] = cpu(process)
		}
	}
	return found
}

func holds(line, names string) bool {
	for _, name := range strings.Split(names, ",") {
		if name != "" && strings.Contains(line, name) {
			return true
		}
	}
	return false
}

// cpu gives the seconds that all threads of a process have run: proc_pid_schedstat, which is finer than the ticks of stat.
func cpu(process int) float64 {
	total := 0.0
	files, _ := filepath.Glob("/proc/" + strconv.Itoa(process) + "/task/*/schedstat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		nanoseconds, _, _ := strings.Cut(string(text), " ")
		value, _ := strconv.ParseFloat(nanoseconds, 64)
		total += value / 1e9
	}
	return total
}

// memory gives MiB.
func memory(process int, field string) float64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(process) + "/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, found := strings.CutPrefix(line, field); found {
			kib, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kib / 1024
		}
	}
	return 0
}
