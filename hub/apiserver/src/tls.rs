//! The server's TLS: its own certificate, and client certificates if they are shown.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What the server shows, and whose certificates it believes.
#[derive(Debug)]
pub struct TlsConfig {
    /// The server's certificate, then those of its issuers.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// The authorities that sign client certificates; none means that tokens alone count.
    pub client_ca: Vec<CertificateDer<'static>>,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificate and key do not fit, or are malformed.
    #[error("could not use the server's certificate and key")]
    Certificate {
        #[source]
        err: rustls::Error,
    },
    /// An authority's certificate is malformed.
    #[error("could not use the certificate of a client authority")]
    ClientCa {
        #[source]
        err: rustls::Error,
    },
    /// The authorities cannot be used to verify clients.
    #[error("could not build the verifier of client certificates")]
    Verifier {
        #[source]
        err: rustls::server::VerifierBuilderError,
    },
}

/// Client certificates are asked for and verified, but not demanded: tokens are the other way.
pub(crate) fn server_config(config: TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|err| TlsError::Certificate { err })?;
    let builder = if config.client_ca.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for authority in config.client_ca {
            roots.add(authority).map_err(|err| TlsError::ClientCa { err })?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|err| TlsError::Verifier { err })?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut tls = builder
        .with_single_cert(config.chain, config.key)
        .map_err(|err| TlsError::Certificate { err })?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}
