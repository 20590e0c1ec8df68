// Package support is what the tests on a cluster have in common: waiting, certificates, and traffic that notices every
// request that is lost.
package support
