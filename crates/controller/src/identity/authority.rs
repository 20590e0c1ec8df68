//! The certificate authority as a running part of each replica.
//!
//! In flow the Secret, and the word whether this replica holds the lease. Out flow the bundle of trusted certificates (for the
//! ConfigMaps that data planes mount), certificates for data planes, and the TLS configurations of this replica's servers and
//! of its client towards the other replicas. The holder of the lease makes and rotates the authority; the others read it again
//! every minute, which is enough because a successor is handed out a day before it signs. The replica's own certificate lives in memory only.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use portcullis_runtime::metrics::{Counter, Family, Kind, Label, MetricError, Registry};
use rcgen::SanType;
use rustls::client::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, version::TLS13};
use tokio::sync::watch;
use zeroize::{Zeroize, Zeroizing};

use super::ca::{Authorities, CaError, Issued, Leaf, SERVER_LIFETIME, SIGNING_SINCE, Step};
use super::csr::RequestedKey;
use super::key::PrivateKey;
use super::name::{DataPlaneIdentity, Identity, is_name};
use crate::clock;

/// The Secret in the controller's namespace.
pub const SECRET_NAME: &str = "portcullis-ca";
/// Not `kubernetes.io/tls`: no listener can take it for a certificate of its own.
const SECRET_TYPE: &str = "portcullis.dev/certificate-authority";

/// How often the Secret is read while all is well.
const REFRESH: Duration = Duration::from_secs(60);
/// How soon it is read again when there is none yet, or it could not be read.
const RETRY: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// One request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of the authority.
#[derive(Clone, Debug)]
pub struct AuthorityOptions {
    /// The controller's namespace.
    pub namespace: String,
    /// The controller's Service, under which data planes know it.
    pub service: String,
    /// The DNS domain of the cluster, such as `cluster.local`.
    pub cluster_domain: String,
    /// This replica's pod.
    pub pod: String,
    /// Its address, under which the other replicas reach it.
    pub pod_ip: Option<IpAddr>,
}

