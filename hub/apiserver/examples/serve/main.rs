//! An API server over an empty storage in a temporary directory, for trying clients against:
//! `cargo run -p hub-apiserver --example serve -- 127.0.0.1:16443 /tmp/kubeconfig`.

mod node;

use std::path::PathBuf;
use std::sync::Arc;

use hub_api::Clock;
use hub_apiserver::auth::{Authentication, MastersOnly, TokenFile};
use hub_apiserver::{
    ApiServer, Registry, RegistryConfig, ServerCertificate, ServerConfig, TlsConfig, VersionInfo,
};
use hub_storage::{Options, SledStorage};
use rustls_pki_types::PrivateKeyDer;
use tokio_util::sync::CancellationToken;

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

const TOKEN: &str = "example";

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:16443".to_owned());
    let kubeconfig = arguments.next().unwrap_or_else(|| "/tmp/kubeconfig".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();

    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let (storage, _) = SledStorage::open(dir.path(), Options::DEFAULT).expect("storage opens");
    let service_cidr = "10.96.0.0/16".parse().expect("a network");
    let config = RegistryConfig { service_cidr };
    let registry = Registry::new(storage, Arc::new(SystemClock), config);
    registry.bootstrap().await.expect("the first namespaces can be made");

    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
    write_kubeconfig(&PathBuf::from(kubeconfig), &address, &made.cert.pem());
    let server = ApiServer::new(
        registry,
        ServerConfig {
            tls: TlsConfig {
                certificate: ServerCertificate::new(
                    vec![made.cert.der().clone()],
                    PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()),
                )
                .expect("the certificate fits its key"),
                client_ca: Vec::new(),
            },
            authentication: Authentication {
                tokens: TokenFile::parse(&format!("{TOKEN},admin,1,system:masters"))
                    .expect("the line is well formed"),
                ..Authentication::default()
            },
            audit: None,
            authorizer: Arc::new(MastersOnly),
            nodes: Arc::new(node::PretendNode::default()),
            version: VersionInfo {
                major: "1".to_owned(),
                minor: "37".to_owned(),
                git_version: "v1.37.0+outbye".to_owned(),
                git_commit: String::new(),
                build_date: "1970-01-01T00:00:00Z".to_owned(),
            },
            address: address.clone(),
            front_proxy: None,
            shutdown_delay: std::time::Duration::ZERO,
        },
    )
    .expect("the certificate is good");
    let listener = tokio::net::TcpListener::bind(&address).await.expect("the address is free");
    let shutdown = CancellationToken::new();
    let serving = server.serve(listener, shutdown.clone());
    tokio::pin!(serving);
    tokio::select! {
        () = serving.as_mut() => {}
        _ = tokio::signal::ctrl_c() => {
            shutdown.cancel();
            serving.await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the file is a throw-away")]
fn write_kubeconfig(path: &std::path::Path, address: &str, ca: &str) {
    use base64::Engine;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca);
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: example\n\
         clusters: [{{name: example, cluster: {{server: 'https://{address}', certificate-authority-data: {ca}}}}}]\n\
         users: [{{name: admin, user: {{token: {TOKEN}}}}}]\n\
         contexts: [{{name: example, context: {{cluster: example, user: admin}}}}]\n"
    );
    std::fs::write(path, text).expect("the kubeconfig can be written");
}
