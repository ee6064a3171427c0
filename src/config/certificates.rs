//! Certificates as the files of an operator hold them, and what a TLS server is made of them.
//!
//! Read and judged as a whole before any of them is used: by `ringway check`, by the supervisor whenever it reads them
//! anew, and once more by the ingest that is handed them.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::check::plain;
use super::operator_file;
use super::settings::{ClientCertificates, Tls};
use super::x509::Facts;

/// Most bytes of a file of certificates; all authorities that browsers trust have less.
pub const FILE_BYTES_MAX: u64 = 512 * 1024;

/// Why certificates are of no use.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path:?}: {cause}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        cause: String,
    },
    /// Others than its owner and group may read the private key.
    #[error("{0:?} can be read by everybody and so is no secret: chmod o= it, or make a new key")]
    Exposed(String),
    /// A file holds something else.
    #[error("no {what} in PEM form in {path:?}")]
    Missing {
        /// What should be there.
        what: &'static str,
        /// In which file.
        path: String,
    },
    /// The key is another one's.
    #[error("the key does not belong to the certificate: {0:?} and {1:?} are not of one pair")]
    Mismatch(String, String),
    /// The TLS library refuses them.
    #[error("cannot use certificate {path:?}: {cause}")]
    Unusable {
        /// Which file.
        path: String,
        /// Why.
        cause: String,
    },
}

/// The contents of the files, not judged yet.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The server's certificate and what leads from it to an authority.
    pub chain: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// Whose signatures clients may show.
    pub authorities: Option<Vec<u8>>,
}

/// What connections are made with.
#[derive(Clone, Debug)]
pub struct Server {
    /// For the TLS library.
    pub config: Arc<ServerConfig>,
    /// When the server's certificate ends, seconds since 1970.
    pub expires_s: u64,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// Which one cannot be read, or that the key is open to everybody.
    pub fn read(tls: &Tls) -> Result<Certificates, CertificateError> {
        let (key, mode) = read(&tls.key)?;
        if mode & 0o007 != 0 {
            return Err(CertificateError::Exposed(tls.key.clone()));
        }
        let authorities = tls.client_authorities.as_deref();
        Ok(Certificates {
            chain: read(&tls.certificate)?.0,
            key,
            authorities: authorities.map(read).transpose()?.map(|(bytes, _)| bytes),
        })
    }

    /// Makes a server of them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn server(&self, tls: &Tls) -> Result<Server, CertificateError> {
        let unusable = |path: &str, cause: &dyn std::fmt::Display| CertificateError::Unusable {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        let in_chain = |cause: &dyn std::fmt::Display| unusable(&tls.certificate, cause);
        let chain = pem(&self.chain, &tls.certificate)?;
        let facts = Facts::of(&chain[0]).map_err(|cause| in_chain(&cause))?;
        let expires_s = facts.not_after_s;
        let key =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| CertificateError::Missing {
                what: "private key",
                path: tls.key.clone(),
            })?;

        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|cause| in_chain(&cause))?;
        let builder = match (&self.authorities, &tls.client_authorities) {
            (Some(authorities), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for authority in pem(authorities, path)? {
                    roots
                        .add(authority)
                        .map_err(|cause| unusable(path, &cause))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match tls.client {
                    ClientCertificates::Required => verifier,
                    ClientCertificates::Optional => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|cause| unusable(path, &cause))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|cause| match cause {
                rustls::Error::InconsistentKeys(_) => {
                    CertificateError::Mismatch(tls.certificate.clone(), tls.key.clone())
                }
                cause => in_chain(&cause),
            })?;
        // No sessions are kept here: what one device makes us keep would be at the cost of others. A ticket keeps them
        // with the device, so that a fleet that comes back after a cut costs no signatures. Where clients show
        // certificates, each connection is judged anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if self.authorities.is_none() {
            config.ticketer = ring::Ticketer::new().map_err(|cause| in_chain(&cause))?;
            config.send_tls13_tickets = 1;
        }
        Ok(Server {
            config: Arc::new(config),
            expires_s,
        })
    }
}

/// The contents of a file, and its mode.
fn read(path: &str) -> Result<(Vec<u8>, u32), CertificateError> {
    let read = || {
        let file = operator_file::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>((bytes, mode))
    };
    let cannot = |cause| CertificateError::Read {
        path: path.to_owned(),
        cause,
    };
    let (bytes, mode) = read().map_err(|cause| cannot(plain(&cause)))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(cannot(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok((bytes, mode))
}

/// The certificates in a file, at least one.
fn pem(bytes: &[u8], path: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let missing = || CertificateError::Missing {
        what: "certificate",
        path: path.to_owned(),
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let all = all.map_err(|_| missing())?;
    if all.is_empty() {
        Err(missing())
    } else {
        Ok(all)
    }
}
