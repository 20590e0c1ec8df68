//! The certificate authority as data: what the Secret holds, what is handed out, and when it changes.
//!
//! Three certificates at most: the one that signs; while a change is near, the `next` one, which is handed out as trusted long
//! before it signs; and after the change the `previous` one, which is trusted until what it signed has expired. Each step is
//! decided by [`Authorities::step`] from the time alone, so that any replica that becomes leader goes on where another stopped.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::key::{KeyError, PrivateKey};
use super::pem;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How long a certificate of the authority is valid.
const CA_LIFETIME: i64 = 365 * DAY;
/// Age at which its successor is made: two thirds of its life.
const CA_SUCCESSION: i64 = CA_LIFETIME / 3 * 2;
/// How long a successor is handed out as trusted before it signs: longer than any mounted ConfigMap needs to follow.
const DISTRIBUTION: i64 = DAY;
/// How long the previous one is trusted after it signed last: longer than what it signed lives.
const OVERLAP: i64 = SERVER_LIFETIME + HOUR;
/// Certificates begin that much in the past: a clock that is a minute behind does no harm.
const BACKDATE: i64 = 5 * MINUTE;
/// How long a data plane's certificate is valid.
const CLIENT_LIFETIME: i64 = HOUR;
/// How long the certificate of a replica of the controller is valid.
pub(super) const SERVER_LIFETIME: i64 = 12 * HOUR;

const SIGNING_CERTIFICATE: &str = "tls.crt";
const SIGNING_KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";
const BUNDLE: &str = "ca.crt";
/// Seconds since 1970-01-01T00:00:00Z at which the certificate in `tls.crt` began to sign.
pub(super) const SIGNING_SINCE: &str = "portcullis.dev/signing-since";

/// Why a Secret is not an authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CaError {
    #[error("the key {0} is missing")]
    Missing(&'static str),
    #[error("{0} is not one certificate of an authority in PEM form with an ECDSA P-256 key")]
    Certificate(&'static str),
    #[error("{0} is not the private key of its certificate")]
    Key(&'static str),
    #[error("a certificate could not be made: {0}")]
    Make(String),
}

impl From<KeyError> for CaError {
    fn from(error: KeyError) -> Self {
        Self::Make(error.to_string())
    }
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error.to_string())
    }
}

/// A certificate of the authority, without its key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct CaCertificate {
    der: CertificateDer<'static>,
    not_before: i64,
    not_after: i64,
}

impl CaCertificate {
    fn from_pem(pem: &[u8], name: &'static str) -> Result<Self, CaError> {
        let mut certificates = CertificateDer::pem_slice_iter(pem);
        match (certificates.next(), certificates.next()) {
            (Some(Ok(der)), None) => Self::from_der(der, name),
            _ => Err(CaError::Certificate(name)),
        }
    }

    fn from_der(der: CertificateDer<'static>, name: &'static str) -> Result<Self, CaError> {
        let (rest, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| CaError::Certificate(name))?;
        if !rest.is_empty() || !parsed.is_ca() {
            return Err(CaError::Certificate(name));
        }
        let validity = parsed.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self { der, not_before, not_after })
    }

    fn public_key(&self) -> Option<Vec<u8>> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.der).ok()?;
        Some(parsed.public_key().subject_public_key.data.to_vec())
    }

    fn to_pem(&self) -> String {
        certificate_pem(&self.der)
    }
}

/// A certificate of the authority with its key.
pub(super) struct Ca {
    certificate: CaCertificate,
    key: PrivateKey,
}

impl Ca {
    fn generate(now: i64) -> Result<Self, CaError> {
        let key = PrivateKey::generate()?;
        let serial = serial()?;
        let mark: String = serial.to_bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut params = params(now, now + CA_LIFETIME, serial, &format!("Portcullis CA {mark}"))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let der = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate: CaCertificate::from_der(der, SIGNING_CERTIFICATE)?, key })
    }

    fn read(
        data: &BTreeMap<String, Zeroizing<Vec<u8>>>,
        certificate: &'static str,
        key: &'static str,
    ) -> Result<Self, CaError> {
        let field = |name: &'static str| data.get(name).ok_or(CaError::Missing(name));
        let ca = Self {
            certificate: CaCertificate::from_pem(field(certificate)?, certificate)?,
            key: PrivateKey::from_pem(field(key)?).map_err(|_| CaError::Key(key))?,
        };
        let fits = ca.certificate.public_key().as_deref() == Some(ca.key.der_bytes());
        if fits { Ok(ca) } else { Err(CaError::Key(key)) }
    }
}

