//! `portcullis uninstall`: removes what `portcullis install` made, the controller first.
//!
//! What stays unless it is asked for: our definitions with their objects, and the Gateway API's, which belong to the cluster.
//! Gateways that are still there keep their data planes, which go on with their last configuration; that is said.

use crate::cli::Uninstall;
use crate::exit::Exit;
use crate::install::api_server::{self, ApiServer, Failure};
use crate::install::manifests::{self, Settings};
use crate::install::resources::{self, CONTROLLER_NAME, GATEWAY_CLASSES, GATEWAYS, IN_USE};
use crate::output;
use portcullis_api::Foreign;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the controller's pods may take to end.
const GONE: Duration = Duration::from_secs(60);

/// Removes, or prints what would be removed.
pub(crate) fn run(arguments: &Uninstall) -> Exit {
    let settings = match Settings::new(&arguments.namespace, None, None) {
        Ok(settings) => settings,
        Err(problem) => {
            output::problem(&format!("portcullis: {problem}"));
            return Exit::Usage;
        }
    };
    let done = api_server::run(&arguments.cluster, async |server| uninstall(&server, arguments, &settings).await);
    match done {
        Ok(()) => Exit::Success,
        Err(failure) => output::failure(&failure.to_string()),
    }
}

async fn uninstall(server: &ApiServer, arguments: &Uninstall, settings: &Settings) -> Result<(), Failure> {
    let classes = server.list(&GATEWAY_CLASSES, None).await?.unwrap_or_default();
    if arguments.gateway_api_crds {
        refuse_if_others_need_it(&classes)?;
    }
    let objects = removed(arguments, settings);
    refuse_if_helm_made_it(server, &objects).await?;
    warn_of_gateways(server, &classes).await?;

    for object in &objects {
        if arguments.dry_run {
            if server.read(object).await?.is_some() {
                output::line(&format!("{} would be deleted", resources::display(object)));
            }
            continue;
        }
        if server.delete(object).await? {
            output::line(&format!("{} deleted", resources::display(object)));
        }
        if object["kind"] == "Deployment" {
            gone(server, object).await?;
        }
    }
    if !arguments.dry_run {
        remove_namespace(server, settings).await?;
    }
    Ok(())
}

/// What goes, in order, without the namespace.
fn removed(arguments: &Uninstall, settings: &Settings) -> Vec<Value> {
    let mut objects = manifests::objects(settings);
    objects.reverse();
    objects.retain(|object| object["kind"] != "Namespace" && (arguments.crds || !resources::is_definition(object)));
    // The controller ends before its rights do.
    objects.sort_by_key(|object| object["kind"] != "Deployment");
    // What the controller made for itself.
    let own = |api_version: &str, kind: &str, name: &str| json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name, "namespace": settings.namespace } });
    objects.push(own("v1", "Secret", "portcullis-ca"));
    objects.push(own("coordination.k8s.io/v1", "Lease", "portcullis-controller"));
    if arguments.gateway_api_crds {
        let mut definitions = manifests::gateway_api_of_any_channel();
        // The policy guards the definitions, and goes before them.
        definitions.sort_by_key(resources::is_definition);
        objects.extend(definitions);
    }
    objects
}

fn refuse_if_others_need_it(classes: &[Value]) -> Result<(), Failure> {
    let other = classes.iter().find(|class| class["spec"]["controllerName"] != CONTROLLER_NAME);
    other.map_or(Ok(()), |class| {
        Err(Failure::Refused(format!(
            "the GatewayClass {} is of another controller, {}: with --gateway-api-crds it would lose all of its objects; \
             remove that GatewayClass first, or leave --gateway-api-crds away",
            Foreign(resources::name(class)),
            Foreign(class["spec"]["controllerName"].as_str().unwrap_or_default()),
        )))
    })
}

async fn refuse_if_helm_made_it(server: &ApiServer, objects: &[Value]) -> Result<(), Failure> {
    for object in objects {
        let there = server.read(object).await?;
        if let Some((release, namespace)) = there.as_ref().and_then(resources::helm_release) {
            // Helm keeps a definition when its release is uninstalled; from then on it is nobody's.
            if resources::is_definition(object) && !server.has_helm_release(namespace, release).await? {
                continue;
            }
            return Err(Failure::Refused(format!(
                "{} was installed with Helm: use helm uninstall {}",
                resources::display(object),
                Foreign(release),
            )));
        }
    }
    Ok(())
}

