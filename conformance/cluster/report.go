package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// report is what is read of the suite's report.
type report struct {
	Version  string          `yaml:"gatewayAPIVersion"`
	Channel  string          `yaml:"gatewayAPIChannel"`
	Mode     string          `yaml:"mode"`
	Profiles []profileReport `yaml:"profiles"`
}

type profileReport struct {
	Name     string         `yaml:"name"`
	Core     profileSection `yaml:"core"`
	Extended profileSection `yaml:"extended"`
}

type profileSection struct {
	Result     string `yaml:"result"`
	Statistics struct {
		Passed  int `yaml:"Passed"`
		Failed  int `yaml:"Failed"`
		Skipped int `yaml:"Skipped"`
	} `yaml:"statistics"`
	Failed      []string `yaml:"failedTests"`
	Skipped     []string `yaml:"skippedTests"`
	Unsupported []string `yaml:"unsupportedFeatures"`
}

func parseReport(text []byte) (report, error) {
	var read report
	if err := yaml.Unmarshal(text, &read); err != nil {
		return read, fmt.Errorf("the suite's report: %w", err)
	}
	return read, nil
}

// missing names the profiles of which the report knows no test: the suite ended before it came to them.
func (r report) missing(profiles []string) []string {
	return slices.DeleteFunc(slices.Clone(profiles), func(name string) bool {
		return slices.ContainsFunc(r.Profiles, func(p profileReport) bool {
			s := p.Core.Statistics
			return p.Name == name && s.Passed+s.Failed+s.Skipped > 0
		})
	})
}

func (r report) sum(of func(profileSection) int) int {
	total := 0
	for _, p := range r.Profiles {
		total += of(p.Core) + of(p.Extended)
	}
	return total
}

func (r report) passed() int {
	return r.sum(func(s profileSection) int { return s.Statistics.Passed })
}

func (r report) failed() int {
	return r.sum(func(s profileSection) int { return s.Statistics.Failed })
}

func (r report) skipped() int {
	return r.sum(func(s profileSection) int { return s.Statistics.Skipped })
}

// print sums the report up.
func (r report) print(out io.Writer) {
	fmt.Fprintf(out, "Gateway API %s, %s channel, mode %s\n", r.Version, r.Channel, r.Mode)
	for _, p := range r.Profiles {
		fmt.Fprintln(out, p.Name)
		p.Core.print(out, "core")
		p.Extended.print(out, "extended")
		if len(p.Extended.Unsupported) > 0 {
			fmt.Fprintf(out, "  not declared: %s\n", strings.Join(p.Extended.Unsupported, ", "))
		}
	}
}

func (s profileSection) print(out io.Writer, name string) {
	fmt.Fprintf(out, "  %-8s %d passed, %d failed, %d skipped\n", name, s.Statistics.Passed, s.Statistics.Failed, s.Statistics.Skipped)
	if len(s.Failed) > 0 {
		fmt.Fprintf(out, "    failed: %s\n", strings.Join(s.Failed, ", "))
	}
	if len(s.Skipped) > 0 {
		fmt.Fprintf(out, "    skipped: %s\n", strings.Join(s.Skipped, ", "))
	}
}
