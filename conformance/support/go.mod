module portcullis.dev/conformance/support

go 1.26.0
