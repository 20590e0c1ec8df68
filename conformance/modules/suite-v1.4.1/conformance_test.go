// Package suite runs the official conformance suite of Gateway API v1.4.1, unchanged, against the cluster that
// the kubeconfig names. Every option is a flag of the suite itself, but for the two addresses of the static
// address test, which this release takes only in Go.
package suite

import (
	"flag"
	"testing"

	"sigs.k8s.io/gateway-api/apis/v1beta1"
	"sigs.k8s.io/gateway-api/conformance"
)

var (
	usable   = flag.String("usable-address", "", "an address that a Gateway can have")
	unusable = flag.String("unusable-address", "", "an address that no Gateway can have")
)

func TestConformance(t *testing.T) {
	options := conformance.DefaultOptions(t)
	options.UsableNetworkAddresses = addresses(*usable)
	options.UnusableNetworkAddresses = addresses(*unusable)
	conformance.RunConformanceWithOptions(t, options)
}

func addresses(value string) []v1beta1.GatewaySpecAddress {
	if value == "" {
		return nil
	}
	kind := v1beta1.IPAddressType
	return []v1beta1.GatewaySpecAddress{{Type: &kind, Value: value}}
}
