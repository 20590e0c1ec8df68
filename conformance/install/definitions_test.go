package install

import (
	"strings"
	"testing"
)

// The Gateway API's definitions are installed where there are none; those that are there stay, of whatever version and
// channel; what was found is printed.
func TestGatewayAPIDefinitions(t *testing.T) {
	for _, there := range []struct {
		name, channel, version string
		// What its definitions say instead.
		says string
		// What is printed of them.
		helm, program []string
		// A channel that install refuses.
		refused string
	}{
		{
			name: "absent", channel: "none", version: "v1.7.0",
			helm:    []string{"The Gateway API was not found: v1.7.0, channel standard, was installed."},
			program: []string{"Gateway API: not found", "Gateway API: installing v1.7.0, channel standard"},
			refused: "experimental",
		},
		{
			name: "older", channel: "standard", version: "v1.4.1",
			helm:    []string{"The Gateway API was found, and is as it was:", gatewayCRD + ": v1.4.1, channel standard"},
			program: []string{"Gateway API: found v1.4.1, channel standard", "Gateway API: left as it is"},
			refused: "experimental",
		},
		{
			name: "experimental", channel: "experimental", version: "v1.7.0",
			helm:    []string{"The Gateway API was found, and is as it was:", gatewayCRD + ": v1.7.0, channel experimental"},
			program: []string{"Gateway API: found v1.7.0, channel experimental", "Gateway API: left as it is"},
			refused: "standard",
		},
		{
			name: "newer", channel: "standard", version: "v1.7.0", says: "v1.999.0",
			helm:    []string{"The Gateway API was found, and is as it was:", gatewayCRD + ": v1.999.0, channel standard"},
			program: []string{"Gateway API: found v1.999.0, channel standard", "Gateway API: left as it is"},
			refused: "experimental",
		},
	} {
		t.Run(there.name, func(t *testing.T) {
			leaveBare(t)
			prepare := func() (before string) {
				crds(t, there.channel, there.version)
				if there.says != "" {
					must(t, "sh", "-c", "kubectl annotate --overwrite $(kubectl get crds --output=name | grep gateway.networking) gateway.networking.k8s.io/bundle-version="+there.says)
				}
				return gatewayAPI(t)
			}
			stays := func(before, after string) {
				t.Helper()
				if now := gatewayAPI(t); before != now {
					t.Errorf("after %s they are no longer\n%s\nbut\n%s", after, before, now)
				}
			}

			before := prepare()
			must(t, "kubectl", "apply", "--filename", "deploy/namespace.yaml")
			chart := []string{"portcullis-crds", "charts/portcullis-crds", "--namespace", controllerNamespace}
			ends(t, 0, there.helm, "helm", append([]string{"install"}, chart...)...)
			if before == "" {
				before = gatewayAPI(t)
			}
			stays(before, "helm install")
			found := []string{"The Gateway API was found, and is as it was:"}
			ends(t, 0, found, "helm", append([]string{"upgrade", "--set", "gatewayAPI.channel=" + there.refused}, chart...)...)
			stays(before, "helm upgrade")
			must(t, "helm", "uninstall", "portcullis-crds", "--namespace", controllerNamespace)
			stays(before, "helm uninstall")

			before = prepare()
			ends(t, 0, there.program, "portcullis", "install", "--replicas", "0")
			if before == "" {
				before = gatewayAPI(t)
			}
			stays(before, "portcullis install")
			ends(t, 0, []string{"left as it is"}, "portcullis", "install", "--replicas", "0")
			ends(t, 4, []string{"--channel asks for " + there.refused}, "portcullis", "install", "--channel", there.refused)
			stays(before, "portcullis install, again")
			ends(t, 0, nil, "portcullis", "uninstall", "--crds")
			stays(before, "portcullis uninstall")
		})
	}
}

// gatewayAPI is a line for each of its definitions.
func gatewayAPI(t *testing.T) string {
	t.Helper()
	all := must(t, "kubectl", "get", "customresourcedefinitions", "--output", `jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} `+
		`{.metadata.generation} {.metadata.annotations.gateway\.networking\.k8s\.io/bundle-version} `+
		`{.metadata.annotations.gateway\.networking\.k8s\.io/channel}{"\n"}{end}`)
	var lines []string
	for _, line := range strings.Split(all, "\n") {
		if strings.Contains(line, ".gateway.networking.") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
