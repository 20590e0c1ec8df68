//! Which port of a data plane's pod stands for a listener's port.

/// The port of a pod on which `/metrics`, `/healthz` and `/readyz` are served.
pub const TELEMETRY_PORT: u16 = 9090;

/// Where a listener on [`TELEMETRY_PORT`] is bound instead.
const BESIDE_TELEMETRY: u16 = 19090;

/// The port of the pod that a listener's port is bound on, and that a Service's `targetPort` names: the same, but for the one that
/// telemetry has. Of a Gateway's listeners on 9090 and 19090 only those on the port that comes first are accepted.
pub fn pod_port(listener_port: u16) -> u16 {
    match listener_port {
        TELEMETRY_PORT => BESIDE_TELEMETRY,
        port => port,
    }
}