/// Why the authority could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A name cannot stand in a certificate.
    #[error("{what} {value:?} is not a DNS name; correct the option")]
    Name {
        /// Which option.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// A metric was registered twice.
    #[error(transparent)]
    Metric(#[from] MetricError),
}

/// There is no authority yet, or it could not be used. Whoever asked can ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate authority is not ready")]
pub struct NotReady;

/// The authority of this replica. Ends when the last reference is dropped.
pub struct Authority {
    names: Names,
    provider: Arc<CryptoProvider>,
    current: watch::Sender<Option<Arc<Current>>>,
    bundle: watch::Sender<Arc<str>>,
    leading: watch::Sender<bool>,
    not_after: Arc<AtomicI64>,
    problems: Family<Counter, 1>,
    changes: Family<Counter, 1>,
}

/// An authority with what this replica made from it.
pub(crate) struct Current {
    authorities: Arc<Authorities>,
    /// When this replica's own certificate is to be renewed, seconds since 1970-01-01T00:00:00Z.
    renew_at: i64,
    /// TLS of the config stream: certificates of clients are required, of this authority only.
    pub(crate) stream: Arc<ServerConfig>,
    /// TLS of the identity endpoint, where clients have no certificate yet.
    pub(crate) identity: Arc<ServerConfig>,
    /// TLS towards the other replicas.
    pub(crate) relay: Arc<ClientConfig>,
}

impl Authority {
    /// Starts it on the current runtime. It is ready when there is a Secret, which the holder of the lease makes: see [`Authority::lead`].
    ///
    /// # Errors
    /// When an option is no DNS name, or a metric is registered already.
    pub fn start(
        options: AuthorityOptions,
        client: kube::Client,
        registry: &Registry,
    ) -> Result<Arc<Self>, AuthorityError> {
        let not_after = Arc::new(AtomicI64::new(0));
        let expiry = not_after.clone();
        registry.collect(
            "portcullis_ca_not_after_timestamp_seconds",
            "When the signing certificate of the controller's authority expires; 0 while there is none.",
            Kind::Gauge,
            move |samples| samples.add(&[], expiry.load(Ordering::Relaxed) as f64),
        )?;
        let authority = Arc::new(Self {
            names: Names::new(&options)?,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            current: watch::Sender::new(None),
            bundle: watch::Sender::new("".into()),
            leading: watch::Sender::new(false),
            not_after,
            problems: registry.counters(
                "portcullis_ca_problems_total",
                "Times that the Secret of the controller's authority could not be read, written or used.",
                [Label::closed("problem")],
                8,
            )?,
            changes: registry.counters(
                "portcullis_ca_changes_total",
                "Steps of making and rotating the controller's authority that this replica took.",
                [Label::closed("step")],
                8,
            )?,
        });
        let secrets = Api::namespaced(client, &options.namespace);
        let leading = authority.leading.subscribe();
        tokio::spawn(Keeper { secrets, leading, held: None, failures: 0 }.run(Arc::downgrade(&authority)));
        Ok(authority)
    }

    /// Whether this replica holds the lease, and so makes and rotates the authority.
    pub fn lead(&self, leading: bool) {
        self.leading.send_if_modified(|known| std::mem::replace(known, leading) != leading);
    }

    /// What is trusted, as PEM; empty until there is an authority.
    pub fn bundle(&self) -> watch::Receiver<Arc<str>> {
        self.bundle.subscribe()
    }

    /// Waits until there is an authority.
    pub async fn ready(&self) {
        // The sender lives as long as this does.
        let _ = self.current.subscribe().wait_for(Option::is_some).await;
    }

    /// What this replica serves and connects with now.
    pub(crate) fn current(&self) -> Option<Arc<Current>> {
        self.current.borrow().clone()
    }

    /// A name that the certificates of all replicas have: of the controller's Service, with its namespace.
    pub(crate) fn server_name(&self) -> &str {
        &self.names.service
    }

    /// A certificate for a data plane, in PEM. Every check comes before this.
    pub(super) fn issue(
        &self,
        identity: &DataPlaneIdentity,
        key: &RequestedKey,
    ) -> Result<IssuedCertificate, NotReady> {
        let current = self.current().ok_or(NotReady)?;
        let uri = Identity::DataPlane(identity.clone()).to_string();
        let issued = uri
            .try_into()
            .map_err(CaError::from)
            .and_then(|uri| current.authorities.issue(Leaf::client(SanType::URI(uri)), key, clock::unix()));
        match issued {
            Ok(issued) => Ok(IssuedCertificate {
                certificate: issued.to_pem(),
                bundle: current.authorities.bundle(),
                not_after: issued.not_after,
            }),
            Err(error) => {
                tracing::error!(%error, "a certificate could not be signed");
                Err(NotReady)
            }
        }
    }

    /// Takes an authority into use, or the same one again with a new certificate of this replica.
    fn adopt(&self, authorities: Arc<Authorities>, now: i64) -> Result<(), AdoptError> {
        let current = Current::new(authorities.clone(), &self.names, &self.provider, now)?;
        self.not_after.store(authorities.not_after(), Ordering::Relaxed);
        let bundle: Arc<str> = authorities.bundle().into();
        self.current.send_replace(Some(Arc::new(current)));
        self.bundle.send_if_modified(|known| {
            let changed = *known != bundle;
            *known = bundle;
            changed
        });
        Ok(())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("names", &self.names).finish_non_exhaustive()
    }
}

/// A data plane's certificate, with what it needs to trust the controller.
pub(super) struct IssuedCertificate {
    pub(super) certificate: String,
    pub(super) bundle: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub(super) not_after: i64,
}

/// The names in this replica's certificate.
#[derive(Clone, Debug)]
struct Names {
    /// `SERVICE.NAMESPACE.svc`
    service: String,
    dns: Vec<String>,
    ip: Option<IpAddr>,
    identity: Identity,
}

impl Names {
    fn new(options: &AuthorityOptions) -> Result<Self, AuthorityError> {
        let AuthorityOptions { namespace, service, cluster_domain, pod, pod_ip } = options;
        for (what, value) in
            [("namespace", namespace), ("service", service), ("cluster domain", cluster_domain), ("pod name", pod)]
        {
            if !is_name(value) {
                return Err(AuthorityError::Name { what, value: value.clone() });
            }
        }
        let qualified = format!("{service}.{namespace}.svc");
        Ok(Self {
            dns: vec![
                service.clone(),
                format!("{service}.{namespace}"),
                qualified.clone(),
                format!("{qualified}.{cluster_domain}"),
            ],
            service: qualified,
            ip: *pod_ip,
            identity: Identity::Controller { pod: pod.as_str().into() },
        })
    }

    fn alternative_names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let mut names = vec![SanType::URI(self.identity.to_string().try_into()?)];
        for name in &self.dns {
            names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        names.extend(self.ip.map(SanType::IpAddress));
        Ok(names)
    }
}

/// An authority that cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error(transparent)]
    Certificate(#[from] CaError),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl Current {
    fn new(
        authorities: Arc<Authorities>,
        names: &Names,
        provider: &Arc<CryptoProvider>,
        now: i64,
    ) -> Result<Self, AdoptError> {
        let key = PrivateKey::generate().map_err(CaError::from)?;
        let leaf = Leaf::controller(names.alternative_names().map_err(CaError::from)?);
        let Issued { der, not_after } = authorities.issue(leaf, &key, now)?;
        let certified = CertifiedKey::new(vec![der], key.to_rustls().map_err(CaError::from)?);
        let own = Arc::new(SingleCertAndKey::from(certified));
        let mut roots = RootCertStore::empty();
        for root in authorities.roots() {
            roots.add(root)?;
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;

        let server = || ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13]);
        let stream = server()?.with_client_cert_verifier(verifier).with_cert_resolver(own.clone());
        let identity = server()?.with_no_client_auth().with_cert_resolver(own.clone());
        let mut relay = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_cert_resolver(own);
        relay.alpn_protocols = vec![b"h2".to_vec()];
        relay.resumption = rustls::client::Resumption::disabled();

        let renew_at = now + (not_after - now).min(SERVER_LIFETIME) / 2;
        Ok(Self {
            authorities,
            renew_at,
            stream: Arc::new(without_resumption(stream, b"h2")),
            identity: Arc::new(without_resumption(identity, b"http/1.1")),
            relay: Arc::new(relay),
        })
    }
}

