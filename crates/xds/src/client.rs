//! The client's side: what a data plane holds, from one stream to the next.
//!
//! In flow the server's responses, and word of what became of a configuration. Out flow whole changes for the proxy, and requests.
//! Of what is served only names and versions are kept; pieces are staged until their commit, within a bound.

use crate::name::{self, COMMIT_TYPE_URL, Commit, GATEWAY, PieceKey, TYPE_URL_PREFIX, type_url};
use crate::proto::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status, code};
use crate::{CHUNK_BYTES, ConfigVersion, HELD_BYTES, HELD_LIMIT};
use portcullis_model::{ConfigDelta, ObjectName, Resource, ResourceKind, wire};
use std::collections::BTreeMap;
use std::ops::Bound;

/// How much may be staged: far more than any Gateway has.
const STAGED_BYTES: usize = 512 << 20;
const STAGED_PIECES: usize = 1_000_000;

/// How many unreadable pieces a refusal names.
const NAMED: usize = 8;

/// Longest version of a piece; ours have 32 bytes.
const VERSION_LENGTH: usize = 64;

/// What a data plane of one Gateway holds. Lives longer than a stream: each begins with [`ClientStream::start`].
#[derive(Debug)]
pub struct ClientStream {
    gateway: ObjectName,
    pod: String,
    prefix: String,
    /// The versions of what is served, by name without the prefix.
    held: BTreeMap<Box<str>, Box<str>>,
    version: ConfigVersion,
    staging: Staging,
    /// The commit whose outcome is awaited.
    applying: Option<String>,
    /// Everything was asked for anew because versions differed.
    is_reset: bool,
}

#[derive(Debug, Default)]
struct Staging {
    /// Everything that is held goes.
    is_cleared: bool,
    pieces: BTreeMap<Box<str>, Staged>,
    bytes: usize,
}

#[derive(Debug)]
enum Staged {
    Piece { version: Box<str>, resource: Resource, size: usize },
    Unreadable { version: Box<str>, reason: String, size: usize },
    Removed,
}

/// What a response leads to.
#[derive(Debug, Default)]
pub struct ClientStep {
    /// What is to be sent, in this order.
    pub requests: Vec<DeltaDiscoveryRequest>,
    /// What is to be applied; its outcome goes to [`ClientStream::applied`].
    pub commit: Option<ClientCommit>,
}

/// A configuration that is complete.
#[derive(Debug)]
pub struct ClientCommit {
    /// The change from the one before, at most one; none when everything was held already.
    pub deltas: Vec<ConfigDelta>,
    /// Its version.
    pub version: ConfigVersion,
    /// The Gateway's generation that it was made of.
    pub gateway_generation: i64,
}

/// A response that the protocol does not allow. The stream has to end, and another may begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller broke the protocol: {0}")]
pub struct Violation(String);

impl ClientStream {
    /// A data plane that holds nothing yet. `pod` is its name, for the controller's log.
    pub fn new(gateway: ObjectName, pod: impl Into<String>) -> Self {
        Self {
            pod: pod.into(),
            prefix: name::prefix(&gateway),
            gateway,
            held: BTreeMap::new(),
            version: ConfigVersion::default(),
            staging: Staging::default(),
            applying: None,
            is_reset: false,
        }
    }

    /// Begins a stream: what is to be sent first, in this order.
    pub fn start(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.staging = Staging::default();
        self.applying = None;
        self.is_reset = false;
        let mut requests = Vec::new();
        let tells = self.may_tell_held();
        for kind in ResourceKind::ALL {
            requests.push(self.subscription(type_url(kind)));
            if tells {
                self.tell_held(kind, &mut requests);
            }
        }
        requests.push(self.subscription(COMMIT_TYPE_URL));
        if let Some(first) = requests.first_mut() {
            first.node = Some(Node { id: self.pod.clone(), cluster: self.gateway.to_string() });
        }
        requests
    }

    /// Takes a response in.
    ///
    /// # Errors
    /// When the response makes no sense or exceeds a bound.
    pub fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Result<ClientStep, Violation> {
        if self.applying.is_some() {
            return Err(violation("a response came before the answer to the commit"));
        }
        for name in &response.removed_resources {
            let name = self.own(name)?;
            self.staging.remove(name);
        }
        if response.type_url == COMMIT_TYPE_URL {
            let [commit] = &*response.resources else { return Err(violation("not one commit in a response")) };
            let value = commit.resource.as_ref().map(|any| &*any.value).unwrap_or_default();
            let commit = serde_json::from_slice(value).map_err(|error| Violation(format!("not a commit: {error}")))?;
            return self.commit(&commit, response.nonce);
        }
        for resource in response.resources {
            let own = self.own(&resource.name)?.into();
            self.stage(own, resource)?;
        }
        if self.staging.bytes > STAGED_BYTES || self.staging.pieces.len() > STAGED_PIECES {
            return Err(violation("more was sent than a data plane takes"));
        }
        Ok(ClientStep::default())
    }

