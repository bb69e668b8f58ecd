//! Calls webhooks over HTTPS: one request, bounded in time and size, over connections that are
//! kept for the next one.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use crate::limits::{MAX_BODY, WEBHOOK_CONNECT_TIMEOUT, WEBHOOK_IDLE};

type Sender = SendRequest<Full<Bytes>>;

/// Authorities of the machine, in the places where distributions keep them.
const SYSTEM_ROOTS: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/cert.pem"];
/// Trust that is kept read, for so many webhooks.
const MAX_TRUSTED: usize = 256;

/// Where a webhook is.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The name that its certificate must have.
    pub(super) host: String,
    /// What the `Host` header and messages say: `host:port`.
    pub(super) authority: String,
    /// Path, without the query.
    pub(super) path: String,
    /// Where to connect, in this order.
    pub(super) addresses: Vec<SocketAddr>,
    /// Who may have signed its certificate: PEM in base64. Empty trusts the machine's authorities.
    pub(super) ca: String,
}

/// Why a webhook gave no answer, in Go's words.
#[derive(Debug)]
pub(super) enum CallError {
    /// Nothing came in time.
    Deadline,
    /// No connection.
    Dial { address: SocketAddr, err: io::Error },
    /// There is no address to connect to.
    NoAddress(String),
    /// Its certificate is not trusted, or TLS failed.
    Tls(String),
    /// It answered with an error.
    Http(u16),
    /// The answer is larger than may be.
    TooLarge,
    /// The connection broke.
    Broken(String),
    /// The configuration cannot be used.
    Config(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("context deadline exceeded"),
            Self::Dial { address, err } if err.kind() == io::ErrorKind::ConnectionRefused => {
                write!(f, "dial tcp {address}: connect: connection refused")
            }
            Self::Dial { address, err } => write!(f, "dial tcp {address}: {err}"),
            Self::NoAddress(why) | Self::Config(why) => f.write_str(why),
            Self::Tls(why) => write!(f, "tls: {why}"),
            Self::Http(404) => f.write_str("the server could not find the requested resource"),
            Self::Http(code) => write!(f, "the server responded with the status code {code}"),
            Self::TooLarge => {
                write!(f, "webhook response is too large: limit is {MAX_BODY} bytes")
            }
            Self::Broken(why) => f.write_str(why),
        }
    }
}

/// Connections and trust that are kept between calls.
#[derive(Default)]
pub(crate) struct Clients {
    idle: Mutex<BTreeMap<String, Vec<Sender>>>,
    trust: Mutex<BTreeMap<String, Arc<ClientConfig>>>,
    tasks: TaskTracker,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

impl Clients {
    /// Sends a review and returns the answer's body.
    pub(super) async fn call(
        &self,
        target: &Target,
        seconds: u64,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let calling = self.exchange(target, seconds, body);
        match tokio::time::timeout(Duration::from_secs(seconds), calling).await {
            Ok(answered) => answered,
            Err(_) => Err(CallError::Deadline),
        }
    }

    async fn exchange(
        &self,
        target: &Target,
        seconds: u64,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        // A kept connection may have been closed meanwhile: then a new one is tried, once.
        if let Some(sender) = self.take(target) {
            match self.send(target, seconds, body.clone(), sender).await {
                Err(CallError::Broken(_)) => {}
                done => return done,
            }
        }
        let sender = self.connect(target).await?;
        self.send(target, seconds, body, sender).await
    }

    async fn send(
        &self,
        target: &Target,
        seconds: u64,
        body: Bytes,
        mut sender: Sender,
    ) -> Result<Bytes, CallError> {
        let request = Request::post(format!("{}?timeout={seconds}s", target.path))
            .header(HOST, &target.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body))
            .map_err(|err| CallError::Config(err.to_string()))?;
        let broken = |err: hyper::Error| CallError::Broken(err.to_string());
        sender.ready().await.map_err(broken)?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let code = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(|err| {
            match err.downcast_ref::<http_body_util::LengthLimitError>() {
                Some(_) => CallError::TooLarge,
                None => CallError::Broken(err.to_string()),
            }
        })?;
        if code != 200 {
            return Err(CallError::Http(code));
        }
        self.keep(target, sender);
        Ok(body.to_bytes())
    }

