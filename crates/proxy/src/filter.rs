//! Filters that need I/O.
