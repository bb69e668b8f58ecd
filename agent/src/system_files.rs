//! Files that the node makes for a pod: `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use agent_core::{desired::DesiredPod, field::NodeFacts, files, ids::PodUid, spec};

use crate::config::AgentConfig;

/// The machine's resolver; the second is the one to use where the first points to a local stub.
const RESOLV_CONF: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];

/// One of the files.
#[derive(Clone, Copy, Debug)]
pub enum SystemFile {
    Hosts,
    ResolvConf,
    Hostname,
}

/// Where the file of a pod is.
pub fn path(config: &AgentConfig, uid: &PodUid, file: SystemFile) -> PathBuf {
    let name = match file {
        SystemFile::Hosts => "hosts",
        SystemFile::ResolvConf => "resolv.conf",
        SystemFile::Hostname => "hostname",
    };
    config.pod_dir(uid).join("etc").join(name)
}

/// Writes all of them. They are made again with every sandbox, so a torn one does not last.
///
/// # Errors
/// The path that could not be written, and why.
pub fn write(
    config: &AgentConfig,
    pod: &DesiredPod,
    facts: &NodeFacts,
    pod_ip: Option<IpAddr>,
) -> Result<(), (PathBuf, io::Error)> {
    let dir = config.pod_dir(&pod.uid).join("etc");
    fs::create_dir_all(&dir).map_err(|err| (dir.clone(), err))?;
    let host_hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let hosts = files::hosts(pod, facts, pod_ip, &host_hosts);
    let resolv_conf = files::resolv_conf(pod.spec(), &host_resolver());
    let hostname = format!("{}\n", spec::hostname(pod, facts));
    for (file, text) in [
        (SystemFile::Hosts, hosts),
        (SystemFile::ResolvConf, resolv_conf),
        (SystemFile::Hostname, hostname),
    ] {
        let path = path(config, &pod.uid, file);
        write_text(&path, &text).map_err(|err| (path, err))?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "made again at every boot: need not be durable")]
fn write_text(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
}

fn host_resolver() -> String {
    let found = RESOLV_CONF.iter().find_map(|path| fs::read_to_string(path).ok());
    found.unwrap_or_default()
}
