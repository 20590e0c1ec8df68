//! Everything once, for commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_api::object::ObjectError;
use portcullis_api::{Change, Object, ObjectKey};
use portcullis_model::ObjectName;

use crate::bodies::{Answer, is_name};
use crate::connect::Client;
use crate::decode::{self, DefinitionNews, Head, Item};
use crate::discovery::{Served, builtin_version, discover};
use crate::error::{Problem, ReadError};
use crate::kinds::{Content, KindId, WATCHED, Watched, choose_version};
use crate::owned::Owned;
use crate::pages::Pages;
use crate::request::Target;
use crate::selection::{Places, Selection};
use crate::served::{Definition, ServedKind, ServedSchema};

/// What was read.
#[derive(Debug, Default)]
pub struct Listing {
    /// The objects.
    pub objects: Vec<Object>,
    /// Objects that could not be read.
    pub unparsable: Vec<(ObjectKey, ObjectError)>,
    /// Deployments and Pods, if they were asked for.
    pub owned: Vec<Owned>,
    /// Kinds, places and objects that could not be read.
    pub unread: Vec<Unread>,
    /// Kinds that the API server does not serve.
    pub absent: Vec<KindId>,
    /// What the API server serves.
    pub served: ServedSchema,
}

/// Something that could not be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unread {
    /// The kind.
    pub kind: KindId,
    /// In which namespace; none for the whole cluster.
    pub namespace: Option<String>,
    /// The object; none for all of the kind.
    pub name: Option<String>,
    /// Why, and what to do.
    pub error: ReadError,
}

/// Reads everything that a selection names, except Secrets and ConfigMaps: for them see [`read`].
///
/// # Errors
/// If the API server cannot be reached or does not know who asks. Whatever else goes wrong is in the listing.
pub async fn list(client: &Client, selection: &Selection) -> Result<Listing, ReadError> {
    let served = discover(client).await?;
    let mut listing = Listing::default();
    let mut definitions = BTreeMap::new();
    for watched in WATCHED {
        let skipped = match watched.content {
            Content::Bodies => true,
            Content::Owned(_) => !selection.owned,
            Content::Objects | Content::Definitions => false,
        };
        if skipped {
            continue;
        }
        match version(watched, &served) {
            Ok(Some(version)) => list_kind(client, selection, watched, version, &mut listing, &mut definitions).await?,
            Ok(None) => listing.absent.push(watched.id),
            Err(error) => listing.unread.push(Unread { kind: watched.id, namespace: None, name: None, error }),
        }
    }
    listing.served = schema(&served, &definitions);
    Ok(listing)
}

/// The version in which a kind is to be read; none if it is not served.
fn version(watched: &Watched, served: &Served) -> Result<Option<String>, ReadError> {
    if let Some(version) = builtin_version(watched.id) {
        return Ok(Some(version.to_owned()));
    }
    let Some(served) = served.get(&(watched.id.group.to_owned(), watched.id.kind.to_owned())) else { return Ok(None) };
    let version = choose_version(watched.id, served.versions.iter().map(String::as_str));
    version.map(|version| Some(version.to_owned())).ok_or_else(|| unusable(watched, &served.versions))
}

/// The error of a kind that is served in none of the versions that can be read.
pub(crate) fn unusable(watched: &Watched, versions: &[String]) -> ReadError {
    let attempt = format!("read {}.{}", watched.resource, watched.id.group);
    ReadError::new(Problem::Version, attempt, format_args!("served as {} only", versions.join(", ")))
}

async fn list_kind(
    client: &Client,
    selection: &Selection,
    watched: &'static Watched,
    version: String,
    listing: &mut Listing,
    definitions: &mut BTreeMap<Box<str>, DefinitionNews>,
) -> Result<(), ReadError> {
    let places = match selection.scope.places(watched.reach) {
        Places::Cluster => vec![None],
        Places::Namespaces(namespaces) => namespaces.into_iter().map(Some).collect(),
        Places::Labelled => Vec::new(),
    };
    for namespace in places {
        let target =
            Target { watched, version: version.as_str().into(), namespace: namespace.as_deref().map(Arc::from) };
        match list_place(client, &target, listing, definitions).await {
            Ok(()) => {}
            Err(error) if matches!(error.problem, Problem::Unreachable | Problem::Unauthorized) => return Err(error),
            Err(error) => listing.unread.push(Unread { kind: watched.id, namespace, name: None, error }),
        }
    }
    Ok(())
}

