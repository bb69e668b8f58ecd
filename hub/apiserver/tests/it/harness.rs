//! The server under test, and a small client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hub_api::Clock;
use hub_apiserver::audit::{Audit, AuditFile, Policy, Rotation};
use hub_apiserver::auth::rbac::policy;
use hub_apiserver::auth::{
    Authentication, Authorizer, Chain, Guard, Masters, NodeAuthorizer, OidcIssuer, Rbac,
    ServiceAccountTokens, TokenFile, TokenKey,
};
use hub_apiserver::{
    ApiServer, NodeStreams, Registry, RegistryConfig, ServerCertificate, ServerConfig, TlsConfig,
    VersionInfo,
};
use hub_storage::{Options, SledStorage};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// A clock that moves when it is told to.
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    /// Who signed for the server when it passes requests on.
    pub(crate) front_proxy_ca: CertificateDer<'static>,
    ca: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    server: JoinSet<()>,
    /// The ends of connections that belong to clients.
    tasks: JoinSet<()>,
    dir: tempfile::TempDir,
}

/// Tells whole requests about ConfigMaps and Secrets, and no reading of anything else.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: RequestResponse
  resources: [{group: "", resources: ["configmaps", "secrets"]}]
- level: Metadata
  verbs: ["create", "update", "patch", "delete"]
"#;

fn service_account_tokens() -> ServiceAccountTokens {
    let key = TokenKey::from_pkcs8(&TokenKey::generate().unwrap()).unwrap();
    let issuer = "https://issuer.test".to_owned();
    let life = Duration::from_secs(86_400);
    ServiceAccountTokens::new(issuer, Vec::new(), vec![key], life).unwrap()
}

pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }
}

fn name(kind: rcgen::DnType, value: &str) -> rcgen::DistinguishedName {
    let mut out = rcgen::DistinguishedName::new();
    out.push(kind, value);
    out
}

/// What the server shows to others, and the authority that signed it.
fn front_proxy() -> (Arc<ServerCertificate>, CertificateDer<'static>) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap());
    let ca = ca.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = name(rcgen::DnType::CommonName, "front-proxy-client");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let shown = ServerCertificate::new(vec![certificate.der().clone()], key).unwrap();
    (shown, ca.der().clone())
}

pub(crate) fn registry() -> (Registry, tempfile::TempDir) {
    let (registry, _, dir) = registry_and_clock();
    (registry, dir)
}

