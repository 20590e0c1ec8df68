//! Reading a Kubernetes cluster: what it serves, lists and watches, as objects and changes.
