//! TLS, so that a proxy on another machine knows the server and nobody in between learns who attests.
//!
//! The secret does not depend on it: it is encrypted to the SVSM and signed by the static key.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// Why TLS cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate chain cannot be read.
    #[error("cannot read the certificate chain {path} (PEM): {source}")]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The private key cannot be read.
    #[error("cannot read the private key {path} (PEM): {source}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file without a certificate.
    #[error("there is no certificate in {0}")]
    Empty(PathBuf),
    /// Certificate and key do not belong together, or are not supported.
    #[error("cannot use the certificate with the key: {0}")]
    Pair(#[from] rustls::Error),
}

/// A certificate chain and its key, ready to serve.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads a certificate chain, the server's certificate first, and its private key.
    pub fn open(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        let unreadable = |source| TlsError::Certificate {
            path: certificates.to_owned(),
            source,
        };
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificates)
            .map_err(unreadable)?
            .collect::<Result<_, _>>()
            .map_err(unreadable)?;
        if chain.is_empty() {
            return Err(TlsError::Empty(certificates.to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Key {
            path: key.to_owned(),
            source,
        })?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}
