//! The server's side of one stream.
//!
//! In flow a data plane's requests, and word that the catalog changed. Out flow responses, and what the data plane said of them.
//! What a stream remembers does not grow with the configuration: a position in the catalog's order of changes, and the one commit
//! that waits for an answer.

use crate::catalog::{Catalog, GatewayPieces, Piece};
use crate::name::{self, COMMIT, COMMIT_TYPE_URL, Commit, PieceKey, TYPE_URL_PREFIX, type_url};
use crate::proto::{self, Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status, code};
use crate::version::PieceVersion;
use crate::{CHUNK_BYTES, ConfigVersion, HELD_BYTES, HELD_LIMIT};
use bytes::Bytes;
use portcullis_model::ObjectName;
use std::collections::{BTreeMap, HashMap};

/// How often a data plane may ask for everything anew on one stream.
const RESETS: usize = 4;

/// How much of a data plane's message is kept.
const MESSAGE_LIMIT: usize = 4096;

/// What a name and a version cost on the wire beside their bytes.
const OVERHEAD: usize = 128;

/// The server's side of one stream. Whose stream it is, the transport knows from the client's certificate.
#[derive(Debug)]
pub struct ServerStream {
    gateway: ObjectName,
    prefix: String,
    wildcard: String,
    position: Position,
    in_flight: Option<InFlight>,
    last_nonce: u64,
    resets: usize,
}

/// What the client holds, once it has answered what is under way.
#[derive(Debug)]
enum Position {
    /// It is still telling.
    Subscribing { held: HashMap<String, String>, bytes: usize },
    /// These versions, from an earlier stream, by name.
    Held(HashMap<String, String>),
    /// Everything up to a sequence of the Gateway that was born at one.
    At { born: u64, sequence: u64 },
    /// Nothing.
    Empty,
    /// Something, and it has to start anew.
    Unknown,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    version: ConfigVersion,
    gateway_generation: i64,
}

/// What a data plane's request leads to.
#[derive(Debug, Default, PartialEq)]
pub struct ServerStep {
    /// What is to be sent, in this order.
    pub responses: Vec<DeltaDiscoveryResponse>,
    /// What the data plane said.
    pub event: Option<StreamEvent>,
}

/// What a data plane said of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// It serves it.
    Acknowledged {
        /// Which.
        version: ConfigVersion,
        /// The Gateway's generation that it was made of.
        gateway_generation: i64,
    },
    /// It does not serve it, or not all of it.
    Refused {
        /// Which.
        version: ConfigVersion,
        /// Why: foreign text, at most 4 KiB.
        message: String,
    },
}

/// A request that ends the stream with a status of gRPC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// One of [`code`].
    pub code: i32,
    /// What is wrong.
    pub message: String,
}

impl ServerStream {
    /// A stream of a data plane of this Gateway. It sends nothing before the data plane has subscribed.
    pub fn new(gateway: ObjectName) -> Self {
        Self {
            prefix: name::prefix(&gateway),
            wildcard: name::wildcard(&gateway),
            gateway,
            position: Position::Subscribing { held: HashMap::new(), bytes: 0 },
            in_flight: None,
            last_nonce: 0,
            resets: 0,
        }
    }

    /// Takes a request in.
    ///
    /// # Errors
    /// When the request names what is not this Gateway's, makes no sense, or exceeds a bound. The stream has to end with it.
    pub fn on_request(&mut self, request: DeltaDiscoveryRequest, catalog: &Catalog) -> Result<ServerStep, Refused> {
        self.check_names(&request)?;
        if request.response_nonce.is_empty() {
            self.subscribe(request)?;
            return Ok(ServerStep { responses: self.update(catalog), event: None });
        }
        let Some(answered) = self.in_flight.take_if(|in_flight| in_flight.nonce == request.response_nonce) else {
            // An answer to what needs none, or a second one.
            return Ok(ServerStep::default());
        };
        if !request.resource_names_subscribe.is_empty() {
            self.resets += 1;
            if self.resets > RESETS {
                return Err(refused(
                    code::RESOURCE_EXHAUSTED,
                    "everything was asked for anew too often on this stream",
                ));
            }
            self.position = Position::Unknown;
        }
        let event = answer(answered, request.error_detail);
        Ok(ServerStep { responses: self.update(catalog), event: Some(event) })
    }

    /// What is to be sent because the pieces of these Gateways changed. Nothing while a commit waits for its answer: what changed is
    /// sent then.
    pub fn on_change(&mut self, changed: &[ObjectName], catalog: &Catalog) -> Vec<DeltaDiscoveryResponse> {
        if changed.contains(&self.gateway) { self.update(catalog) } else { Vec::new() }
    }