/// Every handshake shows its certificate anew: who was trusted once is asked again.
fn without_resumption(mut config: ServerConfig, protocol: &[u8]) -> ServerConfig {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// Reads the Secret, and writes it while this replica holds the lease.
struct Keeper {
    secrets: Api<Secret>,
    leading: watch::Receiver<bool>,
    /// The resourceVersion of what is in use.
    held: Option<String>,
    failures: usize,
}

/// Why a round did not end with an authority that is known to be the Secret's.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("Secret {SECRET_NAME} does not exist yet; the replica that holds the lease makes it")]
    Absent,
    #[error("Secret {SECRET_NAME} cannot be read: {0}")]
    Read(kube::Error),
    #[error("Secret {SECRET_NAME} cannot be written: {0}")]
    Write(kube::Error),
    #[error("Secret {SECRET_NAME} was written by another replica")]
    Conflict,
    #[error("the API server did not answer in time")]
    Timeout,
    #[error("Secret {SECRET_NAME} is damaged: {0}; delete it, and a new authority is made")]
    Damaged(CaError),
    #[error("the authority cannot be used: {0}")]
    Unusable(AdoptError),
}

impl Problem {
    fn label(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Read(_) => "read",
            Self::Write(_) => "write",
            Self::Conflict => "conflict",
            Self::Timeout => "timeout",
            Self::Damaged(_) => "damaged",
            Self::Unusable(_) => "unusable",
        }
    }
}

