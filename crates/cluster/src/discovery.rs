//! Which kinds an API server serves, in which versions, of the groups that come from CustomResourceDefinitions. The
//! others are part of every API server.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::connect::Client;
use crate::error::{Problem, ReadError};
use crate::kinds::{CUSTOM_GROUPS, KindId, priority};
use crate::request::document;

/// What is served, by group and kind.
pub(crate) type Served = BTreeMap<(String, String), ServedResource>;

/// A kind that is served.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ServedResource {
    pub(crate) resource: String,
    /// The highest first.
    pub(crate) versions: Vec<String>,
}

/// The version of a kind that is part of every API server.
pub(crate) fn builtin_version(kind: KindId) -> Option<&'static str> {
    (!CUSTOM_GROUPS.contains(&kind.group)).then_some("v1")
}

/// Asks for all groups.
pub(crate) async fn discover(client: &Client) -> Result<Served, ReadError> {
    let mut served = Served::new();
    for group in CUSTOM_GROUPS {
        discover_group(client, group, &mut served).await?;
    }
    for resource in served.values_mut() {
        resource.versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
    }
    Ok(served)
}

async fn discover_group(client: &Client, group: &str, served: &mut Served) -> Result<(), ReadError> {
    let Some(ApiGroup { versions }) = read(client, &format!("/apis/{group}")).await? else { return Ok(()) };
    for GroupVersion { version } in versions {
        let path = format!("/apis/{group}/{version}");
        let Some(ApiResourceList { resources }) = read(client, &path).await? else { continue };
        for resource in resources {
            let can = |verb: &str| resource.verbs.iter().any(|can| can == verb);
            if resource.name.contains('/') || !can("list") || !can("watch") {
                continue;
            }
            let entry = served.entry((group.to_owned(), resource.kind)).or_default();
            entry.resource = resource.name;
            entry.versions.push(version.clone());
        }
    }
    Ok(())
}

/// A document; none if there is no such group or version.
async fn read<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Option<T>, ReadError> {
    match document(client, path).await {
        Ok(buffer) => serde_json::from_slice(buffer.as_slice())
            .map(Some)
            .map_err(|error| ReadError::new(Problem::Malformed, format!("read {path}"), error)),
        Err(error) if error.problem == Problem::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Deserialize)]
struct ApiGroup {
    #[serde(default)]
    versions: Vec<GroupVersion>,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
}

#[derive(Deserialize)]
struct ApiResourceList {
    #[serde(default)]
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    kind: String,
    #[serde(default)]
    verbs: Vec<String>,
}