    /// Whose stream it is.
    pub fn gateway(&self) -> &ObjectName {
        &self.gateway
    }

    /// Whether a commit waits for its answer.
    pub fn is_waiting(&self) -> bool {
        self.in_flight.is_some()
    }

    fn check_names(&self, request: &DeltaDiscoveryRequest) -> Result<(), Refused> {
        if !request.type_url.starts_with(TYPE_URL_PREFIX) {
            return Err(refused(code::INVALID_ARGUMENT, "the type is none that is served here"));
        }
        let node = request.node.as_ref().map(|node| &node.cluster).filter(|cluster| !cluster.is_empty());
        let is_own_node = node.is_none_or(|cluster| Some(&**cluster) == self.prefix.strip_suffix('/'));
        let subscribed = request.resource_names_subscribe.iter().chain(&request.resource_names_unsubscribe);
        let mut names = subscribed.chain(request.initial_resource_versions.keys());
        if !is_own_node || !names.all(|name| name.starts_with(&self.prefix)) {
            let message = format!("a data plane of Gateway {} may name its own resources only", self.gateway);
            return Err(refused(code::PERMISSION_DENIED, &message));
        }
        if request.resource_names_subscribe.iter().any(|name| *name != self.wildcard) {
            let message = format!("only {} can be subscribed to", self.wildcard);
            return Err(refused(code::INVALID_ARGUMENT, &message));
        }
        Ok(())
    }

    fn subscribe(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Refused> {
        let Position::Subscribing { held, bytes } = &mut self.position else {
            return Err(refused(code::INVALID_ARGUMENT, "everything is subscribed to already"));
        };
        for (name, version) in request.initial_resource_versions {
            *bytes += name.len() + version.len();
            held.insert(name, version);
        }
        if held.len() > HELD_LIMIT || *bytes > HELD_BYTES {
            return Err(refused(code::RESOURCE_EXHAUSTED, "too many held versions; leave all of them out"));
        }
        if request.type_url == COMMIT_TYPE_URL && !request.resource_names_subscribe.is_empty() {
            let held = std::mem::take(held);
            self.position = if held.is_empty() { Position::Empty } else { Position::Held(held) };
        }
        Ok(())
    }

    /// What has to be sent for the client to hold what the catalog has.
    fn update(&mut self, catalog: &Catalog) -> Vec<DeltaDiscoveryResponse> {
        if self.in_flight.is_some() {
            return Vec::new();
        }
        let Some(pieces) = catalog.pieces(&self.gateway) else { return self.gone() };
        let mut chunks = Chunks::new(&self.gateway, pieces.version.to_string());
        match &self.position {
            Position::Subscribing { .. } => return Vec::new(),
            Position::At { born, sequence } if *born == pieces.born && *sequence >= pieces.forgotten => {
                if *sequence == pieces.sequence {
                    return Vec::new();
                }
                pieces.changes_after(*sequence).for_each(|(key, piece)| match piece {
                    Some(piece) => chunks.put(key, piece),
                    None => chunks.remove(key.name(&self.gateway)),
                });
            }
            Position::Held(held) => difference(&self.gateway, pieces, held, &mut chunks),
            Position::Empty => pieces.all().for_each(|(key, piece)| chunks.put(key, piece)),
            Position::Unknown | Position::At { .. } => {
                chunks.remove(PieceKey::Gateway.name(&self.gateway));
                chunks.close();
                pieces.all().for_each(|(key, piece)| chunks.put(key, piece));
            }
        }
        self.position = Position::At { born: pieces.born, sequence: pieces.sequence };
        let commit =
            Commit { version: pieces.version, gateway_generation: pieces.generation, resources: pieces.count() };
        let responses = chunks.finish(&commit);
        self.send(responses, &commit)
    }

    /// The Gateway is not, or no longer, in the catalog. What a data plane brought from an earlier stream it keeps: this replica has
    /// not seen the Gateway go.
    fn gone(&mut self) -> Vec<DeltaDiscoveryResponse> {
        if !matches!(self.position, Position::At { .. }) {
            return Vec::new();
        }
        self.position = Position::Empty;
        let commit = Commit { version: ConfigVersion::default(), gateway_generation: 0, resources: 0 };
        let mut chunks = Chunks::new(&self.gateway, commit.version.to_string());
        chunks.remove(PieceKey::Gateway.name(&self.gateway));
        let responses = chunks.finish(&commit);
        self.send(responses, &commit)
    }

    fn send(&mut self, mut responses: Vec<DeltaDiscoveryResponse>, commit: &Commit) -> Vec<DeltaDiscoveryResponse> {
        for response in &mut responses {
            self.last_nonce += 1;
            response.nonce = self.last_nonce.to_string();
        }
        self.in_flight = Some(InFlight {
            nonce: self.last_nonce.to_string(),
            version: commit.version,
            gateway_generation: commit.gateway_generation,
        });
        responses
    }
}

/// What differs from the versions that a client holds.
fn difference(gateway: &ObjectName, pieces: &GatewayPieces, held: &HashMap<String, String>, chunks: &mut Chunks<'_>) {
    let mut same = 0;
    for (key, piece) in pieces.all() {
        let held = held.get(&key.name(gateway));
        same += usize::from(held.is_some());
        if held.is_none_or(|held| *held != piece.version.to_string()) {
            chunks.put(key, piece);
        }
    }
    if same == held.len() {
        return;
    }
    let prefix = name::prefix(gateway);
    let is_known = |name: &str| {
        let key = name.strip_prefix(&prefix).and_then(|key| PieceKey::parse(key).ok());
        // The text is compared too: two texts must not stand for one key.
        key.is_some_and(|key| pieces.piece(&key).is_some() && key.name(gateway) == name)
    };
    let mut gone: Vec<_> = held.keys().filter(|name| !is_known(name)).collect();
    gone.sort_unstable();
    gone.into_iter().for_each(|name| chunks.remove(name.clone()));
}

fn answer(answered: InFlight, error: Option<Status>) -> StreamEvent {
    let InFlight { version, gateway_generation, .. } = answered;
    match error {
        None => StreamEvent::Acknowledged { version, gateway_generation },
        Some(error) => {
            let mut message = error.message;
            message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
            StreamEvent::Refused { version, message }
        }
    }
}

fn refused(code: i32, message: &str) -> Refused {
    Refused { code, message: message.to_owned() }
}

/// Gathers pieces into responses of one type each and of a bounded size. Removals go first.
struct Chunks<'a> {
    gateway: &'a ObjectName,
    version: String,
    closed: Vec<DeltaDiscoveryResponse>,
    open: BTreeMap<&'static str, (DeltaDiscoveryResponse, usize)>,
    removed: Option<(DeltaDiscoveryResponse, usize)>,
}

