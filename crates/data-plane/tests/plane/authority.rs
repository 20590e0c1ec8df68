//! An authority of the tests, and what it signs.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, PublicKeyData,
    SanType, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::*;

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// The public key of a request.
struct Requested(Vec<u8>);

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A server's certificate for 127.0.0.1.
    pub fn server(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// A data plane's certificate for the key of a request; and its end, seconds since 1970.
    pub fn client(&self, csr: &str, lifetime: Duration) -> (String, i64) {
        let der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(csr.as_bytes()).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
        let key = Requested(request.certification_request_info.subject_pki.subject_public_key.data.to_vec());
        let mut params = CertificateParams::default();
        let uri = "spiffe://portcullis.dev/ns/infra/gateway/web/uid/1/pod/web-1";
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let end = SystemTime::now() + lifetime;
        params.not_after = end.into();
        let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        (params.signed_by(&key, &self.0).unwrap().pem(), end as i64)
    }
}