/// What a certificate is made for.
pub(super) struct Leaf {
    pub(super) names: Vec<SanType>,
    pub(super) usages: Vec<ExtendedKeyUsagePurpose>,
    /// Seconds of validity from now.
    pub(super) lifetime: i64,
}

impl Leaf {
    /// For a data plane: it can be a client only.
    pub(super) fn client(uri: SanType) -> Self {
        Self { names: vec![uri], usages: vec![ExtendedKeyUsagePurpose::ClientAuth], lifetime: CLIENT_LIFETIME }
    }

    /// For a replica of the controller: a server, and a client of the one that holds the lease.
    pub(super) fn controller(names: Vec<SanType>) -> Self {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { names, usages, lifetime: SERVER_LIFETIME }
    }
}

/// A certificate that was made here.
pub(super) struct Issued {
    pub(super) der: CertificateDer<'static>,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub(super) not_after: i64,
}

impl Issued {
    pub(super) fn to_pem(&self) -> String {
        certificate_pem(&self.der)
    }
}

/// What the Secret holds.
pub(super) struct Authorities {
    signing: Ca,
    signing_since: i64,
    next: Option<Ca>,
    previous: Option<CaCertificate>,
}

/// What has to be done next with the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the successor and hand it out.
    MakeNext,
    /// The successor has been handed out for long enough: it signs from now on.
    Promote,
    /// Nothing that the previous one signed is valid any more.
    DropPrevious,
    /// The signing one has expired, and there is no successor.
    Replace,
}

impl Authorities {
    /// The first ones of a new installation.
    pub(super) fn generate(now: i64) -> Result<Self, CaError> {
        Ok(Self { signing: Ca::generate(now)?, signing_since: now, next: None, previous: None })
    }

    /// Reads a Secret's data and its annotation [`SIGNING_SINCE`].
    pub(super) fn read(
        data: &BTreeMap<String, Zeroizing<Vec<u8>>>,
        signing_since: Option<&str>,
    ) -> Result<Self, CaError> {
        let signing = Ca::read(data, SIGNING_CERTIFICATE, SIGNING_KEY)?;
        let next = match data.contains_key(NEXT_CERTIFICATE) || data.contains_key(NEXT_KEY) {
            true => Some(Ca::read(data, NEXT_CERTIFICATE, NEXT_KEY)?),
            false => None,
        };
        let previous = match data.get(PREVIOUS_CERTIFICATE) {
            Some(pem) => Some(CaCertificate::from_pem(pem, PREVIOUS_CERTIFICATE)?),
            None => None,
        };
        // Unknown: as late as possible, so that the previous one is trusted for as long as it could be needed.
        let signing_since = signing_since.and_then(|text| text.parse().ok()).unwrap_or(i64::MAX);
        Ok(Self { signing, signing_since, next, previous })
    }

    /// The data for the Secret.
    pub(super) fn data(&self) -> Result<BTreeMap<String, Zeroizing<Vec<u8>>>, CaError> {
        let mut data = BTreeMap::new();
        let mut put =
            |name: &str, text: &str| drop(data.insert(name.to_owned(), Zeroizing::new(text.as_bytes().to_vec())));
        put(SIGNING_CERTIFICATE, &self.signing.certificate.to_pem());
        put(SIGNING_KEY, &self.signing.key.to_pem()?);
        if let Some(next) = &self.next {
            put(NEXT_CERTIFICATE, &next.certificate.to_pem());
            put(NEXT_KEY, &next.key.to_pem()?);
        }
        if let Some(previous) = &self.previous {
            put(PREVIOUS_CERTIFICATE, &previous.to_pem());
        }
        put(BUNDLE, &self.bundle());
        Ok(data)
    }

    /// Seconds since 1970-01-01T00:00:00Z at which the signing one began to sign.
    pub(super) fn signing_since(&self) -> i64 {
        self.signing_since
    }

    /// End of validity of the signing one, seconds since 1970-01-01T00:00:00Z.
    pub(super) fn not_after(&self) -> i64 {
        self.signing.certificate.not_after
    }

    /// Everything that is trusted now, as PEM: the signing one first.
    pub(super) fn bundle(&self) -> String {
        self.trusted().map(CaCertificate::to_pem).collect()
    }