    /// What became of the last commit: the answer to send. An error is served except for what it names. `None` when the stream has
    /// ended since.
    pub fn applied(&mut self, outcome: Result<(), String>) -> Option<DeltaDiscoveryRequest> {
        let nonce = self.applying.take()?;
        let error = outcome.err().map(|message| Status { code: code::FAILED_PRECONDITION, message });
        Some(answer(nonce, error))
    }

    /// Whether a configuration was committed, and not removed since.
    pub fn serves(&self) -> bool {
        self.held.contains_key(GATEWAY)
    }

    /// The version of what was committed last.
    pub fn version(&self) -> ConfigVersion {
        self.version
    }

    fn subscription(&self, type_url: &str) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: vec![name::wildcard(&self.gateway)],
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// Adds the versions that are held to the last request, and to as many more as they need.
    fn tell_held(&self, kind: ResourceKind, requests: &mut Vec<DeltaDiscoveryRequest>) {
        let first = (Bound::Included(kind.as_str()), Bound::Unbounded);
        let held = self.held.range::<str, _>(first).map(|(name, version)| (&**name, &**version));
        let mut bytes = 0;
        for (name, version) in held.take_while(|(name, _)| name.split('/').next() == Some(kind.as_str())) {
            if bytes > CHUNK_BYTES {
                let type_url = type_url(kind).to_owned();
                requests.push(DeltaDiscoveryRequest { type_url, ..DeltaDiscoveryRequest::default() });
                bytes = 0;
            }
            let Some(last) = requests.last_mut() else { return };
            let name = format!("{}{name}", self.prefix);
            bytes += name.len() + version.len() + 16;
            last.initial_resource_versions.insert(name, version.to_string());
        }
    }

    /// Whether the server takes the versions that are held.
    fn may_tell_held(&self) -> bool {
        let bytes: usize = self.held.iter().map(|(name, version)| self.prefix.len() + name.len() + version.len()).sum();
        self.held.len() <= HELD_LIMIT && bytes <= HELD_BYTES
    }