/// Gateways of ours, which have data planes.
async fn warn_of_gateways(server: &ApiServer, classes: &[Value]) -> Result<(), Failure> {
    let ours: BTreeSet<&str> = classes
        .iter()
        .filter(|class| class["spec"]["controllerName"] == CONTROLLER_NAME)
        .map(resources::name)
        .collect();
    let gateways = server.list(&GATEWAYS, None).await?.unwrap_or_default();
    let names: Vec<String> = gateways
        .iter()
        .filter(|gateway| gateway["spec"]["gatewayClassName"].as_str().is_some_and(|class| ours.contains(class)))
        .map(|gateway| {
            let namespace = gateway["metadata"]["namespace"].as_str().unwrap_or_default();
            Foreign(&format!("{namespace}/{}", resources::name(gateway))).to_string()
        })
        .collect();
    if !names.is_empty() {
        output::problem(&format!(
            "portcullis: these Gateways are still there, and so are their data planes; without a controller they go on with \
             their last configuration, and new pods of them wait: {}",
            names.join(", "),
        ));
    }
    Ok(())
}

/// Waits until an object, and what depends on it, is gone.
async fn gone(server: &ApiServer, object: &Value) -> Result<(), Failure> {
    let deadline = Instant::now() + GONE;
    while server.read(object).await?.is_some() {
        if Instant::now() > deadline {
            output::problem(&format!(
                "portcullis: {} is still there after {} s; going on",
                resources::display(object),
                GONE.as_secs(),
            ));
            break;
        }
        sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}

/// The namespace goes if install made it and nobody else uses it.
async fn remove_namespace(server: &ApiServer, settings: &Settings) -> Result<(), Failure> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": settings.namespace } });
    let Some(there) = server.read(&namespace).await? else { return Ok(()) };
    if there["metadata"]["labels"]["app.kubernetes.io/name"] != "portcullis" {
        return Ok(());
    }
    for resource in IN_USE {
        let objects = server.list_metadata(resource, Some(&settings.namespace)).await?.unwrap_or_default();
        if let Some(object) = objects.iter().find(|object| !is_of_every_namespace(resource.kind, object)) {
            output::line(&format!(
                "Namespace {} stays: it has {} {}",
                settings.namespace,
                resource.kind,
                Foreign(resources::name(object)),
            ));
            return Ok(());
        }
    }
    server.delete(&namespace).await?;
    output::line(&format!("Namespace {} deleted", settings.namespace));
    Ok(())
}

/// What Kubernetes makes in every namespace, and what is on its way out.
fn is_of_every_namespace(kind: &str, object: &Value) -> bool {
    matches!((kind, resources::name(object)), ("ConfigMap", "kube-root-ca.crt") | ("ServiceAccount", "default"))
        || object["metadata"]["deletionTimestamp"].is_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cluster;
    use crate::install::manifests::NAMESPACE;

    fn kinds(crds: bool, gateway_api_crds: bool) -> Vec<String> {
        let cluster = Cluster { kubeconfig: None, context: None };
        let arguments = Uninstall { cluster, namespace: NAMESPACE.to_owned(), crds, gateway_api_crds, dry_run: false };
        let settings = Settings::new(NAMESPACE, None, None).unwrap();
        removed(&arguments, &settings).iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn definitions_stay_unless_asked_for() {
        let definitions = |kinds: Vec<String>| kinds.iter().filter(|kind| *kind == "CustomResourceDefinition").count();
        assert_eq!(definitions(kinds(false, false)), 0);
        assert_eq!(definitions(kinds(true, false)), 1);
        assert_eq!(definitions(kinds(false, true)), 14);
    }

    #[test]
    fn the_controller_goes_first_and_the_namespace_apart() {
        let kinds = kinds(true, true);
        assert_eq!(kinds[0], "Deployment");
        assert!(!kinds.contains(&"Namespace".to_owned()));
        let place = |kind: &str| kinds.iter().position(|other| other == kind).unwrap();
        assert!(place("ClusterRole") < place("Secret"));
    }

    #[test]
    fn the_gateway_api_stays_where_others_need_it() {
        let class = |controller: &str| json!({ "metadata": { "name": "a" }, "spec": { "controllerName": controller } });
        assert!(refuse_if_others_need_it(&[class(CONTROLLER_NAME)]).is_ok());
        assert!(refuse_if_others_need_it(&[class(CONTROLLER_NAME), class("example.com/other")]).is_err());
    }
}