    /// Everything that is trusted now.
    pub(super) fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.trusted().map(|certificate| certificate.der.clone()).collect()
    }

    fn trusted(&self) -> impl Iterator<Item = &CaCertificate> {
        let next = self.next.as_ref().map(|next| &next.certificate);
        [Some(&self.signing.certificate), next, self.previous.as_ref()].into_iter().flatten()
    }

    /// What the holder of the lease has to do now, if anything.
    pub(super) fn step(&self, now: i64) -> Option<Step> {
        let signing = &self.signing.certificate;
        let expired = now >= signing.not_after;
        match &self.next {
            Some(next) if expired || now >= next.certificate.not_before + BACKDATE + DISTRIBUTION => {
                Some(Step::Promote)
            }
            Some(_) => None,
            None if expired => Some(Step::Replace),
            None if now >= signing.not_before + CA_SUCCESSION => Some(Step::MakeNext),
            None => {
                self.previous.as_ref().and_then(|previous| self.is_past(previous, now).then_some(Step::DropPrevious))
            }
        }
    }

    fn is_past(&self, previous: &CaCertificate, now: i64) -> bool {
        now >= previous.not_after || now >= self.signing_since.saturating_add(OVERLAP)
    }

    /// The authority after a step.
    pub(super) fn take(self, step: Step, now: i64) -> Result<Self, CaError> {
        Ok(match (step, self.next) {
            (Step::MakeNext, _) => Self { next: Some(Ca::generate(now)?), ..self },
            (Step::Promote, Some(next)) => {
                Self { signing: next, signing_since: now, next: None, previous: Some(self.signing.certificate) }
            }
            (Step::Promote | Step::Replace, _) => Self::generate(now)?,
            (Step::DropPrevious, next) => Self { next, previous: None, ..self },
        })
    }

    /// Signs a certificate. It never outlives the one that signs it.
    pub(super) fn issue(&self, leaf: Leaf, key: &impl PublicKeyData, now: i64) -> Result<Issued, CaError> {
        let not_after = (now + leaf.lifetime).min(self.signing.certificate.not_after);
        let mut params = params(now, not_after, serial()?, "Portcullis")?;
        params.subject_alt_names = leaf.names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = leaf.usages;
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.signing.certificate.der, &self.signing.key)?;
        Ok(Issued { der: params.signed_by(key, &issuer)?.der().clone(), not_after })
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("not_after", &self.not_after())
            .field("next", &self.next.is_some())
            .field("previous", &self.previous.is_some())
            .finish_non_exhaustive()
    }
}

fn params(now: i64, not_after: i64, serial: SerialNumber, common_name: &str) -> Result<CertificateParams, CaError> {
    let instant =
        |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| CaError::Make(error.to_string()));
    let mut params = CertificateParams::default();
    params.not_before = instant(now - BACKDATE)?;
    params.not_after = instant(not_after)?;
    params.serial_number = Some(serial);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