    fn take(&self, target: &Target) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.get_mut(&place(target))?;
        senders.retain(|it| !it.is_closed());
        senders.pop()
    }

    fn keep(&self, target: &Target, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, senders| {
            senders.retain(|it| !it.is_closed());
            !senders.is_empty()
        });
        let senders = idle.entry(place(target)).or_default();
        if senders.len() < WEBHOOK_IDLE {
            senders.push(sender);
        }
    }

    async fn connect(&self, target: &Target) -> Result<Sender, CallError> {
        let config = self.trust(&target.ca)?;
        let stream = dial(target).await?;
        let name = ServerName::try_from(target.host.clone())
            .map_err(|err| CallError::Config(err.to_string()))?;
        let tls = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|err| CallError::Tls(distrust(&err, &target.host)))?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|err| CallError::Broken(err.to_string()))?;
        self.tasks.spawn(async move {
            // How a connection ends is seen by whoever uses it.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn trust(&self, ca: &str) -> Result<Arc<ClientConfig>, CallError> {
        let mut trust = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = trust.get(ca) {
            return Ok(config.clone());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|err| CallError::Config(err.to_string()))?
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth();
        let config = Arc::new(config);
        if trust.len() >= MAX_TRUSTED {
            trust.clear();
        }
        trust.insert(ca.to_owned(), config.clone());
        Ok(config)
    }
}

/// Who may use the same connections.
fn place(target: &Target) -> String {
    format!("{} {:?} {}", target.authority, target.addresses, target.ca)
}

async fn dial(target: &Target) -> Result<TcpStream, CallError> {
    let mut failed =
        CallError::NoAddress(format!("no endpoints available for service \"{}\"", target.host));
    for address in &target.addresses {
        let dialing = TcpStream::connect(address);
        match tokio::time::timeout(WEBHOOK_CONNECT_TIMEOUT, dialing).await {
            Ok(Ok(stream)) => {
                // Small requests must not wait for more.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(err)) => failed = CallError::Dial { address: *address, err },
            Err(_) => {
                let err = io::Error::new(io::ErrorKind::TimedOut, "i/o timeout");
                failed = CallError::Dial { address: *address, err };
            }
        }
    }
    Err(failed)
}

/// The authorities in a bundle (PEM in base64), or the machine's.
///
/// # Errors
/// The bundle has none; in words for a condition.
pub(crate) fn authorities(ca: &str) -> Result<RootCertStore, String> {
    roots(ca).map_err(|err| err.to_string())
}

fn roots(ca: &str) -> Result<RootCertStore, CallError> {
    let mut roots = RootCertStore::empty();
    let pem = if ca.is_empty() {
        SYSTEM_ROOTS.iter().find_map(|it| std::fs::read(it).ok()).unwrap_or_default()
    } else {
        STANDARD
            .decode(ca)
            .map_err(|err| CallError::Config(format!("unable to load root certificates: {err}")))?
    };
    for certificate in CertificateDer::pem_slice_iter(&pem).flatten() {
        // One that cannot be used takes nothing away from the others.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() && !ca.is_empty() {
        let why = "unable to load root certificates: unable to parse bytes as PEM block";
        return Err(CallError::Config(why.to_owned()));
    }
    Ok(roots)
}

/// Why a certificate is not trusted, in Go's words.
pub(crate) fn distrust(err: &io::Error, host: &str) -> String {
    let inner = err.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(wrong)) = inner else { return err.to_string() };
    let why = if matches!(wrong, CertificateError::UnknownIssuer | CertificateError::BadSignature) {
        "certificate signed by unknown authority".to_owned()
    } else if matches!(wrong, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
        "certificate has expired or is not yet valid".to_owned()
    } else if matches!(
        wrong,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    ) {
        format!("certificate is not valid for any names, but wanted to match {host}")
    } else {
        wrong.to_string()
    };
    format!("failed to verify certificate: x509: {why}")
}
