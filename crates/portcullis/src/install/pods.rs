//! Why pods do not run, in the words of the cluster.

use super::api_server::ApiServer;
use super::resources::{self, PODS};
use portcullis_api::Foreign;
use serde_json::Value;

/// The labels of the controller's Deployment and pods.
pub(crate) const CONTROLLERS: &str = "app.kubernetes.io/name=portcullis,app.kubernetes.io/component=controller";

/// What keeps a pod of the controller from running, as far as pods say so and may be read.
pub(crate) async fn trouble_of_the_controller(server: &ApiServer, namespace: &str) -> Option<String> {
    let pods = server.list_selected(&PODS, CONTROLLERS).await.ok()??;
    pods.iter().filter(|pod| pod["metadata"]["namespace"] == namespace).find_map(trouble)
}

/// What keeps a pod from running.
fn trouble(pod: &Value) -> Option<String> {
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return None;
    }
    let list = |field: &str| pod["status"][field].as_array().into_iter().flatten();
    let waits = list("containerStatuses").find_map(|container| {
        let waiting = &container["state"]["waiting"];
        let reason = waiting["reason"].as_str().filter(|reason| !USUAL.contains(reason))?;
        Some((reason, waiting["message"].as_str()))
    });
    let unplaced = || {
        let placed = list("conditions").find(|condition| condition["type"] == "PodScheduled")?;
        (placed["status"] == "False")
            .then(|| (placed["reason"].as_str().unwrap_or("Unscheduled"), placed["message"].as_str()))
    };
    let (reason, message) = waits.or_else(unplaced)?;
    let message = message.map(|message| format!(": {}", Foreign(message))).unwrap_or_default();
    Some(format!("pod {}: {}{message}", Foreign(resources::name(pod)), Foreign(reason)))
}

/// What every container waits for at its start.
const USUAL: &[&str] = &["ContainerCreating", "PodInitializing"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_says_what_keeps_it() {
        let waiting = |reason: &str| json!([{ "state": { "waiting": { "reason": reason, "message": "why" } } }]);
        let unplaced =
            json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node" }]);
        for (status, expected) in [
            (json!({ "containerStatuses": waiting("ImagePullBackOff") }), Some("pod a: ImagePullBackOff: why")),
            (json!({ "containerStatuses": waiting("ContainerCreating") }), None),
            (json!({ "containerStatuses": [{ "state": { "running": {} } }] }), None),
            (json!({ "conditions": unplaced }), Some("pod a: Unschedulable: no node")),
            (json!({}), None),
        ] {
            let pod = json!({ "metadata": { "name": "a" }, "status": status });
            assert_eq!(trouble(&pod).as_deref(), expected, "{pod}");
        }
        let leaving = json!({
            "metadata": { "name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "status": { "containerStatuses": waiting("CrashLoopBackOff") },
        });
        assert_eq!(trouble(&leaving), None);
    }
}
