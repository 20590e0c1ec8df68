//! GatewayParameters: what a class's and a Gateway's own parametersRef come to, merged.
//!
//! Fail closed: parameters that are absent, of a foreign kind or invalid make the class, or the Gateway, not accepted. A Gateway's own
//! parameters set only what its class lets them set; where data planes may connect to is the class's word alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_api::gateway as api;
use portcullis_api::gateway_class::GatewayClass;
use portcullis_api::gateway_parameters::{
    DataPlane, DataPlaneField, GatewayParameters, MetadataAllowance, ParameterProblem,
};
use portcullis_api::{Foreign, ObjectKey};
use portcullis_model::{Cidr, ObjectName};

use crate::findings::{Finding, FindingCode};
use crate::gateway_class::ClassState;
use crate::snapshot::Snapshot;
use crate::text::{group_kind, joined, shown};

/// The group of our own kinds.
pub(crate) const GROUP: &str = "portcullis.dev";
/// The kind.
pub(crate) const KIND: &str = "GatewayParameters";

/// What a class says. Without parametersRef it says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClassParameters {
    data_plane: DataPlane,
    allowed_fields: Vec<DataPlaneField>,
    allowed_metadata: MetadataAllowance,
    /// Sorted, without duplicates.
    pub(crate) allowed_addresses: Vec<Cidr>,
    pub(crate) external_names: ExternalNames,
}

/// Which names a Service of type ExternalName may have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ExternalNames {
    /// Any: in a folder, everything comes from one hand.
    Any,
    /// Those of these domains (lower case): the names themselves and all below.
    Under(Arc<[Arc<str>]>),
}

impl Default for ExternalNames {
    fn default() -> Self {
        Self::Under(Arc::new([]))
    }
}

impl ExternalNames {
    /// Whether a name, in lower case, may be reached.
    pub(crate) fn allow(&self, hostname: &str) -> bool {
        let is_under = |domain: &Arc<str>| {
            hostname.strip_suffix(&**domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        match self {
            Self::Any => true,
            Self::Under(domains) => domains.iter().any(is_under),
        }
    }
}

/// Labels and annotations for what is made for a Gateway.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// The fields of the Gateway that say more than its class allows, each with the keys.
    pub(crate) ignored: Vec<String>,
}

impl ClassParameters {
    /// What a Gateway's `spec.infrastructure` comes to.
    pub(crate) fn metadata(&self, infrastructure: Option<&api::GatewayInfrastructure>) -> Metadata {
        let Some(infrastructure) = infrastructure else { return Metadata::default() };
        let (labels, no_labels) = self.allowed_metadata.labels(&infrastructure.labels);
        let (annotations, no_annotations) = self.allowed_metadata.annotations(&infrastructure.annotations);
        let fields = [("labels", no_labels), ("annotations", no_annotations)];
        let ignored = fields.iter().filter(|(_, keys)| !keys.is_empty()).map(|(field, keys)| {
            let keys: Vec<_> = keys.iter().map(|key| Foreign(key).to_string()).collect();
            format!("spec.infrastructure.{field}: {}", joined(&keys, ", "))
        });
        Metadata { labels, annotations, ignored: ignored.collect() }
    }
}

/// The GatewayParameters that a class names, whether they exist or not.
pub(crate) fn named_by_class(class: &GatewayClass) -> Option<ObjectName> {
    let reference = class.spec.parameters_ref.as_ref()?;
    let is_ours = reference.group == GROUP && reference.kind == KIND;
    is_ours.then(|| ObjectName::new(reference.namespace.as_deref().unwrap_or_default(), reference.name.as_str()))
}

/// The GatewayParameters that a Gateway names, whether they exist or not.
pub(crate) fn named_by_gateway(name: &ObjectName, gateway: &api::Gateway) -> Option<ObjectName> {
    let reference = gateway.spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    let is_ours = reference.group == GROUP && reference.kind == KIND;
    is_ours.then(|| ObjectName::new(name.namespace.clone(), reference.name.as_str()))
}

/// What a class's parameters come to, or why the class is not accepted.
pub(crate) fn of_class(class: &GatewayClass, snapshot: &Snapshot) -> Result<ClassParameters, String> {
    let Some(reference) = &class.spec.parameters_ref else { return Ok(ClassParameters::default()) };
    let field = "spec.parametersRef";
    let Some(name) = named_by_class(class) else { return Err(foreign_kind(field, &reference.group, &reference.kind)) };
    if name.namespace.is_empty() {
        return Err(format!("{field}: GatewayParameters are in a namespace; set {field}.namespace"));
    }
    let parameters = find(snapshot, field, &name)?;
    let invalid = |message: String| format!("{field}: GatewayParameters {}: {message}", shown(&name));
    sound(&parameters.problems()).map_err(invalid)?;
    let spec = &parameters.spec;
    let data_plane = spec.data_plane.as_deref().cloned().unwrap_or_default();
    let (allowed_addresses, external_names) = upstreams(spec.upstreams.as_deref()).map_err(invalid)?;
    Ok(ClassParameters {
        data_plane,
        allowed_fields: spec.allow_gateway_fields.clone(),
        allowed_metadata: spec.allow_gateway_metadata.as_deref().cloned().unwrap_or_default(),
        allowed_addresses,
        external_names,
    })
}

/// The parameters of one Gateway.
#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    pub(crate) data_plane: Arc<DataPlane>,
    pub(crate) class: Arc<ClassParameters>,
    /// What the Gateway's own parameters set and may not, in words.
    pub(crate) ignored: Vec<String>,
}