async fn list_place(
    client: &Client,
    target: &Target,
    listing: &mut Listing,
    definitions: &mut BTreeMap<Box<str>, DefinitionNews>,
) -> Result<(), ReadError> {
    let api_version = target.api_version();
    let mut pages = Pages::new(client, target);
    while let Some(page) = pages.next().await? {
        for raw in pages.read(&page)?.items.into_iter().flatten() {
            let Ok(head) = Head::read(raw.get()) else { continue };
            if !decode::matters(target.watched, &head.name) {
                continue;
            }
            match decode::present(target.watched, &api_version, &head, raw.get()) {
                Item::Change(Change::Upsert(object)) => listing.objects.push(object),
                Item::Unparsable(key, error) => listing.unparsable.push((key, error)),
                Item::Owned(owned) => listing.owned.push(owned),
                Item::Definition(name, news) => definitions.extend(news.map(|news| (name, news))),
                Item::Change(Change::Delete(_)) | Item::Body(..) => {}
            }
        }
    }
    Ok(())
}

/// Reads Secrets and ConfigMaps by name. What is absent is left out.
pub async fn read(
    client: &Client,
    selection: &Selection,
    secrets: &BTreeSet<ObjectName>,
    config_maps: &BTreeSet<ObjectName>,
) -> Listing {
    let mut listing = Listing::default();
    for (id, names) in [(KindId::SECRET, secrets), (KindId::CONFIG_MAP, config_maps)] {
        let Some(watched) = WATCHED.iter().find(|watched| watched.id == id) else { continue };
        for name in names.iter().filter(|name| is_name(name)) {
            let outside = match selection.scope.places(watched.reach) {
                Places::Namespaces(namespaces) => !namespaces.iter().any(|namespace| **namespace == *name.namespace),
                // Whether the labels allow it is what the roles say, too.
                Places::Cluster | Places::Labelled => false,
            };
            let answer =
                if outside { Answer::Failed(not_within(id, name)) } else { read_body(client, watched, name).await };
            match answer {
                Answer::Object(object, _) => listing.objects.push(object),
                Answer::Unparsable(error, _) => listing.unparsable.push((id.key(&name.namespace, &name.name), error)),
                Answer::Absent => {}
                Answer::Failed(error) => listing.unread.push(Unread {
                    kind: id,
                    namespace: Some(name.namespace.to_string()),
                    name: Some(name.name.to_string()),
                    error,
                }),
            }
        }
    }
    listing
}

/// The error of an object that lies where its kind is not read.
pub(crate) fn not_within(id: KindId, name: &ObjectName) -> ReadError {
    let attempt = format!("get {id} {}/{}", name.namespace, name.name);
    ReadError::new(Problem::Outside, attempt, format_args!("{id}s are not read in this namespace"))
}

/// One Secret or ConfigMap.
pub(crate) async fn read_body(client: &Client, watched: &'static Watched, name: &ObjectName) -> Answer {
    let target = Target { watched, version: "v1".into(), namespace: Some(name.namespace.clone()) };
    let buffer = match target.get(client, &name.name).await {
        Ok(buffer) => buffer,
        Err(error) if error.problem == Problem::NotFound => return Answer::Absent,
        Err(error) => return Answer::Failed(error),
    };
    let malformed = || {
        // What could not be read is not repeated: it may be a value.
        let attempt = format!("get {} {}/{}", watched.id, name.namespace, name.name);
        Answer::Failed(ReadError::new(Problem::Malformed, attempt, "the answer is no JSON"))
    };
    let Ok(raw) = std::str::from_utf8(buffer.as_slice()) else { return malformed() };
    let Ok(head) = Head::read(raw) else { return malformed() };
    match decode::object(watched.id, &target.api_version(), &head, raw) {
        Item::Change(Change::Upsert(object)) => Answer::Object(object, head.version()),
        Item::Unparsable(_, error) => Answer::Unparsable(error, head.version()),
        _ => malformed(),
    }
}

/// What is served, with what the definitions say about it.
pub(crate) fn schema(served: &Served, definitions: &BTreeMap<Box<str>, DefinitionNews>) -> ServedSchema {
    let kinds = served.iter().map(|((group, kind), served)| {
        let definition = definitions.get(format!("{}.{group}", served.resource).as_str());
        ServedKind {
            group: group.clone(),
            kind: kind.clone(),
            resource: served.resource.clone(),
            versions: served.versions.clone(),
            definition: definition.map_or(Definition::Unknown, |news| news.definition.clone()),
        }
    });
    ServedSchema { kinds: kinds.collect() }
}
