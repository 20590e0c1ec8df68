//! The delta protocol between controller and data planes, as two state machines without I/O of their own.
