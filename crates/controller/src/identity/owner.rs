//! Whose pod it is: the chain of owners from a pod up to a Gateway that we serve.
//!
//! Every link is read from the API server by name when a certificate is issued, and must be the very object (by UID) that the one
//! below names as its controller, and select it by its labels, as Kubernetes' own controllers demand. Whoever may write pods,
//! ReplicaSets or Deployments in a Gateway's namespace could forge links below; what cannot be had there is the name of our
//! Deployment while ours exists, its ServiceAccount, and the Gateway's UID.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::api::Api;
use portcullis_model::ObjectName;

use super::issue::{Refusal, Unavailable};
use super::token::PodToken;

const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "portcullis");
const APPLICATION: (&str, &str) = ("app.kubernetes.io/name", "portcullis-data-plane");

/// The Gateway that the pod is to belong to, as this controller knows it.
#[derive(Clone, Debug)]
pub(super) struct Owner<'a> {
    pub(super) gateway: &'a ObjectName,
    pub(super) uid: &'a str,
    /// The name of the Gateway's Deployment.
    pub(super) deployment: &'a str,
}

/// The objects of a chain, as the API server gave them.
struct Chain {
    pod: Pod,
    replica_set: ReplicaSet,
    deployment: Deployment,
}

/// Reads the chain of owners and checks every link of it.
pub(super) async fn check(
    client: &kube::Client,
    token: &PodToken,
    owner: &Owner<'_>,
) -> Result<Result<(), Refusal>, Unavailable> {
    let Some(pod) = Api::<Pod>::namespaced(client.clone(), &token.namespace).get_opt(&token.pod).await? else {
        return Ok(Err(Refusal::Pod));
    };
    if let Err(refusal) = check_pod(&pod, token) {
        return Ok(Err(refusal));
    }
    let Some(name) = controller(&pod.metadata, "apps/v1", "ReplicaSet").map(|owner| owner.name.clone()) else {
        return Ok(Err(Refusal::Owner));
    };
    let Some(replica_set) = Api::<ReplicaSet>::namespaced(client.clone(), &token.namespace).get_opt(&name).await?
    else {
        return Ok(Err(Refusal::Owner));
    };
    let Some(name) = controller(&replica_set.metadata, "apps/v1", "Deployment").map(|owner| owner.name.clone()) else {
        return Ok(Err(Refusal::Owner));
    };
    if name != owner.deployment {
        return Ok(Err(Refusal::Owner));
    }
    let Some(deployment) = Api::<Deployment>::namespaced(client.clone(), &token.namespace).get_opt(&name).await? else {
        return Ok(Err(Refusal::Owner));
    };
    let linked = Chain { pod, replica_set, deployment }.leads_to(owner, token).is_some();
    Ok(if linked { Ok(()) } else { Err(Refusal::Owner) })
}

/// The pod is the token's, and runs.
fn check_pod(pod: &Pod, token: &PodToken) -> Result<(), Refusal> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let finished = matches!(phase, Some("Succeeded" | "Failed"));
    let same = pod.metadata.uid.as_deref() == Some(token.pod_uid.as_str());
    if !same || finished || pod.metadata.deletion_timestamp.is_some() {
        return Err(Refusal::Pod);
    }
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    if account == Some(token.service_account.as_str()) { Ok(()) } else { Err(Refusal::Pod) }
}

impl Chain {
    /// `None` when a link is missing.
    fn leads_to(&self, owner: &Owner<'_>, token: &PodToken) -> Option<()> {
        let Self { pod, replica_set, deployment } = self;
        let of_pod = controller(&pod.metadata, "apps/v1", "ReplicaSet")?;
        is(&replica_set.metadata, of_pod)?;
        selects(&replica_set.spec.as_ref()?.selector, &pod.metadata)?;

        let of_replica_set = controller(&replica_set.metadata, "apps/v1", "Deployment")?;
        is(&deployment.metadata, of_replica_set)?;
        let spec = deployment.spec.as_ref()?;
        selects(&spec.selector, &replica_set.metadata)?;

        let account = spec.template.spec.as_ref()?.service_account_name.as_deref()?;
        (account == token.service_account).then_some(())?;
        (deployment.metadata.name.as_deref()? == owner.deployment).then_some(())?;
        let labels = deployment.metadata.labels.as_ref()?;
        [MANAGED_BY, APPLICATION].iter().all(|(name, value)| has(labels, name, value)).then_some(())?;

        let of_deployment = controller(&deployment.metadata, "gateway.networking.k8s.io/", "Gateway")?;
        (of_deployment.name == *owner.gateway.name && of_deployment.uid == owner.uid).then_some(())
    }
}

/// The one owner that controls an object, if it is of this kind. `api_version` may end in `/` for any version.
fn controller<'a>(metadata: &'a ObjectMeta, api_version: &str, kind: &str) -> Option<&'a OwnerReference> {
    let mut controllers =
        metadata.owner_references.iter().flatten().filter(|reference| reference.controller == Some(true));
    let (Some(reference), None) = (controllers.next(), controllers.next()) else { return None };
    let version = match api_version.ends_with('/') {
        true => reference.api_version.starts_with(api_version),
        false => reference.api_version == api_version,
    };
    (version && reference.kind == kind).then_some(reference)
}

/// The object is the one that the reference means, of this life.
fn is(metadata: &ObjectMeta, reference: &OwnerReference) -> Option<()> {
    let same = metadata.name.as_ref() == Some(&reference.name) && metadata.uid.as_ref() == Some(&reference.uid);
    same.then_some(())
}

/// The selector is of labels only, not empty, and fits.
fn selects(selector: &LabelSelector, metadata: &ObjectMeta) -> Option<()> {
    let wanted = selector.match_labels.as_ref().filter(|wanted| !wanted.is_empty())?;
    let labels = metadata.labels.as_ref()?;
    let plain = selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    (plain && wanted.iter().all(|(name, value)| has(labels, name, value))).then_some(())
}

fn has(labels: &BTreeMap<String, String>, name: &str, value: &str) -> bool {
    labels.get(name).is_some_and(|known| known == value)
}
