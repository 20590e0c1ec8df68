//! `portcullis install`: the controller and its definitions into a cluster, without Helm.
//!
//! What flows in: the manifests that this program holds (those of `deploy/install.yaml`, made from the chart), and what the
//! cluster has. What flows out: server-side apply of each, in order, and what was done, a line an object.
//!
//! The Gateway API's definitions belong to the cluster: they are installed where there are none, and otherwise left as they
//! are, whatever their version and channel.

pub(crate) mod api_server;
#[cfg(test)]
mod confinement;
pub(crate) mod gateway_api;
pub(crate) mod manifests;
pub(crate) mod pods;
pub(crate) mod resources;
#[cfg(test)]
mod rights;

use crate::cli::{GatewayApiChannel, Install};
use crate::exit::Exit;
use crate::output;
use api_server::{ApiServer, Failure};
use gateway_api::{Found, Plan};
use manifests::Settings;
use portcullis_api::Foreign;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Whose fields they are.
const FIELD_MANAGER: &str = "portcullis-install";
/// How long the API server may take to serve a new definition.
const ESTABLISHED: Duration = Duration::from_secs(30);
/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Installs, or prints what would be.
pub(crate) fn run(arguments: &Install) -> Exit {
    let settings = match Settings::new(&arguments.namespace, arguments.image.as_deref(), arguments.replicas) {
        Ok(settings) => settings,
        Err(problem) => {
            output::problem(&format!("portcullis: {problem}"));
            return Exit::Usage;
        }
    };
    if arguments.dry_run {
        return dry_run(arguments, &settings);
    }
    let done = api_server::run(&arguments.cluster, async |server| install(&server, arguments, &settings).await);
    match done {
        Ok(exit) => exit,
        Err(failure) => output::failure(&failure.to_string()),
    }
}

/// Everything that does not depend on a cluster; the Gateway API's definitions if a channel was named.
fn dry_run(arguments: &Install, settings: &Settings) -> Exit {
    let mut objects = match arguments.channel {
        Some(GatewayApiChannel::Standard) => manifests::gateway_api(gateway_api::Channel::Standard),
        Some(GatewayApiChannel::Experimental) => manifests::gateway_api(gateway_api::Channel::Experimental),
        Some(GatewayApiChannel::None) | None => Vec::new(),
    };
    objects.extend(manifests::objects(settings));
    for object in &objects {
        if output::bytes(b"---\n") != Exit::Success {
            return Exit::Failure;
        }
        let printed = output::yaml(object);
        if printed != Exit::Success {
            return printed;
        }
    }
    Exit::Success
}

async fn install(server: &ApiServer, arguments: &Install, settings: &Settings) -> Result<Exit, Failure> {
    let found = Found::read(server).await?;
    let plan = found.plan(arguments.channel).map_err(Failure::Refused)?;
    let objects = manifests::objects(settings);
    let left = left_to_helm(server, &objects).await?;

    for line in found.lines(&plan) {
        output::line(&line);
    }
    let definitions = match &plan {
        Plan::Keep => Vec::new(),
        Plan::Install(channel) => manifests::gateway_api(*channel),
        Plan::Complete { channel, missing } => {
            let mut definitions = manifests::gateway_api(*channel);
            definitions.retain(|definition| missing.contains(&resources::name(definition).to_owned()));
            definitions
        }
    };
    for object in definitions.iter().chain(&objects) {
        if left.contains(&resources::display(object)) {
            output::line(&format!("{} is Helm's: left as it is", resources::display(object)));
            continue;
        }
        apply(server, object).await?;
    }
    if found.is_empty() && plan == Plan::Keep {
        output::problem(
            "portcullis: the Gateway API is not installed, and --channel none leaves it so: the controller waits until it is",
        );
    }
    if arguments.wait {
        return wait(server, settings, arguments.timeout).await;
    }
    output::line("Installed. `portcullis status` shows how it goes.");
    Ok(Exit::Success)
}

/// Definitions that Helm owns, which stay its own. Anything else of Helm's means that it was installed with it.
async fn left_to_helm(server: &ApiServer, objects: &[Value]) -> Result<Vec<String>, Failure> {
    let mut left = Vec::new();
    for object in objects {
        let Some(there) = server.read(object).await? else { continue };
        let Some((release, namespace)) = resources::helm_release(&there) else { continue };
        if resources::is_definition(object) {
            // Helm keeps a definition when its release is uninstalled; from then on it is nobody's.
            if !server.has_helm_release(namespace, release).await? {
                continue;
            }
            left.push(resources::display(object));
            continue;
        }
        return Err(Failure::Refused(format!(
            "{} was installed with Helm (release {release}): use helm upgrade, or helm uninstall first",
            resources::display(object),
            release = Foreign(release),
        )));
    }
    Ok(left)
}

