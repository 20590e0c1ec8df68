//! The control plane: watches a cluster, compiles, writes status, provisions data planes and streams their configuration.
