// Package install installs, upgrades and removes Portcullis on the test cluster in every way that the documentation names,
// and checks that it goes as documented: with Helm, with portcullis install and with kubectl, as the README says it.
//
// In: KUBECONFIG of a cluster without Portcullis, into which its image was loaded; PORTCULLIS_CLUSTER, the command of the test
// cluster (conformance/run), for helm and for the Gateway API's CRDs; PORTCULLIS_PROGRAM, the program. Without them the tests
// fail. At the end the cluster has the CRDs of the Gateway API that it had before, and nothing of Portcullis.
package install
