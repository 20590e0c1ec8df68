// The command that builds, starts, drives and removes the test cluster.
module portcullis.dev/conformance/cluster

go 1.26.0

require go.yaml.in/yaml/v3 v3.0.4