/// What the parameters of a Gateway of a class of ours come to, or why the Gateway is not accepted.
pub(crate) fn of_gateway(
    name: &ObjectName,
    gateway: &api::Gateway,
    class: &ClassState,
    snapshot: &Snapshot,
) -> Result<Parameters, String> {
    let class = match class {
        ClassState::Ours(parameters) => parameters.clone(),
        ClassState::Refused { message } => {
            let class = Foreign(&gateway.spec.gateway_class_name);
            return Err(format!("GatewayClass {class} is not accepted: {message}"));
        }
        _ => Arc::default(),
    };
    let infrastructure = gateway.spec.infrastructure.as_ref();
    let Some(reference) = infrastructure.and_then(|infrastructure| infrastructure.parameters_ref.as_ref()) else {
        return Ok(Parameters { data_plane: Arc::new(class.data_plane.clone()), class, ignored: Vec::new() });
    };
    let field = "spec.infrastructure.parametersRef";
    let Some(own_name) = named_by_gateway(name, gateway) else {
        return Err(foreign_kind(field, &reference.group, &reference.kind));
    };
    let parameters = find(snapshot, field, &own_name)?;
    let invalid = |message: String| format!("{field}: GatewayParameters {}: {message}", shown(&own_name));
    sound(&parameters.problems()).map_err(invalid)?;
    let spec = &parameters.spec;
    let own = spec.data_plane.as_deref().cloned().unwrap_or_default();
    let overlay = class.data_plane.overlaid(&own, &class.allowed_fields);
    sound(&overlay.data_plane.problems())
        .map_err(|message| invalid(format!("together with those of the class: {message}")))?;
    let mut ignored: Vec<_> = overlay.ignored.iter().map(|field| format!("spec.{field}")).collect();
    let has = [
        ("spec.upstreams", spec.upstreams.is_some()),
        ("spec.allowGatewayFields", !spec.allow_gateway_fields.is_empty()),
        ("spec.allowGatewayMetadata", spec.allow_gateway_metadata.is_some()),
    ];
    ignored.extend(has.iter().filter(|(_, has)| *has).map(|(field, _)| (*field).to_owned()));
    Ok(Parameters { data_plane: Arc::new(overlay.data_plane), class, ignored })
}

fn foreign_kind(field: &str, group: &str, kind: &str) -> String {
    format!(
        "{field}: parameters of kind {} are not supported; use {KIND} of group {GROUP}, or remove parametersRef",
        group_kind(group, kind)
    )
}

fn find<'a>(snapshot: &'a Snapshot, field: &str, name: &ObjectName) -> Result<&'a GatewayParameters, String> {
    let found = snapshot.gateway_parameters.get(name).map(Arc::as_ref);
    found.ok_or_else(|| {
        format!("{field}: GatewayParameters {} do not exist; create them, or correct the name", shown(name))
    })
}

fn sound(problems: &[ParameterProblem]) -> Result<(), String> {
    let problems: Vec<_> = problems.iter().map(|problem| format!("spec.{problem}")).collect();
    if problems.is_empty() { Ok(()) } else { Err(joined(&problems, "; ")) }
}

fn upstreams(
    upstreams: Option<&portcullis_api::gateway_parameters::Upstreams>,
) -> Result<(Vec<Cidr>, ExternalNames), String> {
    let Some(upstreams) = upstreams else { return Ok(Default::default()) };
    let mut allowed = Vec::new();
    for (index, text) in upstreams.allowed_addresses.iter().enumerate() {
        let read = text.parse::<Cidr>();
        allowed.push(
            read.map_err(|error| format!("spec.upstreams.allowedAddresses[{index}]: '{}' {error}", Foreign(text)))?,
        );
    }
    allowed.sort_unstable();
    allowed.dedup();
    let mut domains: Vec<Arc<str>> = Vec::new();
    for (index, text) in upstreams.allowed_external_names.iter().enumerate() {
        let is_name = !text.starts_with('*') && portcullis_api::shared::Hostname::from(text.as_str()).parse().is_ok();
        if !is_name {
            return Err(format!(
                "spec.upstreams.allowedExternalNames[{index}]: '{}' is not a domain; write it as in example.com, without a wildcard: names \
                 below it are allowed, too",
                Foreign(text)
            ));
        }
        domains.push(text.to_ascii_lowercase().into());
    }
    domains.sort_unstable();
    domains.dedup();
    Ok((allowed, ExternalNames::Under(domains.into())))
}

/// The finding about parameters where there is nothing that they could shape.
pub(crate) fn finding_in_a_folder(key: &ObjectKey, parameters: &GatewayParameters) -> Option<Finding> {
    let spec = &parameters.spec;
    let fields = [("spec.dataPlane", spec.data_plane.is_some()), ("spec.upstreams", spec.upstreams.is_some())];
    let fields: Vec<_> = fields.iter().filter(|(_, has)| *has).map(|(field, _)| *field).collect();
    let (first, message) =
        (*fields.first()?, format!("no effect here: {} is for the data planes of a cluster", joined(&fields, " and ")));
    Some(Finding::new(FindingCode::FieldIgnored, key.clone(), first, message, ""))
}

#[cfg(test)]
mod tests {
    use super::ExternalNames;

    #[test]
    fn a_domain_covers_its_own_name_and_all_below() {
        let names = ExternalNames::Under(["example.com".into(), "db.example.net".into()].into());
        for (hostname, allowed) in [
            ("example.com", true),
            ("a.b.example.com", true),
            ("notexample.com", false),
            ("com", false),
            ("example.net", false),
            ("db.example.net", true),
            ("", false),
        ] {
            assert_eq!(names.allow(hostname), allowed, "{hostname}");
        }
        assert!(!ExternalNames::default().allow("example.com"));
        assert!(ExternalNames::Any.allow("example.com"));
    }
}
