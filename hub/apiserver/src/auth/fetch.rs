//! Fetches small JSON documents over HTTPS. No redirects, no proxies, everything bounded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST};
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Time for one document.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest document, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Fetches from servers that these authorities vouch for.
#[derive(Clone)]
pub(super) struct Fetcher {
    connector: TlsConnector,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The authorities cannot be used.
    #[error("could not use the authorities")]
    Authorities,
    /// Not `https://host...`.
    #[error("could not use the address {url}")]
    Address {
        /// Which.
        url: String,
    },
    /// No connection.
    #[error("could not connect to {host}")]
    Connect {
        /// Where to.
        host: String,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The connection broke.
    #[error("could not ask {host}")]
    Ask {
        /// Whom.
        host: String,
        /// Why.
        #[source]
        err: hyper::Error,
    },
    /// Refused, too large, or no JSON.
    #[error("could not use the answer of {host}: {what}")]
    Answer {
        /// Whose.
        host: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Too slow.
    #[error("could not get an answer of {host} in time")]
    Timeout {
        /// Who was asked.
        host: String,
    },
}

impl Fetcher {
    /// `authorities` are certificates in PEM.
    pub(super) fn new(authorities: &[u8]) -> Result<Self, FetchError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            // Bundles of systems hold some that nobody can use.
            let _ = certificate.map(|it| roots.add(it));
        }
        if roots.is_empty() {
            return Err(FetchError::Authorities);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| FetchError::Authorities)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Gets one document.
    pub(super) async fn get(&self, url: &str) -> Result<Value, FetchError> {
        let address = || FetchError::Address { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| address())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(address)?;
        let asking = self.ask(&uri, host);
        match tokio::time::timeout(TIMEOUT, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout { host: host.to_owned() }),
        }
    }

    async fn ask(&self, uri: &Uri, host: &str) -> Result<Value, FetchError> {
        let owned = || host.to_owned();
        let connect = |err| FetchError::Connect { host: owned(), err };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| FetchError::Address { url: uri.to_string() })?;
        let stream =
            TcpStream::connect((bare, uri.port_u16().unwrap_or(443))).await.map_err(connect)?;
        let tls = self.connector.connect(name, stream).await.map_err(connect)?;
        let ask = |err| FetchError::Ask { host: owned(), err };
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(ask)?;
        let path = uri.path_and_query().map_or("/", |it| it.as_str());
        let authority = uri.authority().map_or(host, |it| it.as_str());
        let request = Request::get(path)
            .header(HOST, authority)
            .header(ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|_| FetchError::Address { url: uri.to_string() })?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(ask)?;
            let wrong = |what| FetchError::Answer { host: owned(), what };
            if !answer.status().is_success() {
                return Err(wrong("it refused"));
            }
            let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
            let bytes = body.map_err(|_| wrong("it broke off, or is too large"))?.to_bytes();
            serde_json::from_slice(&bytes).map_err(|_| wrong("it is no JSON"))
        };
        // The connection does its work while the answer is waited for, and ends with it.
        let mut answer = std::pin::pin!(answer);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(err) => Err(ask(err)),
            },
        }
    }
}
