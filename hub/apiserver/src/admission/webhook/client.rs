//! Calls webhooks over HTTPS: one request, bounded in size, over connections that are kept for the
//! next one. Its caller bounds the time.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{MAX_BODY, WEBHOOK_CONNECT_TIMEOUT, WEBHOOK_IDLE};
use crate::passing::{Passage, Place, ReachError};
use crate::streaming::{NoNodes, NodeStreams};
use crate::tls::{Believed, client_config};

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
    pub(super) places: Vec<Place>,
    /// Who may have signed its certificate: PEM in base64. Empty trusts the machine's authorities.
    pub(super) ca: String,
}

impl Target {
    fn key(&self) -> (String, String) {
        (self.authority.clone(), self.ca.clone())
    }
}

/// Why a webhook gave no answer, in Go's words.
#[derive(Debug)]
pub(super) enum CallError {
    /// Nothing came in time.
    Deadline,
    /// No connection, or one to somebody who is not trusted.
    Unreached(ReachError),
    /// There is no place to connect to.
    NoPlace(String),
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
            Self::Unreached(err) => write!(f, "{err}"),
            Self::NoPlace(why) | Self::Config(why) => f.write_str(why),
            Self::Http(404) => f.write_str("the server could not find the requested resource"),
            Self::Http(code) => write!(f, "the server responded with the status code {code}"),
            Self::TooLarge => {
                write!(f, "webhook response is too large: limit is {MAX_BODY} bytes")
            }
            Self::Broken(why) => f.write_str(why),
        }
    }
}

/// A connection, and where it leads.
struct Connection {
    place: Place,
    sender: Sender,
}

/// Connections and trust that are kept between calls.
#[derive(Default)]
pub(crate) struct Clients {
    /// By authority and bundle: who may use the same connections.
    idle: Mutex<BTreeMap<(String, String), Vec<Connection>>>,
    trust: Mutex<BTreeMap<String, Arc<ClientConfig>>>,
    /// The way into pods. Weak: what leads to nodes writes through the registry that has this.
    nodes: Mutex<Option<Weak<dyn NodeStreams>>>,
    tasks: TaskTracker,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

impl Clients {
    /// From here on, pods are reached through these nodes.
    pub(super) fn set_nodes(&self, nodes: &Arc<dyn NodeStreams>) {
        let mut known = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(Arc::downgrade(nodes));
    }

    fn passage(&self) -> Passage {
        let known = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let nodes = known.and_then(|it| it.upgrade()).unwrap_or_else(|| Arc::new(NoNodes));
        // Never fires: calls have deadlines, and what is asked while the server stops is answered.
        Passage { nodes, tasks: self.tasks.clone(), stopping: CancellationToken::new() }
    }

    /// Sends a review and returns the answer's body. `seconds` is how long the webhook is told that
    /// the caller waits.
    pub(super) async fn call(
        &self,
        target: &Target,
        seconds: u64,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        // A kept connection may have been closed meanwhile: then a new one is tried, once.
        if let Some(kept) = self.take(target) {
            match self.send(target, seconds, body.clone(), kept).await {
                Err(CallError::Broken(_)) => {}
                done => return done,
            }
        }
        let fresh = self.connect(target).await?;
        self.send(target, seconds, body, fresh).await
    }

    async fn send(
        &self,
        target: &Target,
        seconds: u64,
        body: Bytes,
        mut connection: Connection,
    ) -> Result<Bytes, CallError> {
        let request = Request::post(format!("{}?timeout={seconds}s", target.path))
            .header(HOST, &target.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body))
            .map_err(|err| CallError::Config(err.to_string()))?;
        let broken = |err: hyper::Error| CallError::Broken(err.to_string());
        connection.sender.ready().await.map_err(broken)?;
        let answer = connection.sender.send_request(request).await.map_err(broken)?;
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
        self.keep(target, connection);
        Ok(body.to_bytes())
    }

    /// A kept connection to a place where the webhook still is.
    fn take(&self, target: &Target) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(&target.key())?;
        kept.retain(|it| !it.sender.is_closed() && target.places.contains(&it.place));
        kept.pop()
    }

    fn keep(&self, target: &Target, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, kept| {
            kept.retain(|it| !it.sender.is_closed());
            !kept.is_empty()
        });
        let kept = idle.entry(target.key()).or_default();
        if kept.len() < WEBHOOK_IDLE {
            kept.push(connection);
        }
    }

    async fn connect(&self, target: &Target) -> Result<Connection, CallError> {
        let (tls, passage) = (self.trust(&target.ca)?, self.passage());
        let reaching = passage.reach(&target.places, &tls, &target.host, WEBHOOK_CONNECT_TIMEOUT);
        let (place, reached) = reaching.await.map_err(CallError::Unreached)?;
        let (sender, connection) = http1::handshake(TokioIo::new(reached.into_io()))
            .await
            .map_err(|err| CallError::Broken(err.to_string()))?;
        self.tasks.spawn(async move {
            // How a connection ends is seen by whoever uses it.
            let _ = connection.await;
        });
        Ok(Connection { place: place.clone(), sender })
    }

    fn trust(&self, ca: &str) -> Result<Arc<ClientConfig>, CallError> {
        let mut trust = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = trust.get(ca) {
            return Ok(config.clone());
        }
        let config = client_config(Believed::Authorities(roots(ca)?), None)
            .map_err(|err| CallError::Config(err.to_string()))?;
        if trust.len() >= MAX_TRUSTED {
            trust.clear();
        }
        trust.insert(ca.to_owned(), config.clone());
        Ok(config)
    }
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