    /// The part of a name after this Gateway's prefix.
    fn own<'a>(&self, name: &'a str) -> Result<&'a str, Violation> {
        let own = name.strip_prefix(&self.prefix);
        own.ok_or_else(|| violation("a resource that is not this Gateway's was sent"))
    }

    fn stage(&mut self, name: Box<str>, resource: proto::Resource) -> Result<(), Violation> {
        if resource.version.is_empty() || resource.version.len() > VERSION_LENGTH {
            return Err(violation("a resource has no usable version"));
        }
        let any = resource.resource.unwrap_or_default();
        let size = name.len() + any.value.len();
        let version = resource.version.into_boxed_str();
        let staged = match self.read(&name, &any) {
            Ok(resource) => Staged::Piece { version, resource, size },
            Err(reason) => Staged::Unreadable { version, reason, size },
        };
        self.staging.put(name, staged);
        Ok(())
    }

    /// Reads a piece, and checks that it is what its name says.
    fn read(&self, name: &str, any: &proto::Any) -> Result<Resource, String> {
        let unknown = || format!("{} is not known to this release", any.type_url.trim_start_matches(TYPE_URL_PREFIX));
        let of_type = |kind: &ResourceKind| type_url(*kind) == any.type_url;
        let kind = ResourceKind::ALL.into_iter().find(of_type).ok_or_else(unknown)?;
        let key = PieceKey::parse(name).map_err(|error| error.to_string())?;
        let resource = wire::decode(kind, &any.value).map_err(|error| error.reason)?;
        let is_named = match &resource {
            Resource::Gateway(gateway) => key == PieceKey::Gateway && gateway.name == self.gateway,
            other => other.key().map(PieceKey::Keyed) == Some(key),
        };
        if is_named { Ok(resource) } else { Err("the content is of another name".to_owned()) }
    }

    fn commit(&mut self, commit: &Commit, nonce: String) -> Result<ClientStep, Violation> {
        let (version, count) = self.outcome();
        if (version, count) != (commit.version, commit.resources) {
            return self.reset(nonce);
        }
        if let Some(message) = self.staging.unreadable() {
            let error = Status { code: code::INVALID_ARGUMENT, message };
            return Ok(ClientStep { requests: vec![answer(nonce, Some(error))], commit: None });
        }
        let has_gateway =
            self.staging.pieces.contains_key(GATEWAY) || (!self.staging.is_cleared && self.held.contains_key(GATEWAY));
        if has_gateway != (count > 0) {
            return Err(violation("pieces were sent without the Gateway that they belong to"));
        }
        let staging = std::mem::take(&mut self.staging);
        let deltas = self.take(staging);
        self.version = version;
        self.is_reset = false;
        self.applying = Some(nonce);
        let gateway_generation = commit.gateway_generation;
        Ok(ClientStep { requests: Vec::new(), commit: Some(ClientCommit { deltas, version, gateway_generation }) })
    }

    /// The version and the number of pieces after what is staged.
    fn outcome(&self) -> (ConfigVersion, usize) {
        let mut version = if self.staging.is_cleared { ConfigVersion::default() } else { self.version };
        let mut count = if self.staging.is_cleared { 0 } else { self.held.len() };
        for (name, staged) in &self.staging.pieces {
            let full = format!("{}{name}", self.prefix);
            if let Some(held) = self.held.get(name).filter(|_| !self.staging.is_cleared) {
                version.subtract(&full, held);
                count -= 1;
            }
            if let Some(new) = staged.version() {
                version.add(&full, new);
                count += 1;
            }
        }
        (version, count)
    }

    /// Asks for everything anew, once.
    fn reset(&mut self, nonce: String) -> Result<ClientStep, Violation> {
        if self.is_reset {
            return Err(violation("the version of a complete configuration is not that of its pieces"));
        }
        self.is_reset = true;
        self.staging = Staging::default();
        let message = "what is held is not what was sent; everything is asked for anew".to_owned();
        let error = Some(Status { code: code::DATA_LOSS, message });
        let request =
            DeltaDiscoveryRequest { response_nonce: nonce, error_detail: error, ..self.subscription(COMMIT_TYPE_URL) };
        Ok(ClientStep { requests: vec![request], commit: None })
    }

    /// Makes what is staged what is held; returns the change.
    fn take(&mut self, staging: Staging) -> Vec<ConfigDelta> {
        let had_gateway = self.held.contains_key(GATEWAY);
        let mut before = if staging.is_cleared { std::mem::take(&mut self.held) } else { BTreeMap::new() };
        let (mut upserted, mut gone) = (Vec::new(), Vec::new());
        for (name, staged) in staging.pieces {
            let held = before.remove(&name).or_else(|| self.held.remove(&name));
            match staged {
                Staged::Piece { version, resource, .. } => {
                    if held.as_ref() != Some(&version) {
                        upserted.push(resource);
                    }
                    self.held.insert(name, version);
                }
                Staged::Removed if held.is_some() => gone.push(name),
                // Nothing is taken while a piece is unreadable.
                Staged::Removed | Staged::Unreadable { .. } => {}
            }
        }
        gone.extend(before.into_keys());
        if had_gateway && !self.held.contains_key(GATEWAY) {
            return vec![ConfigDelta::Remove { gateway: self.gateway.clone() }];
        }
        let keys = gone.iter().filter_map(|name| name.parse().ok());
        let removed: Vec<_> = keys.collect();
        if upserted.is_empty() && removed.is_empty() {
            return Vec::new();
        }
        vec![ConfigDelta::Change { gateway: self.gateway.clone(), upserted, removed }]
    }
}

impl Staging {
    fn remove(&mut self, name: &str) {
        if name == GATEWAY {
            *self = Self { is_cleared: true, ..Self::default() };
        } else {
            self.put(name.into(), Staged::Removed);
        }
    }

    fn put(&mut self, name: Box<str>, staged: Staged) {
        self.bytes += staged.size();
        let before = self.pieces.insert(name, staged);
        self.bytes -= before.map_or(0, |before| before.size());
    }

    /// What cannot be read, as a sentence.
    fn unreadable(&self) -> Option<String> {
        let unreadable = self.pieces.iter().filter_map(|(name, staged)| match staged {
            Staged::Unreadable { reason, .. } => Some(format!("{name}: {reason}")),
            _ => None,
        });
        let named: Vec<_> = unreadable.clone().take(NAMED).collect();
        let more = unreadable.count() - named.len();
        match (named.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(named.join("; ")),
            (false, more) => Some(format!("{}; and {more} more", named.join("; "))),
        }
    }
}

impl Staged {
    fn version(&self) -> Option<&str> {
        match self {
            Self::Piece { version, .. } | Self::Unreadable { version, .. } => Some(version),
            Self::Removed => None,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Piece { size, .. } | Self::Unreadable { size, .. } => *size,
            Self::Removed => 0,
        }
    }
}

fn answer(response_nonce: String, error_detail: Option<Status>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: COMMIT_TYPE_URL.to_owned(),
        response_nonce,
        error_detail,
        ..DeltaDiscoveryRequest::default()
    }
}

fn violation(text: &str) -> Violation {
    Violation(text.to_owned())
}