impl<'a> Chunks<'a> {
    fn new(gateway: &'a ObjectName, version: String) -> Self {
        Self { gateway, version, closed: Vec::new(), open: BTreeMap::new(), removed: None }
    }

    fn put(&mut self, key: &PieceKey, piece: &Piece) {
        let type_url = type_url(key.kind());
        let resource = resource(type_url, key.name(self.gateway), piece.version, piece.bytes.clone());
        let size = resource.name.len() + piece.bytes.len() + OVERHEAD;
        let (response, filled) = self.open.entry(type_url).or_insert_with(|| (empty(type_url, &self.version), 0));
        if *filled > 0 && *filled + size > CHUNK_BYTES {
            self.closed.push(std::mem::replace(response, empty(type_url, &self.version)));
            *filled = 0;
        }
        response.resources.push(resource);
        *filled += size;
    }

    fn remove(&mut self, name: String) {
        let gateway = type_url(portcullis_model::ResourceKind::Gateway);
        let (response, filled) = self.removed.get_or_insert_with(|| (empty(gateway, &self.version), 0));
        if *filled + name.len() > CHUNK_BYTES {
            self.closed.push(std::mem::replace(response, empty(gateway, &self.version)));
            *filled = 0;
        }
        *filled += name.len() + OVERHEAD;
        response.removed_resources.push(name);
    }

    /// What was gathered so far goes before what follows.
    fn close(&mut self) {
        let open = std::mem::take(&mut self.open).into_values();
        self.closed.extend(self.removed.take().into_iter().chain(open).map(|(response, _)| response));
    }

    fn finish(mut self, commit: &Commit) -> Vec<DeltaDiscoveryResponse> {
        self.close();
        let mut last = empty(COMMIT_TYPE_URL, &self.version);
        // A commit is text and numbers: writing it cannot fail, and an empty one would be refused.
        let bytes = Bytes::from(serde_json::to_vec(commit).unwrap_or_default());
        let name = format!("{}/{COMMIT}", self.gateway);
        last.resources.push(resource(COMMIT_TYPE_URL, name, PieceVersion::of(&bytes), bytes));
        self.closed.push(last);
        self.closed
    }
}

fn empty(type_url: &str, version: &str) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        system_version_info: version.to_owned(),
        type_url: type_url.to_owned(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn resource(type_url: &str, name: String, version: PieceVersion, value: Bytes) -> proto::Resource {
    let any = Any { type_url: type_url.to_owned(), value };
    proto::Resource { version: version.to_string(), resource: Some(any), name }
}
