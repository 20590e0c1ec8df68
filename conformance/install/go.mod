module portcullis.dev/conformance/install

go 1.26.0

require portcullis.dev/conformance/support v0.0.0

replace portcullis.dev/conformance/support => ../support
