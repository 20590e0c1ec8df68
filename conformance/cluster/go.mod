// The command that builds, starts, drives and removes the test cluster.
module portcullis.dev/conformance/cluster

go 1.26.0