impl Keeper {
    async fn run(mut self, authority: Weak<Authority>) {
        loop {
            let Some(strong) = authority.upgrade() else { return };
            let pause = match self.round(&strong, clock::unix()).await {
                Ok(()) => {
                    self.failures = 0;
                    REFRESH
                }
                Err(problem) => {
                    strong.problems.with([problem.label()]).add_shared(1);
                    match problem {
                        Problem::Absent | Problem::Conflict => tracing::debug!("{problem}"),
                        _ => {
                            tracing::warn!(%problem, "the certificate authority of the controller is not as it should be")
                        }
                    }
                    self.failures += 1;
                    RETRY[(self.failures - 1).min(RETRY.len() - 1)]
                }
            };
            drop(strong);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = self.leading.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Reads, does what is due, takes into use what is new.
    async fn round(&mut self, authority: &Authority, now: i64) -> Result<(), Problem> {
        let renewed = self.renew_own(authority, now);
        let found = limited(self.secrets.get_opt(SECRET_NAME)).await?.map_err(Problem::Read)?;
        let leading = *self.leading.borrow_and_update();
        let (authorities, version) = match found {
            None if leading => {
                let authorities = Authorities::generate(now).map_err(Problem::Damaged)?;
                let version = self.write(&authorities, None).await?;
                authority.changes.with(["made"]).add_shared(1);
                tracing::info!("a certificate authority was made");
                (authorities, version)
            }
            None => return Err(Problem::Absent),
            Some(secret) => {
                let unchanged = self.held.is_some() && self.held == secret.metadata.resource_version;
                if let (true, Some(current)) = (unchanged, authority.current())
                    && (!leading || current.authorities.step(now).is_none())
                {
                    return renewed;
                }
                let (authorities, version) = read(secret)?;
                match authorities.step(now).filter(|_| leading) {
                    Some(step) => {
                        let authorities = authorities.take(step, now).map_err(Problem::Damaged)?;
                        let version = self.write(&authorities, Some(version)).await?;
                        let (label, what) = said(step);
                        authority.changes.with([label]).add_shared(1);
                        tracing::info!("the certificate authority was rotated: {what}");
                        (authorities, version)
                    }
                    None => (authorities, version),
                }
            }
        };
        authority.adopt(Arc::new(authorities), now).map_err(Problem::Unusable)?;
        self.held = Some(version);
        Ok(())
    }

    /// This replica's own certificate needs no API server.
    fn renew_own(&self, authority: &Authority, now: i64) -> Result<(), Problem> {
        match authority.current() {
            Some(current) if now >= current.renew_at => {
                authority.adopt(current.authorities.clone(), now).map_err(Problem::Unusable)
            }
            _ => Ok(()),
        }
    }

    /// Creates the Secret, or replaces the given version of it; the new resourceVersion comes back.
    async fn write(&self, authorities: &Authorities, version: Option<String>) -> Result<String, Problem> {
        let data = authorities.data().map_err(Problem::Damaged)?;
        let mut secret = Secret {
            metadata: ObjectMeta {
                name: Some(SECRET_NAME.to_owned()),
                resource_version: version.clone(),
                labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "portcullis".to_owned())])),
                annotations: Some(BTreeMap::from([(
                    SIGNING_SINCE.to_owned(),
                    authorities.signing_since().to_string(),
                )])),
                ..ObjectMeta::default()
            },
            type_: Some(SECRET_TYPE.to_owned()),
            data: Some(data.into_iter().map(|(name, value)| (name, ByteString(value.to_vec()))).collect()),
            ..Secret::default()
        };
        let parameters =
            PostParams { field_manager: Some("portcullis-controller".to_owned()), ..PostParams::default() };
        let written = match version {
            None => limited(self.secrets.create(&parameters, &secret)).await,
            Some(_) => limited(self.secrets.replace(SECRET_NAME, &parameters, &secret)).await,
        };
        zero(&mut secret);
        match written? {
            Ok(mut written) => {
                zero(&mut written);
                Ok(written.metadata.resource_version.unwrap_or_default())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Err(Problem::Conflict),
            Err(error) => Err(Problem::Write(error)),
        }
    }
}

fn said(step: Step) -> (&'static str, &'static str) {
    match step {
        Step::MakeNext => ("next", "the successor is handed out, and signs in a day"),
        Step::Promote => ("promoted", "the successor signs from now on"),
        Step::DropPrevious => ("dropped", "the previous one is trusted no more"),
        Step::Replace => ("replaced", "it had expired, and was made anew"),
    }
}

fn read(mut secret: Secret) -> Result<(Authorities, String), Problem> {
    let data = secret.data.take().unwrap_or_default();
    let data = data.into_iter().map(|(name, ByteString(value))| (name, Zeroizing::new(value))).collect();
    let annotations = secret.metadata.annotations.unwrap_or_default();
    let authorities =
        Authorities::read(&data, annotations.get(SIGNING_SINCE).map(String::as_str)).map_err(Problem::Damaged)?;
    Ok((authorities, secret.metadata.resource_version.unwrap_or_default()))
}

fn zero(secret: &mut Secret) {
    secret.data.iter_mut().flat_map(BTreeMap::values_mut).for_each(|ByteString(value)| value.zeroize());
}

async fn limited<T>(future: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout(REQUEST_TIMEOUT, future).await.map_err(|_| Problem::Timeout)
}