/// 127 random bits (RFC 5280 section 4.1.2.2: positive, at most 20 octets).
fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| CaError::Make("no randomness".to_owned()))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn certificate_pem(der: &[u8]) -> String {
    pem::encode("CERTIFICATE", der).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::server::WebPkiClientVerifier;
    use rustls_pki_types::UnixTime;

    use super::*;

    const NOW: i64 = 1_795_000_000;

    fn reread(authorities: &Authorities) -> Authorities {
        let since = authorities.signing_since().to_string();
        Authorities::read(&authorities.data().unwrap(), Some(&since)).unwrap()
    }

    /// Takes every step that is due from `from` to `to`, looking each hour, and tells when each was taken.
    fn live(mut authorities: Authorities, from: i64, to: i64) -> (Authorities, Vec<(Step, i64)>) {
        let mut steps = Vec::new();
        for now in (from..to).step_by(HOUR as usize) {
            while let Some(step) = authorities.step(now) {
                authorities = reread(&authorities.take(step, now).unwrap());
                steps.push((step, now));
            }
        }
        (authorities, steps)
    }

    #[test]
    fn a_successor_is_trusted_long_before_it_signs_and_the_previous_one_long_after() {
        let (_, steps) = live(Authorities::generate(NOW).unwrap(), NOW, NOW + CA_LIFETIME);
        let kinds: Vec<_> = steps.iter().map(|(step, _)| *step).collect();
        assert_eq!(kinds, [Step::MakeNext, Step::Promote, Step::DropPrevious]);
        let [made, promoted, dropped] = [0, 1, 2].map(|index: usize| steps[index].1);
        assert!(made - NOW < CA_LIFETIME - 100 * DAY);
        assert!(promoted - made >= DISTRIBUTION);
        assert!(dropped - promoted >= SERVER_LIFETIME.max(CLIENT_LIFETIME));
    }

    #[test]
    fn at_every_moment_of_a_rotation_what_was_signed_is_trusted() {
        let mut authorities = Authorities::generate(NOW).unwrap();
        let mut signed: Vec<(i64, CertificateDer<'static>)> = Vec::new();
        // Two days before the succession to four days after it.
        for now in (NOW + CA_SUCCESSION - 2 * DAY..NOW + CA_SUCCESSION + 4 * DAY).step_by(HOUR as usize) {
            if let Some(step) = authorities.step(now) {
                authorities = authorities.take(step, now).unwrap();
            }
            signed.push((now + SERVER_LIFETIME, authorities.signing.certificate.der.clone()));
            signed.retain(|(not_after, _)| *not_after > now);
            assert!(signed.iter().all(|(_, signer)| authorities.roots().contains(signer)));
            assert!(authorities.roots().len() <= 3);
        }
    }

    #[test]
    fn after_a_long_absence_the_authority_heals() {
        let authorities = Authorities::generate(NOW).unwrap();
        let late = NOW + 2 * CA_LIFETIME;
        let (healed, steps) = live(authorities, late, late + 3 * DAY);
        assert_eq!(steps, [(Step::Replace, late)]);
        assert_eq!(healed.roots().len(), 1);

        let made = NOW + CA_SUCCESSION;
        let (waiting, _) = live(Authorities::generate(NOW).unwrap(), NOW + CA_SUCCESSION, made + HOUR);
        let (healed, steps) = live(waiting, NOW + CA_LIFETIME, NOW + CA_LIFETIME + HOUR);
        assert_eq!(steps[0].0, Step::Promote);
        assert!(healed.not_after() > NOW + CA_LIFETIME);
    }

    #[test]
    fn without_its_annotation_the_previous_one_is_trusted_until_it_expires() {
        let (rotated, _) = live(Authorities::generate(NOW).unwrap(), NOW, NOW + CA_SUCCESSION + DAY + 3 * HOUR);
        assert!(rotated.previous.is_some());
        let read = Authorities::read(&rotated.data().unwrap(), None).unwrap();
        assert_eq!(read.step(NOW + CA_SUCCESSION + 30 * DAY), None);
        assert_eq!(read.step(NOW + CA_LIFETIME), Some(Step::DropPrevious));
    }

    #[test]
    fn a_secret_that_does_not_fit_together_is_refused() {
        let one = Authorities::generate(NOW).unwrap().data().unwrap();
        let other = Authorities::generate(NOW).unwrap().data().unwrap();
        let with = |name: &str, value: Option<Vec<u8>>| {
            let mut data = one.clone();
            match value {
                Some(value) => drop(data.insert(name.to_owned(), Zeroizing::new(value))),
                None => drop(data.remove(name)),
            }
            Authorities::read(&data, None).err()
        };
        assert_eq!(with("tls.crt", None), Some(CaError::Missing("tls.crt")));
        assert_eq!(with("tls.key", None), Some(CaError::Missing("tls.key")));
        assert_eq!(with("tls.crt", Some(b"x".to_vec())), Some(CaError::Certificate("tls.crt")));
        assert_eq!(with("tls.crt", Some(other["ca.crt"].repeat(2))), Some(CaError::Certificate("tls.crt")));
        assert_eq!(with("tls.key", Some(other["tls.key"].to_vec())), Some(CaError::Key("tls.key")));
        assert_eq!(with("next.crt", Some(other["tls.crt"].to_vec())), Some(CaError::Missing("next.key")));
        assert_eq!(with("previous.crt", Some(b"x".to_vec())), Some(CaError::Certificate("previous.crt")));
        assert_eq!(with("ca.crt", None), None);
    }

    #[test]
    fn a_leaf_is_not_an_authority_and_does_not_outlive_its_signer() {
        let authorities = Authorities::generate(NOW).unwrap();
        let key = PrivateKey::generate().unwrap();
        let uri = SanType::URI("spiffe://portcullis.dev/controller/a".try_into().unwrap());
        let late = NOW + CA_LIFETIME - 10 * MINUTE;
        let issued = authorities.issue(Leaf::client(uri), &key, late).unwrap();
        assert_eq!(issued.not_after, NOW + CA_LIFETIME);
        let (_, leaf) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
        assert!(!leaf.is_ca());
        assert_eq!(leaf.validity().not_before.timestamp(), late - BACKDATE);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
    }

    /// A clock that is this wrong, in seconds, either way.
    const SKEW: i64 = MINUTE;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.try_into().unwrap()))
    }

    /// Whether a certificate is good, for what it was made for, to somebody who trusts these at this time.
    fn verifies(issued: &Issued, is_server: bool, trusting: &Authorities, now: i64) -> Result<(), rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        trusting.roots().into_iter().for_each(|root| roots.add(root).unwrap());
        let roots = Arc::new(roots);
        if is_server {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
            let name = "controller.portcullis-system.svc".try_into().unwrap();
            return verifier.verify_server_cert(&issued.der, &[], &name, &[], at(now)).map(drop);
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
        verifier.verify_client_cert(&issued.der, &[], at(now)).map(drop)
    }

    fn leaf(is_server: bool) -> Leaf {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        match is_server {
            true => Leaf::controller(vec![
                uri("spiffe://portcullis.dev/controller/a"),
                SanType::DnsName("controller.portcullis-system.svc".try_into().unwrap()),
            ]),
            false => Leaf::client(uri("spiffe://portcullis.dev/ns/shop/gateway/edge/uid/u/pod/p")),
        }
    }

    /// The holder of the lease makes the authority, a replica signs, a third machine verifies, each with a clock of its own.
    #[test]
    fn a_clock_that_is_a_minute_wrong_does_no_harm() {
        let key = PrivateKey::generate().unwrap();
        for maker in [-SKEW, 0, SKEW] {
            let authorities = Authorities::generate(NOW + maker).unwrap();
            for (signer, is_server) in [-SKEW, 0, SKEW].into_iter().flat_map(|skew| [(skew, true), (skew, false)]) {
                let issued = authorities.issue(leaf(is_server), &key, NOW + signer).unwrap();
                let lifetime = if is_server { SERVER_LIFETIME } else { CLIENT_LIFETIME };
                assert_eq!(issued.not_after, NOW + signer + lifetime);
                for verifier in [-SKEW, 0, SKEW] {
                    let verified = |now: i64| verifies(&issued, is_server, &authorities, now + verifier);
                    // From the moment on at which it is signed, and long after it is to be renewed.
                    for now in [NOW, NOW + lifetime / 2, NOW + lifetime * 9 / 10] {
                        let case = format!("{maker} {signer} {verifier} {is_server} {now}");
                        verified(now).unwrap_or_else(|error| panic!("{case}: {error}"));
                    }
                    assert!(verified(NOW + lifetime + 2 * SKEW + 1).is_err(), "it ends");
                    assert!(verified(NOW - BACKDATE - 2 * SKEW - 1).is_err(), "it begins");
                }
            }
        }
    }

    /// The other replicas read the Secret every minute: until then they sign with the previous one, and trust what they knew.
    #[test]
    fn nor_does_it_while_the_authority_is_rotated() {
        let key = PrivateKey::generate().unwrap();
        for leader in [-SKEW, SKEW] {
            let (waiting, steps) =
                live(Authorities::generate(NOW).unwrap(), NOW + CA_SUCCESSION, NOW + CA_SUCCESSION + 1);
            assert_eq!(steps.len(), 1, "the successor is handed out");
            let promoted_at = NOW + CA_SUCCESSION + DISTRIBUTION;
            assert_eq!(waiting.step(promoted_at), Some(Step::Promote));
            let promoted = reread(&waiting).take(Step::Promote, promoted_at + leader).unwrap();
            for (signer, verifier) in [(-SKEW, SKEW), (SKEW, -SKEW), (SKEW, SKEW), (-SKEW, -SKEW)] {
                for is_server in [true, false] {
                    let late = promoted_at + MINUTE;
                    let lifetime = if is_server { SERVER_LIFETIME } else { CLIENT_LIFETIME };
                    let by_previous = waiting.issue(leaf(is_server), &key, late + signer).unwrap();
                    let by_next = promoted.issue(leaf(is_server), &key, promoted_at + signer).unwrap();
                    for trusting in [&waiting, &promoted] {
                        verifies(&by_next, is_server, trusting, promoted_at + verifier).unwrap();
                        verifies(&by_previous, is_server, trusting, late + verifier).unwrap();
                    }
                    // What was signed last by the previous one has ended before it is forgotten, whoever's clock decides.
                    let last = by_previous.not_after + SKEW;
                    assert_eq!(promoted.step(last + SKEW), None, "{lifetime}");
                }
            }
        }
    }

    #[test]
    fn no_key_is_printed() {
        let printed = format!("{:?}", Authorities::generate(NOW).unwrap());
        assert!(!printed.contains("key"), "{printed}");
    }
}
