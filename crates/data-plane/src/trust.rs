//! Whom to trust: the certificates of the controller's authority, as the file has them now.

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file; a bundle has a few certificates.
const FILE_LIMIT: u64 = 256 * 1024;

/// Why nobody can be trusted. Nothing is connected to then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("the authority's certificates {path}: {error}; is the ConfigMap mounted?")]
    File { path: PathBuf, error: io::Error },
    #[error("the authority's certificates {0}: no usable certificate; expected PEM")]
    NoCertificate(PathBuf),
}

/// Reads the certificates. The volume of a ConfigMap swaps them as a whole.
pub(crate) fn read(path: &Path) -> Result<Arc<RootCertStore>, TrustError> {
    let file = |error| TrustError::File { path: path.to_owned(), error };
    let pem = bounded(path, FILE_LIMIT).map_err(file)?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if usable == 0 { Err(TrustError::NoCertificate(path.to_owned())) } else { Ok(Arc::new(roots)) }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut bytes = Vec::with_capacity(8 * 1024);
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
