//! TLS towards the hub: its authority is known by certificate, or by the hash in a join token.
//!
//! Certificates are judged by a time that never lies below the persisted floor: a machine that
//! boots in 1970 still finds its hub.

use std::{sync::Arc, time::Duration};

use quinn::{IdleTimeout, TransportConfig};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use x509_parser::prelude::FromDer;

use crate::clock::NodeClock;

/// The name in every hub's certificate, whatever its address.
pub(crate) const SERVER_NAME: &str = "outbye-hub";
/// A hub that is silent for so long is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Keeps the connection and NAT mappings alive, and is the heartbeat.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A hub that was away hears the next first packet soon: they go out after three times this, then ever more rarely.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Streams (exec, logs) that the hub may have open at once.
const MAX_STREAMS: u32 = 256;

/// The identity on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("could not read the {what} in the ledger; join the hub again")]
    Pem {
        what: &'static str,
        #[source]
        err: rustls_pki_types::pem::Error,
    },
    #[error("could not use the node's certificate")]
    Config(#[source] rustls::Error),
    #[error("could not use TLS 1.3 with QUIC")]
    Quic(#[source] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// The node's clock in TLS' words.
#[derive(Debug)]
struct NodeTime(NodeClock);

impl TimeProvider for NodeTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = u64::try_from(self.0.now().as_second()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }
}

/// Configuration of a session: both sides show certificates.
pub(crate) fn session(
    clock: NodeClock,
    authority_pem: &str,
    cert_pem: &str,
    key_pem: &str,
) -> Result<quinn::ClientConfig, TlsError> {
    let pem = |what| move |err| TlsError::Pem { what, err };
    let mut roots = RootCertStore::empty();
    let authority =
        CertificateDer::from_pem_slice(authority_pem.as_bytes()).map_err(pem("hub's authority"))?;
    roots.add(authority).map_err(TlsError::Config)?;
    let cert =
        CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(pem("node's certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(pem("node's key"))?;
    let mut tls = builder(clock)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![cert], key)
        .map_err(TlsError::Config)?;
    tls.alpn_protocols = vec![agent_sync::ALPN.to_vec()];
    quic(tls)
}

/// Configuration of a join or a renewal: the hub's authority must have this key.
pub(crate) fn pinned(
    clock: NodeClock,
    authority_hash: &str,
) -> Result<quinn::ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Pinned { authority_hash: authority_hash.to_owned(), provider };
    let mut tls = builder(clock)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![agent_sync::ALPN_JOIN.to_vec()];
    quic(tls)
}

/// SHA-256 of a certificate's public key, hexadecimal.
pub(crate) fn key_hash(cert: &CertificateDer<'_>) -> Option<String> {
    let (_, cert) = x509_parser::certificate::X509Certificate::from_der(cert).ok()?;
    let hash = ring::digest::digest(&ring::digest::SHA256, cert.public_key().raw);
    Some(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Begin and end of a certificate's life, in seconds since 1970.
pub(crate) fn validity(cert_pem: &str) -> Option<(i64, i64)> {
    life(&CertificateDer::from_pem_slice(cert_pem.as_bytes()).ok()?)
}

fn life(cert: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, cert) = x509_parser::certificate::X509Certificate::from_der(cert).ok()?;
    let validity = cert.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// The latest time that a hub with this certificate can truly tell, in seconds since 1970: the end of the certificate,
/// which it renews long before. The begin says nothing: hubs' certificates are good for clocks that say 1970.
pub(crate) fn latest_time_of(connection: &quinn::Connection) -> Option<i64> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    life(identity.first()?).map(|(_, end)| end)
}

fn builder(
    clock: NodeClock,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_details(provider, Arc::new(NodeTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Config)
}

fn quic(tls: ClientConfig) -> Result<quinn::ClientConfig, TlsError> {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).map_err(TlsError::Quic)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.initial_rtt(INITIAL_RTT);
    transport.max_concurrent_bidi_streams(quinn::VarInt::from_u32(MAX_STREAMS));
    transport.max_concurrent_uni_streams(quinn::VarInt::from_u32(0));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Accepts a hub whose chain holds an authority with the pinned key that signed its certificate.
#[derive(Debug)]
struct Pinned {
    authority_hash: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|it| key_hash(it).as_deref() == Some(self.authority_hash.as_str()))
            .ok_or(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|err| rustls::Error::General(err.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
