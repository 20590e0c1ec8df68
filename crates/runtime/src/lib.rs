//! What every long-running part of Portcullis needs, and nothing about routing.
//!
//! In flow signals of the operating system, the parts' own events and counts, and operators' requests.
//! Out flow the decision to drain, readiness, metrics, logs and two small HTTP servers.
//!
//! | module | what it is |
//! |---|---|
//! | [`drain`] | graceful up to a deadline, then forced; counts what is still open |
//! | [`signals`] | SIGTERM and SIGINT drain, the second one forces; SIGHUP reloads |
//! | [`readiness`] | named gates that must all be open |
//! | [`metrics`] | counters, gauges and histograms with one writer per worker; OpenMetrics text |
//! | [`log`] | the program's log and the access log |
//! | [`escape`] | the one writer for foreign text |
//! | [`server`], [`telemetry`], [`admin`] | the small HTTP servers on the control thread |
//! | [`operators`] | these servers and the access log, from their options |
//! | [`worker_count`], [`file_limits`] | what the machine allows |
//! | [`core_dumps`] | none, for keys would be in them |
//! | [`threads`] | named threads with a single-threaded runtime each |

pub mod admin;
pub mod core_dumps;
pub mod drain;
pub mod escape;
pub mod file_limits;
pub mod log;
pub mod metrics;
pub mod operators;
pub mod readiness;
pub mod server;
pub mod signals;
pub mod telemetry;
pub mod threads;
pub mod worker_count;
