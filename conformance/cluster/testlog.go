package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// testLog follows what `go test -v` prints and keeps how each test of the suite ended.
type testLog struct {
	results  map[string]string // pass, fail or skip, by the suite's short name
	failures map[string]string // the first error of a test, by its name or the name of a part of it
	panicked bool

	failing string // the test whose failure was told last

	progress io.Writer
	begin    time.Time
	current  string   // the test whose output is read now
	message  []string // what a failed assertion says, as far as it has been read
	inError  bool     // the lines that follow go on with it
}

func newTestLog(progress io.Writer) *testLog {
	return &testLog{results: map[string]string{}, failures: map[string]string{}, progress: progress, begin: time.Now()}
}

// longestMessage keeps whole objects, which some assertions print, out of the summary.
const longestMessage = 600

var (
	resultLine  = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): TestConformance/([^/\s]+) \(`)
	currentLine = regexp.MustCompile(`^=== (RUN|NAME|CONT|PAUSE)\s+(\S+)`)
	assertLine  = regexp.MustCompile(`^\s+(Error Trace|Error|Test|Messages):\s*(.*)$`)
)

// follow reads to the end. Results come late in the output, so that errors are told when they appear.
func (l *testLog) follow(output io.Reader) error {
	reader := bufio.NewReader(output)
	for {
		line, err := reader.ReadString('\n')
		l.line(strings.TrimRight(line, "\n"))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (l *testLog) line(line string) {
	if match := currentLine.FindStringSubmatch(line); match != nil {
		l.current = strings.TrimPrefix(match[2], "TestConformance/")
		if match[1] == "RUN" && !strings.Contains(l.current, "/") && l.current != "TestConformance" {
			l.say("%s", l.current)
		}
		return
	}
	if match := resultLine.FindStringSubmatch(line); match != nil {
		l.results[match[2]] = strings.ToLower(match[1])
		return
	}
	if strings.HasPrefix(line, "panic: ") {
		l.panicked = true
		l.say("%s", line)
		return
	}
	l.assertion(line)
}

// assertion gathers the parts of a failed assertion, which are printed over several lines.
func (l *testLog) assertion(line string) {
	match := assertLine.FindStringSubmatch(line)
	switch {
	case match == nil:
		if l.inError {
			l.message = append(l.message, strings.TrimSpace(line))
		}
	case match[1] == "Error":
		l.inError, l.message = true, []string{match[2]}
	case match[1] == "Test":
		l.fail(strings.TrimPrefix(match[2], "TestConformance/"))
	case match[1] == "Messages" && l.failures[l.failing] != "":
		l.say("       %s", match[2])
		l.failures[l.failing] += " (" + match[2] + ")"
		l.failing = ""
	}
}

// fail keeps the first failure of a test.
func (l *testLog) fail(test string) {
	message := strings.TrimSpace(strings.Join(l.message, " "))
	l.inError, l.message, l.failing = false, nil, ""
	if l.failures[test] != "" || message == "" {
		return
	}
	if len(message) > longestMessage {
		message = message[:longestMessage] + "…"
	}
	l.failures[test], l.failing = message, test
	l.say("FAILED %s: %s", test, message)
}

func (l *testLog) say(format string, arguments ...any) {
	fmt.Fprintf(l.progress, "%5.0fs "+format+"\n", append([]any{time.Since(l.begin).Seconds()}, arguments...)...)
}

// names lists the tests that have a result, in order.
func (l *testLog) names() []string {
	var names []string
	for name := range l.results {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (l *testLog) ended(how string) []string {
	return slices.DeleteFunc(l.names(), func(name string) bool { return l.results[name] != how })
}

// printFailures tells the first error of everything that failed.
func (l *testLog) printFailures(out io.Writer) {
	if setup := l.failures["TestConformance"]; setup != "" {
		fmt.Fprintf(out, "failed before the tests: %s\n", setup)
	}
	for _, name := range l.ended("fail") {
		fmt.Fprintf(out, "failed: %s\n", name)
		var parts []string
		for part := range l.failures {
			if part == name || strings.HasPrefix(part, name+"/") {
				parts = append(parts, part)
			}
		}
		slices.Sort(parts)
		for _, part := range parts {
			fmt.Fprintf(out, "    %s: %s\n", part, l.failures[part])
		}
	}
}

// printOutside tells of tests that ran but count in no profile: a report does not show them.
func (l *testLog) printOutside(out io.Writer, r report) {
	counted := r.passed() + r.failed()
	ran := len(l.ended("pass")) + len(l.ended("fail"))
	if ran > counted && len(r.Profiles) == 1 {
		fmt.Fprintf(out, "%d more tests ran that do not count in the profile\n", ran-counted)
	}
	fmt.Fprintf(out, "%d tests did not run, because they need features that the GatewayClass does not declare\n", len(l.ended("skip")))
}
