//! The peers: they end with the measurement.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, bail};

use crate::sh;

const START: Duration = Duration::from_secs(90);
const API: &str = "127.0.0.1:7483";

/// A process that is killed in the end.
struct Process(Child);

impl Process {
    fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log)?;
        command.stdout(file.try_clone()?).stderr(file);
        Ok(Self(command.spawn().with_context(|| sh::show(&command))?))
    }

    fn wait_for(&mut self, what: &str, address: &str, log: &Path) -> anyhow::Result<()> {
        sh::wait_for(what, START, || {
            if let Some(status) = self.0.try_wait()? {
                let text = fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                bail!(
                    "{what} ended ({status}):\n{}",
                    lines[lines.len().saturating_sub(15)..].join("\n")
                );
            }
            Ok(TcpStream::connect(address).ok())
        })
        .map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a peer that is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// etcd by itself.
pub(super) struct Etcd {
    pub(super) address: String,
    process: Process,
}

impl Etcd {
    /// Starts one on this port and the next.
    pub(super) fn start(dir: &Path, port: u16) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let address = format!("127.0.0.1:{port}");
        let (clients, peers) =
            (format!("http://{address}"), format!("http://127.0.0.1:{}", port + 1));
        let log = dir.join("log");
        let mut command = sh::command("etcd");
        command.arg("--data-dir").arg(dir.join("data")).args(["--log-level", "error"]);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        command.args(["--quota-backend-bytes", "8589934592"]);
        let mut process = Process::start(command, &log)?;
        process.wait_for("etcd", &address, &log)?;
        Ok(Self { address, process })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

pub(super) fn etcd_version() -> anyhow::Result<String> {
    let text = sh::read(sh::command("etcd").arg("--version"))?;
    let version = text.lines().find_map(|it| it.strip_prefix("etcd Version: "));
    Ok(version.context("etcd told no version")?.to_owned())
}

/// kube-apiserver before an etcd.
pub(super) struct Apiserver {
    pub(super) version: String,
    pub(super) kubeconfig: PathBuf,
    process: Process,
}

impl Apiserver {
    /// Starts one with an authority of its own. Without controllers there are no service accounts.
    pub(super) fn start(
        program: &Path,
        load: &Path,
        dir: &Path,
        etcd: &Etcd,
    ) -> anyhow::Result<Self> {
        sh::read(sh::command(load).arg("certificates").arg(dir).arg(API))?;
        let log = dir.join("log");
        let file = |name: &str| dir.join(name);
        let mut command = sh::command(program);
        command.args(["--etcd-servers", &format!("http://{}", etcd.address)]);
        command.args(["--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"]);
        command.args(["--secure-port", API.rsplit(':').next().unwrap_or_default()]);
        command.arg("--tls-cert-file").arg(file("server.crt"));
        command.arg("--tls-private-key-file").arg(file("server.key"));
        command.arg("--client-ca-file").arg(file("ca.crt"));
        command.arg("--service-account-key-file").arg(file("server.crt"));
        command.arg("--service-account-signing-key-file").arg(file("server.key"));
        command.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
        command.args(["--service-cluster-ip-range", "10.97.0.0/16"]);
        command.args(["--authorization-mode", "Node,RBAC"]);
        command.args(["--disable-admission-plugins", "ServiceAccount"]);
        let mut process = Process::start(command, &log)?;
        process.wait_for("kube-apiserver", API, &log)?;
        let kubeconfig = file("kubeconfig");
        let place = kubeconfig.to_str().context("a path is not UTF-8")?;
        sh::wait_for("kube-apiserver's first answer", START, || {
            let mut ask = sh::command(load);
            sh::read(ask.args(["hub", place, "writes", "1", "1"])).map(Some)
        })?;
        let version = sh::read(sh::command(program).arg("--version"))?;
        let version = version.trim().trim_start_matches("Kubernetes ").to_owned();
        Ok(Self { version, kubeconfig, process })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}
