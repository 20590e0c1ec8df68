// Package faults breaks things around Portcullis in the test cluster while load runs, and checks that nothing is lost,
// that no other Gateway is touched, and that status tells the truth soon.
//
// In: KUBECONFIG, an installed Portcullis with the GatewayClass `portcullis`, and PORTCULLIS_CLUSTER, the command of the
// test cluster (conformance/run), which kills and starts the cluster's own programs. Without them the tests fail.
package faults
