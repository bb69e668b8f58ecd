//! What is written to: the hub's API, or etcd.

use std::{error::Error, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Nobody acts on it: it is printed.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Of an object as it is sent.
const SIZE: usize = 2048;
const NAMESPACE: &str = "default";

pub(crate) enum Target {
    Hub { address: String, tls: Arc<ClientConfig> },
    Etcd { address: String },
}

impl Target {
    /// The hub of a kubeconfig in JSON.
    pub(crate) fn hub(kubeconfig: &str) -> Result<Self, Failure> {
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
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self::Hub { address, tls: Arc::new(tls) })
    }

    pub(crate) fn etcd(address: &str) -> Self {
        Self::Etcd { address: address.to_owned() }
    }

    /// A connection for one client.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        match self {
            Self::Hub { address, tls } => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                let name = ServerName::try_from(host.to_owned())?;
                let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                // It ends when the sender is dropped.
                tokio::spawn(connection);
                Ok(Connection::Hub { sender, host: address.clone() })
            }
            Self::Etcd { address } => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Ok(Connection::Etcd { sender, host: address.clone() })
            }
        }
    }
}

pub(crate) enum Connection {
    Hub { sender: http1::SendRequest<Full<Bytes>>, host: String },
    Etcd { sender: http2::SendRequest<Full<Bytes>>, host: String },
}

impl Connection {
    /// Writes one object and waits until it is acknowledged.
    pub(crate) async fn write(&mut self, name: &str) -> Result<(), Failure> {
        match self {
            Self::Hub { sender, host } => {
                let request = Request::post(format!("/api/v1/namespaces/{NAMESPACE}/configmaps"))
                    .header("host", host.as_str())
                    .header("content-type", "application/json")
                    .body(Full::new(config_map(name)))?;
                let (code, _, text) = whole(sender.send_request(request).await?).await?;
                if code == 201 { Ok(()) } else { Err(format!("{name}: {code}: {text}").into()) }
            }
            Self::Etcd { sender, host } => {
                let request = Request::post(format!("http://{host}/etcdserverpb.KV/Put"))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(Full::new(put(name)?))?;
                let (code, status, text) = whole(sender.send_request(request).await?).await?;
                if code == 200 && status.as_deref() == Some("0") {
                    Ok(())
                } else {
                    Err(format!("{name}: {code}, gRPC {status:?}: {text}").into())
                }
            }
        }
    }
}

/// Status, gRPC status and body of an answer.
async fn whole(answer: Response<Incoming>) -> Result<(u16, Option<String>, String), Failure> {
    let code = answer.status().as_u16();
    let early = grpc_status(answer.headers());
    let body = answer.into_body().collect().await?;
    let status = body.trailers().and_then(grpc_status).or(early);
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok((code, status, text))
}

fn grpc_status(headers: &http::HeaderMap) -> Option<String> {
    headers.get("grpc-status")?.to_str().ok().map(str::to_owned)
}

fn config_map(name: &str) -> Bytes {
    let object = |text: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"app": "load"}},
            "data": {"text": text},
        })
        .to_string()
    };
    let rest = SIZE.saturating_sub(object("").len());
    Bytes::from(object(&"x".repeat(rest)))
}

/// A gRPC message that holds `etcdserverpb.PutRequest { key = 1, value = 2 }`.
fn put(name: &str) -> Result<Bytes, Failure> {
    let mut message = BytesMut::with_capacity(SIZE + 128);
    field(&mut message, 1, name.as_bytes());
    field(&mut message, 2, &[b'x'; SIZE]);
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len())?);
    framed.put(message);
    Ok(framed.freeze())
}

/// A length-delimited field.
fn field(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    message.put_u8(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.put_u8(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    message.put_u8(u8::try_from(length).unwrap_or_default());
    message.put_slice(bytes);
}
