//! A hub, one node and a registry on this machine, below one directory.

use std::{
    fs::{self, File},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::{dist, sh};

/// Where the parts listen.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) registry: &'static str,
    pub(crate) api: &'static str,
    pub(crate) sync: &'static str,
}

/// Those of `cargo xtask up`.
const LOCAL: Addresses =
    Addresses { registry: "127.0.0.1:5055", api: "127.0.0.1:6443", sync: "127.0.0.1:6444" };

/// A part that is not up in this time has failed.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The directory and what lies in it.
pub(crate) struct Cluster {
    pub(crate) dir: PathBuf,
    pub(crate) bin: PathBuf,
    pub(crate) addresses: Addresses,
}

impl Cluster {
    /// The one of `cargo xtask up`.
    pub(crate) fn local() -> Self {
        Self {
            dir: sh::root().join(".outbye"),
            bin: dist::dir(dist::Purpose::Test),
            addresses: LOCAL,
        }
    }

    /// Only a registry, to be filled.
    pub(crate) fn registry_only(dir: &Path) -> Self {
        let addresses = Addresses { registry: "127.0.0.1:5255", api: "", sync: "" };
        Self { dir: dir.to_owned(), bin: dist::dir(dist::Purpose::Test), addresses }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Puts the programs where people find them.
    pub(crate) fn link_binaries(&self, dir: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(self.dir.join("bin"))?;
        for name in ["outbye-agent", "outbye-hub"] {
            let link = self.dir.join("bin").join(name);
            if !link.is_symlink() {
                std::os::unix::fs::symlink(dir.join(name), &link)?;
            }
        }
        Ok(())
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.join("agent")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub(crate) fn hub(&self) -> Command {
        sh::command(self.bin.join("outbye-hub"))
    }

    /// The node's command line, with this node's directories.
    pub(crate) fn agent(&self, subcommand: &str) -> Command {
        let mut command = sh::command(self.bin.join("outbye-agent"));
        command.arg(subcommand);
        command.arg("--state-dir").arg(self.state_dir()).arg("--run-dir").arg(self.run_dir());
        command
    }

    pub(crate) fn start_registry(&self) -> anyhow::Result<()> {
        let dir = self.dir.join("registry");
        fs::create_dir_all(&dir)?;
        let config = json!({
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": dir.join("data")}, "delete": {"enabled": true}},
            "http": {"addr": self.addresses.registry},
        });
        // JSON is YAML.
        write(&dir.join("config.yml"), &serde_json::to_string_pretty(&config)?)?;
        let program = sh::which("docker-registry").context("docker-registry is not installed")?;
        let mut command = sh::command(program);
        command.arg("serve").arg(dir.join("config.yml"));
        self.start("registry", command, self.addresses.registry)
    }

    pub(crate) fn start_hub(&self) -> anyhow::Result<()> {
        let mut command = self.hub();
        command.arg("serve").arg("--data-dir").arg(self.dir.join("hub"));
        command.args(["--listen", self.addresses.api, "--sync-listen", self.addresses.sync]);
        self.start("hub", command, self.addresses.api)?;
        sh::wait_for("the hub's kubeconfig", START_TIMEOUT, || {
            let text =
                sh::read(self.hub().arg("kubeconfig").arg("--data-dir").arg(self.dir.join("hub")))?;
            write(&self.kubeconfig(), &text)?;
            Ok(Some(()))
        })
    }

    /// A token for one machine.
    pub(crate) fn token(&self) -> anyhow::Result<String> {
        sh::wait_for("a join token", START_TIMEOUT, || {
            let mut create = self.hub();
            create.args(["token", "create", "--data-dir"]).arg(self.dir.join("hub"));
            Ok(Some(sh::read(&mut create)?.trim().to_owned()))
        })
    }

    /// Joins the node if it has not joined before, and runs its agent.
    pub(crate) fn start_agent(&self) -> anyhow::Result<()> {
        if !self.dir.join("joined").exists() {
            let token = self.token()?;
            let mut join = self.agent("join");
            join.args([
                "--hub",
                self.addresses.sync,
                "--token",
                &token,
                "--node-name",
                &node_name()?,
            ]);
            sh::read(&mut join)?;
            write(&self.dir.join("joined"), "")?;
        }
        if self.is_running("agent") {
            return Ok(());
        }
        let mut command = self.agent("run");
        command.args(["--plain-http-registry", self.addresses.registry]);
        self.spawn("agent", command)?;
        sh::wait_for("the agent's socket", START_TIMEOUT, || {
            self.ensure_alive("agent")?;
            sh::read(&mut self.agent("status")).map(Some)
        })
        .map(drop)
    }

    fn start(&self, name: &str, command: Command, address: &str) -> anyhow::Result<()> {
        if self.is_running(name) {
            return Ok(());
        }
        ensure!(
            TcpStream::connect(address).is_err(),
            "port {address} is in use by another program; stop it, then run `cargo xtask up` again"
        );
        self.spawn(name, command)?;
        sh::wait_for(&format!("{name} on {address}"), START_TIMEOUT, || {
            self.ensure_alive(name)?;
            Ok(TcpStream::connect(address).ok().map(drop))
        })
    }

    fn spawn(&self, name: &str, mut command: Command) -> anyhow::Result<()> {
        let log = self.dir.join(format!("log/{name}.log"));
        fs::create_dir_all(self.dir.join("log"))?;
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdout(file.try_clone()?).stderr(file).process_group(0);
        let shown = sh::show(&command);
        let child = command.spawn().with_context(|| format!("could not run {shown}"))?;
        let record = json!({"pid": child.id(), "started": start_time(child.id())});
        write(&self.pid_file(name), &record.to_string())
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.pid"))
    }

    /// The process, if it is still the one that was started.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        let record: Value =
            serde_json::from_str(&fs::read_to_string(self.pid_file(name)).ok()?).ok()?;
        let pid = u32::try_from(record["pid"].as_u64()?).ok()?;
        let started = start_time(pid)?;
        (record["started"].as_str() == Some(started.as_str())).then_some(pid)
    }

    pub(crate) fn is_running(&self, name: &str) -> bool {
        self.pid(name).is_some()
    }

    fn ensure_alive(&self, name: &str) -> anyhow::Result<()> {
        if self.is_running(name) {
            return Ok(());
        }
        let log = fs::read_to_string(self.dir.join(format!("log/{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        bail!("{name} ended right after its start; the end of its log:\n{tail}")
    }

    /// Asks a part to stop, and waits until it has.
    pub(crate) fn stop(&self, name: &str) -> anyhow::Result<()> {
        if let Some(pid) = self.pid(name) {
            sh::read(sh::command("kill").args(["-TERM", &pid.to_string()]))?;
            sh::wait_for(&format!("the end of {name}"), STOP_TIMEOUT, || {
                Ok((!self.is_running(name)).then_some(()))
            })?;
        }
        match fs::remove_file(self.pid_file(name)) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err.into()),
            _ => Ok(()),
        }
    }
}

/// The machine's name, as a node's.
pub(crate) fn node_name() -> anyhow::Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(name.trim().to_lowercase().replace('_', "-"))
}

/// When a process started, in the kernel's words; `None` when it is gone or a zombie.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything; fields are counted behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

/// Writes a file of the task's own, nothing that must survive a power cut.
#[expect(clippy::disallowed_methods, reason = "scratch files of a development tool")]
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}
