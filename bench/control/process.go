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
	// Cores is the CPU time for each second.
	Cores float64 `json:"cores"`
	// Resident and Peak are MiB, the most that one process had.
	Resident float64 `json:"residentMiB"`
	Peak     float64 `json:"peakMiB"`
}

type watched struct {
	cost
	changes int
}

// watch runs something for a while and says what the processes used meanwhile.
func watch(ctx context.Context, s settings, duration time.Duration, run func(context.Context) int) watched {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	before := [2]map[int]float64{cpuOf(s.controller), cpuOf(s.dataPlane)}
	start := time.Now()
	result := watched{changes: run(ctx)}
	<-ctx.Done()
	elapsed := time.Since(start).Seconds()
	result.Controller = usageSince(before[0], s.controller, elapsed)
	result.DataPlane = usageSince(before[1], s.dataPlane, elapsed)
	return result
}

func usageSince(before map[int]float64, name string, elapsed float64) usage {
	var total usage
	for process, now := range cpuOf(name) {
		total.Processes++
		total.Cores += (now - before[process]) / elapsed
		total.Resident = max(total.Resident, memory(process, "VmRSS:"))
		total.Peak = max(total.Peak, memory(process, "VmHWM:"))
	}
	return total
}

// cpuOf gives the seconds of CPU of each process whose command line holds the name.
func cpuOf(name string) map[int]float64 {
	found := map[int]float64{}
	if name == "" {
		return found
	}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(strings.ReplaceAll(string(text), "\x00", " "), name) {
			continue
		}
		process, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || process == os.Getpid() {
			continue
		}
		if seconds, ok := cpu(process); ok {
			found[process] = seconds
		}
	}
	return found
}

func cpu(process int) (float64, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(process) + "/stat")
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, false
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	const ticksPerSecond = 100
	return (user + system) / ticksPerSecond, true
}

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