pub(crate) fn registry_and_clock() -> (Registry, Arc<TestClock>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = SledStorage::open(dir.path(), Options::DEFAULT).unwrap();
    let clock = Arc::new(TestClock(AtomicI64::new(1_790_000_000)));
    let config = RegistryConfig { service_cidr: "10.96.0.0/24".parse().unwrap() };
    (Registry::new(storage, clock.clone(), config), clock, dir)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_nodes(Arc::new(hub_apiserver::NoNodes)).await
    }

    pub(crate) async fn with_nodes(nodes: Arc<dyn NodeStreams>) -> Self {
        Self::with(nodes, Duration::ZERO).await
    }

    pub(crate) async fn with(nodes: Arc<dyn NodeStreams>, shutdown_delay: Duration) -> Self {
        Self::build(nodes, shutdown_delay, Vec::new()).await
    }

    /// A server that believes tokens of an OpenID Connect issuer.
    pub(crate) async fn with_issuer(issuer: OidcIssuer) -> Self {
        Self::build(Arc::new(hub_apiserver::NoNodes), Duration::ZERO, vec![issuer]).await
    }

    async fn build(
        nodes: Arc<dyn NodeStreams>,
        shutdown_delay: Duration,
        oidc: Vec<OidcIssuer>,
    ) -> Self {
        let (registry, clock, dir) = registry_and_clock();
        let rbac = Arc::new(Rbac::new(registry.storage().clone()));
        let links: Vec<Arc<dyn Authorizer>> = vec![
            Arc::new(Masters),
            Arc::new(NodeAuthorizer::new(registry.storage().clone())),
            rbac.clone(),
        ];
        let authorizer: Arc<dyn Authorizer> = Arc::new(Chain::new(links));
        let registry = registry.with_guard(Arc::new(Guard::new(rbac, authorizer.clone())));
        registry.bootstrap().await.unwrap();
        registry.ensure_unordered(&policy::seeds()).await.unwrap();
        let log = dir.path().join("audit.log");
        let rotation = Rotation { max_size: 1 << 20, max_files: 1 };
        let (file, writer) = AuditFile::open(&log, rotation).unwrap();
        let audit = Arc::new(Audit::new(Policy::parse(AUDIT_POLICY).unwrap(), file));
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = name(rcgen::DnType::CommonName, "test authority");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned()];
        let certificate =
            rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        let (front_proxy, front_proxy_ca) = front_proxy();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = ApiServer::new(
            registry.clone(),
            ServerConfig {
                tls: TlsConfig {
                    certificate: ServerCertificate::new(
                        vec![certificate.der().clone()],
                        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
                    )
                    .unwrap(),
                    client_ca: vec![ca.der().clone()],
                },
                authentication: Authentication {
                    tokens: TokenFile::parse("boss,admin,1,system:masters\nguest,bob,2\n").unwrap(),
                    service_accounts: Some(Arc::new(service_account_tokens())),
                    bootstrap_tokens: true,
                    oidc,
                    ..Authentication::default()
                },
                audit: Some(audit),
                authorizer,
                nodes,
                version: VersionInfo {
                    major: "1".to_owned(),
                    minor: "37".to_owned(),
                    git_version: "v1.37.0+test".to_owned(),
                    git_commit: String::new(),
                    build_date: String::new(),
                },
                address: address.to_string(),
                front_proxy: Some(front_proxy),
                shutdown_delay,
            },
        )
        .unwrap();
        let shutdown = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(server.serve(listener, shutdown.clone()));
        serving.spawn(writer.run(shutdown.clone()));
        let tasks = JoinSet::new();
        Self { registry, clock, address, shutdown, front_proxy_ca, ca, server: serving, tasks, dir }
    }

    /// Stops the server and waits for it.
    pub(crate) async fn stop(mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.server.join_next().await {
            ended.unwrap();
        }
    }

    /// Stops the server; the audit log that it left.
    pub(crate) async fn audit_log(mut self) -> Vec<Value> {
        self.end().await;
        let text = std::fs::read_to_string(self.dir.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Closes all connections of clients.
    pub(crate) fn drop_clients(&mut self) {
        self.tasks.abort_all();
    }

    /// Connects, with a client certificate of this user and group if one is given.
    pub(crate) async fn connect(
        &self,
        alpn: &[&str],
        user: Option<(&str, &str)>,
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match user {
            Some((user, group)) => {
                let (chain, key) = self.client_certificate(user, group);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let server = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(server, stream).await.unwrap()
    }

    fn client_certificate(
        &self,
        user: &str,
        group: &str,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = name(rcgen::DnType::CommonName, user);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// Sends one request as a member of `system:masters` and returns while the body still comes.
    pub(crate) async fn open(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", "Bearer boss");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let tls = self.connect(&["http/1.1"], None).await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
        self.tasks.spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        sender.send_request(request).await.unwrap()
    }

    /// Sends one request and reads the whole answer.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Reply {
        let answer = self.open(method, path, headers, body).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { code: head.status.as_u16(), headers: head.headers, body }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], &body.to_string()).await
    }

    /// One request over HTTP/2, shown a client certificate.
    /// Opens a connection of HTTP/2 for requests whose body is `B`.
    pub(crate) async fn open_h2<B>(&mut self, user: (&str, &str)) -> http2::SendRequest<B>
    where
        B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>
            + Send
            + Unpin
            + 'static,
    {
        let tls = self.connect(&["h2"], Some(user)).await;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        self.tasks.spawn(async move {
            let _ = connection.await;
        });
        sender
    }

    pub(crate) async fn get_h2(&mut self, path: &str, user: (&str, &str)) -> Reply {
        let mut sender = self.open_h2(user).await;
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("https://localhost{path}"))
            .body(Full::new(Bytes::new()))
            .unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { code: head.status.as_u16(), headers: head.headers, body }
    }
}
