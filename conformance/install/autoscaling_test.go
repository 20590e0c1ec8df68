package install

import (
	"testing"
	"time"

	"portcullis.dev/conformance/support"
)

// With autoscaling, the replicas of a data plane are the HorizontalPodAutoscaler's, and whoever else sets them.
func TestAutoscaling(t *testing.T) {
	leaveBare(t)
	crds(t, "none", "v1.7.0")
	parameters := []string{
		"--set", "dataPlane.parameters.autoscaling.maxReplicas=3",
		"--set", "dataPlane.parameters.autoscaling.targetCPUUtilization=60",
		"--set", "dataPlane.parameters.resources.requests.cpu=10m",
	}
	helmInstalls(t, parameters...)
	ns := namespace(t, "autoscaling")
	apply(t, ns, edge())
	at := address(t, ns)

	says := must(t, "kubectl", "get", "horizontalpodautoscaler", "edge-portcullis", "--namespace", ns, "--output",
		"jsonpath={.spec.scaleTargetRef.kind}/{.spec.scaleTargetRef.name} {.spec.minReplicas} {.spec.maxReplicas} {.spec.metrics[0].resource.target.averageUtilization}")
	if says != "Deployment/edge-portcullis 1 3 60" {
		t.Errorf("the HorizontalPodAutoscaler says %q", says)
	}
	deployment := []string{"deployment/edge-portcullis", "--namespace", ns}
	must(t, "kubectl", append([]string{"scale", "--replicas=2"}, deployment...)...)
	must(t, "kubectl", append([]string{"rollout", "status", "--timeout=60s"}, deployment...)...)
	// The controller writes the Deployment again, and not its replicas.
	helmUpgrades(t, append(parameters, "--set", "dataPlane.parameters.podAnnotations.written=again")...)
	support.Eventually(t, 30*time.Second, "the Deployment is written", func() error {
		return do("kubectl", "get", "deployment", "edge-portcullis", "--namespace", ns, "--output=jsonpath={.spec.template.metadata.annotations}").lacks(0, []string{`"written":"again"`})
	})
	must(t, "kubectl", append([]string{"rollout", "status", "--timeout=60s"}, deployment...)...)
	// What others write of its fields is put right within five seconds; this is not one of its fields.
	must(t, "kubectl", append([]string{"patch", "--type=merge", "--patch", `{"spec":{"revisionHistoryLimit":1,"strategy":{"rollingUpdate":{"maxSurge":3}}}}`}, deployment...)...)
	time.Sleep(7 * time.Second)
	if replicas := must(t, "kubectl", append([]string{"get", "--output=jsonpath={.spec.replicas} {.status.readyReplicas}"}, deployment...)...); replicas != "2 2" {
		t.Errorf("there are %q replicas, and 2 were set", replicas)
	}
	ends(t, 0, []string{"data plane OK 2 of 2 pods ready"}, "portcullis", "status")

	// Without autoscaling, the parameters say how many.
	helmUpgrades(t, "--set", "dataPlane.parameters.replicas=1")
	must(t, "kubectl", "wait", "--for=delete", "horizontalpodautoscaler/edge-portcullis", "--namespace", ns, "--timeout=30s")
	support.Eventually(t, 60*time.Second, "one replica", func() error {
		return do("kubectl", append([]string{"get", "--output=jsonpath={.spec.replicas} {.status.replicas}"}, deployment...)...).lacks(0, []string{"1 1"})
	})
	support.Answers(t, at, "site.example", 200)
}
