//! The server's TLS: its own certificate, and client certificates if they are shown.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::registry::Registry;

/// A certificate that can be replaced while servers show it: handshakes from then on see the new one.
#[derive(Debug)]
pub struct ServerCertificate(RwLock<Arc<CertifiedKey>>);

impl ServerCertificate {
    /// The server's certificate, then those of its issuers; the key is the first one's.
    ///
    /// # Errors
    /// They do not fit, or are malformed.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(RwLock::new(certified(chain, key)?))))
    }

    /// Shows another one from now on.
    ///
    /// # Errors
    /// As [`Self::new`]; then the old one stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        let fresh = certified(chain, key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let provider = rustls::crypto::ring::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider);
    certified.map(Arc::new).map_err(|err| TlsError::Certificate { err })
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The same pair, shown to servers that the hub calls.
impl ResolvesClientCert for ServerCertificate {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The hub's time, by which clients' certificates are judged: the machine's may stand at 1970.
#[derive(Debug)]
struct HubTime(Registry);

impl TimeProvider for HubTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// What the server shows, and whose certificates it believes.
#[derive(Debug)]
pub struct TlsConfig {
    /// What the server shows.
    pub certificate: Arc<ServerCertificate>,
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
pub(crate) fn server_config(
    config: TlsConfig,
    registry: Registry,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let time = Arc::new(HubTime(registry));
    let builder = ServerConfig::builder_with_details(provider.clone(), time)
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
    let mut tls = builder.with_cert_resolver(config.certificate);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

/// How the hub calls other servers: whom it believes, and what it shows if it is asked.
///
/// # Errors
/// TLS cannot be set up at all.
pub(crate) fn client_config(
    believed: Believed,
    shown: Option<Arc<ServerCertificate>>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match believed {
        Believed::Authorities(roots) => builder.with_root_certificates(roots),
        Believed::Everybody => {
            let verifier = Arc::new(Trusting(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
    };
    let mut config = match shown {
        Some(shown) => builder.with_client_cert_resolver(shown),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Whose word counts for the name of a server.
#[derive(Debug)]
pub(crate) enum Believed {
    /// Those whom these authorities signed for.
    Authorities(RootCertStore),
    /// Anybody: somebody said that it does not matter.
    Everybody,
}

/// A client that believes every server and shows nothing.
///
/// # Errors
/// TLS cannot be set up at all.
pub(crate) fn trusting_client() -> Result<Arc<ClientConfig>, rustls::Error> {
    client_config(Believed::Everybody, None)
}

/// Believes every certificate; signatures of the handshake must be good all the same.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
