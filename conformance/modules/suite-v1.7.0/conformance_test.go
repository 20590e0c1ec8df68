// Package suite runs the official conformance suite of Gateway API v1.7.0, unchanged, against the cluster that
// the kubeconfig names. Every option is a flag of the suite itself.
package suite

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
