//! Filters that need I/O, one file each. What filters change in heads is decided and done by `portcullis_decide`.
//!
//! In flows a request after its filters; out flow copies of it.

pub(crate) mod mirror;