async fn apply(server: &ApiServer, object: &Value) -> Result<(), Failure> {
    let before = server.read(object).await?;
    let after = server.apply(object, FIELD_MANAGER).await?;
    let done = match before.map(|before| as_wanted(before) == as_wanted(after)) {
        None => "created",
        Some(true) => "unchanged",
        Some(false) => "changed",
    };
    output::line(&format!("{} {done}", resources::display(object)));
    if resources::is_definition(object) {
        established(server, object).await?;
    }
    Ok(())
}

/// An object without what is not install's to say.
fn as_wanted(mut object: Value) -> Value {
    for field in ["managedFields", "resourceVersion"] {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.shift_remove(field);
        }
    }
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
    object
}

/// Waits until objects of a new kind can be written.
async fn established(server: &ApiServer, definition: &Value) -> Result<(), Failure> {
    let deadline = Instant::now() + ESTABLISHED;
    loop {
        let there = server.read(definition).await?;
        if there.is_some_and(|there| resources::condition(&there, "Established") == Some("True")) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::Refused(format!(
                "{} is not served after {} s: see its conditions",
                resources::display(definition),
                ESTABLISHED.as_secs(),
            )));
        }
        sleep(LOOK).await;
    }
}

/// Waits until the controller is ready and has accepted its GatewayClass.
async fn wait(server: &ApiServer, settings: &Settings, limit: Duration) -> Result<Exit, Failure> {
    let objects = manifests::objects(settings);
    let deadline = Instant::now() + limit;
    let mut missing = String::new();
    loop {
        let looked = async {
            for object in &objects {
                let there = match object["kind"].as_str() {
                    Some("Deployment" | "GatewayClass") => server.read(object).await?,
                    _ => continue,
                };
                if let Some(problem) = not_ready(&there.unwrap_or_default()) {
                    return Ok(Some(format!("{}: {problem}", resources::display(object))));
                }
            }
            Ok(None)
        };
        match timeout_at(deadline, looked).await {
            Ok(Ok(None)) => {
                output::line("Installed, and ready.");
                return Ok(Exit::Success);
            }
            Ok(Ok(Some(problem))) => missing = problem,
            Ok(Err(failure)) => return Err(failure),
            Err(_) => {}
        }
        if Instant::now() + LOOK > deadline {
            let why = pods::trouble_of_the_controller(server, &settings.namespace).await;
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            output::problem(&format!("portcullis: not ready after {} s: {missing}{why}", limit.as_secs()));
            return Ok(Exit::Problems);
        }
        sleep(LOOK).await;
    }
}

/// What a Deployment or GatewayClass still lacks.
pub(crate) fn not_ready(object: &Value) -> Option<String> {
    if object["kind"] == "GatewayClass" {
        return match resources::condition(object, "Accepted") {
            Some("True") => None,
            _ => Some("no controller has accepted it".to_owned()),
        };
    }
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let wanted = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let (updated, available) = (number("/status/updatedReplicas"), number("/status/availableReplicas"));
    let seen = number("/status/observedGeneration") >= number("/metadata/generation");
    let old = (number("/status/replicas") - updated).max(0);
    if seen && updated >= wanted && available >= wanted && old == 0 {
        return None;
    }
    let replaced = if old == 0 { String::new() } else { format!(", {old} to be replaced") };
    Some(format!("{available} of {wanted} pods are available, {updated} up to date{replaced}"))
}

#[cfg(test)]
mod tests {
    use super::not_ready;
    use serde_json::json;

    #[test]
    fn a_deployment_is_ready_when_all_of_its_new_pods_are_available() {
        let deployment = |generation, observed, all, updated, available| {
            json!({
                "kind": "Deployment",
                "metadata": { "generation": generation },
                "spec": { "replicas": 2 },
                "status": {
                    "observedGeneration": observed, "replicas": all, "updatedReplicas": updated,
                    "availableReplicas": available,
                },
            })
        };
        for (deployment, ready) in [
            (deployment(2, 2, 2, 2, 2), true),
            (deployment(2, 1, 2, 2, 2), false),
            (deployment(2, 2, 3, 2, 3), false),
            (deployment(2, 2, 2, 1, 2), false),
            (deployment(2, 2, 2, 2, 1), false),
            (json!({ "kind": "Deployment" }), false),
        ] {
            assert_eq!(not_ready(&deployment).is_none(), ready, "{deployment}");
        }
    }

    #[test]
    fn a_class_is_ready_when_it_is_accepted() {
        let class = |status| json!({ "kind": "GatewayClass", "status": { "conditions": [{ "type": "Accepted", "status": status }] } });
        assert_eq!(not_ready(&class("True")), None);
        assert!(not_ready(&class("Unknown")).is_some());
    }
}
