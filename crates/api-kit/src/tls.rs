//! TLS of listeners: certificate, key, and optionally the authority that client certificates must come from.
//!
//! The files may be read again while a listener works: connections that stand go on as they were made, new ones get what
//! the files say now.

use std::{path::PathBuf, sync::Arc};

use parking_lot::RwLock;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

/// PEM files of a TLS listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Authority of client certificates; clients without one are refused when it is given.
    pub client_ca: Option<PathBuf>,
}

/// Why a TLS listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("reading {path}: {why}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The parts do not fit together.
    #[error("TLS configuration")]
    Config(#[source] tokio_rustls::rustls::Error),
    /// The authority is unusable.
    #[error("client certificate authority: {0}")]
    Verifier(String),
}

impl TlsFiles {
    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let certs = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| TlsError::Pem { path: self.key.clone(), why: e.to_string() })?;
        let builder = match &self.client_ca {
            None => ServerConfig::builder().with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for cert in certificates(path)? {
                    roots.add(cert).map_err(TlsError::Config)?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                    .build()
                    .map_err(|e| TlsError::Verifier(e.to_string()))?;
                ServerConfig::builder().with_client_cert_verifier(verifier)
            }
        };
        Ok(Arc::new(builder.with_single_cert(certs, key).map_err(TlsError::Config)?))
    }
}

/// What a listener does with new connections.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    now: RwLock<Arc<ServerConfig>>,
}

/// Files that were read again and not put into use yet.
#[derive(Debug)]
pub struct Renewal(Arc<Tls>, Arc<ServerConfig>);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is missing or wrong, or they do not fit together.
    pub fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { files: files.clone(), now: RwLock::new(files.config()?) })
    }

    /// Reads the files again. Nothing changes before [`Renewal::apply`].
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn renew(self: &Arc<Self>) -> Result<Renewal, TlsError> {
        Ok(Renewal(Arc::clone(self), self.files.config()?))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.now.read()))
    }
}

impl Renewal {
    /// New connections are made with them from now on.
    pub fn apply(self) {
        *self.0.now.write() = self.1;
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |why: String| TlsError::Pem { path: path.clone(), why };
    CertificateDer::pem_file_iter(path)
        .map_err(|e| bad(e.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(e.to_string()))
}
