package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// clientEnvironment is the environment of a program in the client's network.
func clientEnvironment(r record) []string {
	environment := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "KUBECONFIG=") || strings.HasPrefix(v, "PATH=")
	})
	return append(environment,
		"KUBECONFIG="+r.state().kubeconfig(),
		"PATH="+r.state().tools()+":"+os.Getenv("PATH"),
		identityVariable+"="+r.ID)
}

func clientArguments(r record, command []string) []string {
	return append([]string{"nsenter", "--net=" + r.clientNamespace(), "--"}, command...)
}

// inClient is a command in the client's network, not yet started.
func inClient(r record, command ...string) *exec.Cmd {
	arguments := clientArguments(r, command)
	started := exec.Command(arguments[0], arguments[1:]...)
	started.Env = clientEnvironment(r)
	return started
}

// inNode is a command on the node, not yet started.
func inNode(r record, command ...string) *exec.Cmd {
	arguments := nodeArguments(r, command)
	started := exec.Command(arguments[0], arguments[1:]...)
	started.Env = nodeEnvironment()
	return started
}

func nodeArguments(r record, command []string) []string {
	return append([]string{"nsenter", "--target=" + strconv.Itoa(r.Init.Pid), "--mount", "--net", "--pid", "--uts", "--ipc", "--"}, command...)
}

func nodeEnvironment() []string {
	return []string{
		"KUBECONFIG=" + clusterRun + "/admin.kubeconfig", "HOME=/run", "TERM=" + os.Getenv("TERM"),
		"CONTAINERD_ADDRESS=" + containerdAPI, "CONTAINERD_NAMESPACE=k8s.io",
		"PATH=" + programs + "/containerd:" + programs + "/kubernetes:/usr/sbin:/usr/bin:/sbin:/bin",
	}
}

// become replaces this process by the command.
func become(arguments, environment []string) error {
	path, err := exec.LookPath(arguments[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, arguments, environment)
}

func execCommand(arguments []string) error {
	if len(arguments) > 0 && arguments[0] == "--" {
		arguments = arguments[1:]
	}
	if len(arguments) == 0 {
		return usageError{"usage: conformance/run exec COMMAND…"}
	}
	running, err := runningCluster()
	if err != nil {
		return err
	}
	return become(clientArguments(running, arguments), clientEnvironment(running))
}

func nodeExecCommand(arguments []string) error {
	if len(arguments) > 0 && arguments[0] == "--" {
		arguments = arguments[1:]
	}
	if len(arguments) == 0 {
		return usageError{"usage: conformance/run node-exec COMMAND…"}
	}
	running, err := runningCluster()
	if err != nil {
		return err
	}
	return become(nodeArguments(running, arguments), nodeEnvironment())
}

func kubectlCommand(arguments []string) error {
	return execCommand(append([]string{"kubectl"}, arguments...))
}

// programCommand runs a program of a target that up does not need; without a cluster it still does what needs none.
func programCommand(target, program string) func(arguments []string) error {
	return func(arguments []string) error {
		b, err := newBuilder()
		if err != nil {
			return err
		}
		folder, err := b.ensure(target)
		if err != nil {
			return err
		}
		command := append([]string{filepath.Join(folder, program)}, arguments...)
		running, err := runningCluster()
		if errors.Is(err, errNoCluster) {
			return become(command, os.Environ())
		}
		if err != nil {
			return err
		}
		return become(clientArguments(running, command), clientEnvironment(running))
	}
}

func loadImageCommand(files []string) error {
	if len(files) == 0 {
		return usageError{"usage: conformance/run load-image FILE…"}
	}
	running, err := runningCluster()
	if err != nil {
		return err
	}
	for _, name := range files {
		if err := loadImage(running, name); err != nil {
			return err
		}
	}
	return nil
}

// loadImage streams an archive in: the node does not see the machine's files.
func loadImage(r record, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	command := inNode(r, "ctr", "--address", containerdAPI, "-n", "k8s.io", "images", "import", "--local", "-")
	command.Stdin, command.Stdout, command.Stderr = file, os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("importing %s: %w", name, err)
	}
	return nil
}

func statusCommand([]string) error {
	running, err := runningCluster()
	if err != nil {
		return err
	}
	status, err := newControl(running.state()).status()
	if err != nil {
		return fmt.Errorf("the node does not answer: %w", err)
	}
	fmt.Printf("cluster %s: %s, up for %s, Gateway API CRDs: %s\n", running.ID, status.Phase, time.Since(running.StartedAt).Round(time.Second), orNone(running.CRDs))
	if status.Error != "" {
		fmt.Println(status.Error)
	}
	fmt.Printf("KUBECONFIG=%s\n", running.state().kubeconfig())
	fmt.Printf("logs: %s\n", running.state().path("var", "log", "cluster"))
	table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "COMPONENT\tSTATE\tPID ON THE NODE\tRESTARTS\tLAST END")
	for _, c := range status.Components {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\n", c.Name, c.State, c.Pid, c.Restarts, c.Last)
	}
	return table.Flush()
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func logsCommand(arguments []string) error {
	flags := flag.NewFlagSet("logs", flag.ContinueOnError)
	follow := flags.Bool("f", false, "go on as the log grows")
	if err := flags.Parse(arguments); err != nil {
		return usageError{err.Error()}
	}
	if flags.NArg() != 1 {
		return usageError{"usage: conformance/run logs [-f] COMPONENT"}
	}
	// Of a cluster that crashed, too: until it is removed its logs are there.
	last, exists, err := readRecord()
	if err != nil {
		return err
	}
	if !exists {
		return errNoCluster
	}
	path := last.state().log(filepath.Base(flags.Arg(0)))
	if flags.Arg(0) == "node" {
		path = last.state().initLog()
	}
	if *follow {
		return become([]string{"tail", "-n", "50", "-F", path}, os.Environ())
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: the logs are node, audit and those of conformance/run status", err)
	}
	defer file.Close()
	_, err = io.Copy(os.Stdout, file)
	return err
}
