// Package faults breaks things around Portcullis in the test cluster while load runs, and checks that nothing is lost,
// that no other Gateway is touched, and that status tells the truth soon.
//
// In: KUBECONFIG, an installed Portcullis with the GatewayClass `portcullis`, and PORTCULLIS_CLUSTER, the command of the
// test cluster (conformance/run), which kills and starts the cluster's own programs. Without them the tests fail.
//
// Tests that break only what is their own run beside each other; those that break what all share run alone, before them.
package faults
