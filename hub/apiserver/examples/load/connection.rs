//! Connections to what is measured.

use std::{error::Error, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response, request::Builder};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Nobody acts on it: it is printed.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// HTTP/2 windows: large enough not to be what is measured.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// What is measured.
#[derive(Clone)]
pub(crate) enum Target {
    Api { address: String, tls: Arc<ClientConfig> },
    Etcd { address: String },
}

impl Target {
    pub(crate) fn new(kind: &str, place: &str) -> Result<Self, Failure> {
        match kind {
            "hub" => Self::api(&std::fs::read_to_string(place)?),
            "etcd" => Ok(Self::Etcd { address: place.to_owned() }),
            _ => Err("it is either a hub or etcd".into()),
        }
    }

    /// The API server of a kubeconfig in JSON.
    fn api(kubeconfig: &str) -> Result<Self, Failure> {
        let config: Value = serde_json::from_str(kubeconfig)?;
        let field = |pointer: &str| {
            let text = config.pointer(pointer).and_then(Value::as_str);
            text.ok_or_else(|| Failure::from(format!("the kubeconfig has no {pointer}")))
        };
        let pem =
            |pointer: &str| -> Result<Vec<u8>, Failure> { Ok(STANDARD.decode(field(pointer)?)?) };
        let server = field("/clusters/0/cluster/server")?;
        let address = server.trim_start_matches("https://").trim_end_matches('/').to_owned();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem(
            "/clusters/0/cluster/certificate-authority-data",
        )?)?)?;
        let chain =
            vec![CertificateDer::from_pem_slice(&pem("/users/0/user/client-certificate-data")?)?];
        let key = PrivateKeyDer::from_pem_slice(&pem("/users/0/user/client-key-data")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self::Api { address, tls: Arc::new(tls) })
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(STREAM_WINDOW);
        builder.initial_connection_window_size(CONNECTION_WINDOW);
        match self {
            Self::Api { address, tls } => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                let name = ServerName::try_from(host.to_owned())?;
                let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
                let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
                // It ends when the last sender is dropped.
                tokio::spawn(connection);
                Ok(Connection { sender, base: format!("https://{address}") })
            }
            Self::Etcd { address } => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Ok(Connection { sender, base: format!("http://{address}") })
            }
        }
    }

    pub(crate) fn is_etcd(&self) -> bool {
        matches!(self, Self::Etcd { .. })
    }
}

/// One connection; clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    base: String,
}

impl Connection {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends a request and gives its answer, whose head must be good.
    pub(crate) async fn send(
        &mut self,
        request: Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let request: Request<Full<Bytes>> = request.body(Full::new(body))?;
        let path = request.uri().path().to_owned();
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let code = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        Err(format!("{path}: {code}: {}", String::from_utf8_lossy(&text)).into())
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn call(&mut self, request: Builder, body: Bytes) -> Result<Bytes, Failure> {
        let answer = self.send(request, body).await?;
        let early = grpc_status(answer.headers());
        let body = answer.into_body().collect().await?;
        match body.trailers().and_then(grpc_status).or(early) {
            Some(status) if status != "0" => Err(format!("gRPC status {status}").into()),
            Some(_) | None => Ok(body.to_bytes()),
        }
    }
}

fn grpc_status(headers: &http::HeaderMap) -> Option<String> {
    headers.get("grpc-status")?.to_str().ok().map(str::to_owned)
}
