package install

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portcullis.dev/conformance/support"
)

// A new user's walk from a bare cluster to a first request: the README's own lines, as they are printed there.
func TestReadme(t *testing.T) {
	blocks := consoleBlocks(t, "## On Kubernetes")
	if len(blocks) != 3 {
		t.Fatalf("the README has %d console blocks about Kubernetes; image, installation and walk should be", len(blocks))
	}
	ways, walk := strings.Split(blocks[1], "\n\n"), blocks[2]
	for _, way := range ways {
		name := strings.Fields(way)[1]
		t.Run(name, func(t *testing.T) {
			leaveBare(t)
			crds(t, "none", "v1.7.0")
			ns := namespace(t, "readme")
			apply(t, ns, `
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: backend}
  ports: [{port: 80, targetPort: 3000}]
`)
			must(t, "bash", "-euo", "pipefail", "-c", script(way))
			must(t, "kubectl", "config", "set-context", "--current", "--namespace", ns)
			t.Cleanup(func() { must(t, "kubectl", "config", "set-context", "--current", "--namespace", "default") })
			// kube-proxy may need a moment after the Gateway is programmed.
			support.Eventually(t, 60*time.Second, "the README's walk", func() error {
				done := do("bash", "-euo", "pipefail", "-c", script(walk))
				if done.code != 0 || !strings.Contains(done.out, "HTTP/1.1 200 OK") || !strings.Contains(done.out, "edge") {
					return fmt.Errorf("%s", done)
				}
				return nil
			})
		})
	}
}

// consoleBlocks reads what a section of the README shows as typed.
func consoleBlocks(t *testing.T, section string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), section+"\n")
	if !found {
		t.Fatalf("the README has no section %q", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for index, part := range strings.Split(rest, "```") {
		if block, isConsole := strings.CutPrefix(part, "console\n"); isConsole && index%2 == 1 {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// script is a block without its prompts.
func script(block string) string {
	var lines []string
	for line := range strings.Lines(block) {
		lines = append(lines, strings.TrimPrefix(line, "$ "))
	}
	return strings.Join(lines, "")
}
