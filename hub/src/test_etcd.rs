//! A real etcd for tests, with TLS if they want it.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An etcd of one member on loopback, ended with the test.
pub(crate) struct Etcd {
    pub(crate) place: String,
    process: Child,
    _data: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Already ended is what we want.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Starts one. Without the program tests are a skip on a laptop, and a failure where `REQUIRE_PRIVILEGED` is set.
#[expect(clippy::disallowed_methods, reason = "a test runs etcd")]
pub(crate) fn etcd(tls: Option<&Signed>) -> Option<Etcd> {
    let data = tempfile::tempdir().unwrap();
    // Free a moment ago: nobody else on loopback takes it so soon.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (scheme, begin) = if tls.is_some() { ("https", "etcds") } else { ("http", "etcd") };
    let url = format!("{scheme}://127.0.0.1:{port}");
    let mut command =
        Command::new(std::env::var_os("OUTBYE_ETCD").unwrap_or_else(|| "etcd".into()));
    command.arg("--data-dir").arg(data.path().join("data"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    // Nobody is to join: any port will do.
    command.args(["--listen-peer-urls", "http://127.0.0.1:0"]);
    command.args(["--unsafe-no-fsync", "--logger", "zap", "--log-level", "error"]);
    if let Some(signed) = tls {
        command.arg("--cert-file").arg(&signed.cert).arg("--key-file").arg(&signed.key);
        command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&signed.ca);
    }
    match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(process) => {
            let place = format!("{begin}://127.0.0.1:{port}/fleet");
            Some(Etcd { place, process, _data: data })
        }
        Err(err) => {
            assert!(std::env::var_os("REQUIRE_PRIVILEGED").is_none(), "no etcd: {err}");
            eprintln!("skipped: there is no etcd ({err})");
            None
        }
    }
}

/// Files of a certificate for 127.0.0.1, for either side of a connection.
pub(crate) struct Signed {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// A certificate of an authority that nobody knew before, in files of this directory.
pub(crate) fn signed(dir: &Path, name: &str) -> Signed {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, format!("{name} authority"));
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &ca).unwrap();
    let file = |ending: &str, content: String| {
        let path = dir.join(format!("{name}.{ending}"));
        agent_disk::replace(&path, content.as_bytes()).unwrap();
        path
    };
    Signed {
        ca: file("ca", ca.pem()),
        cert: file("crt", cert.pem()),
        key: file("key", key.serialize_pem()),
    }
}
