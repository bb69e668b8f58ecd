//! Looks for what a node may have left on this machine.

use std::{fs, path::Path};

use crate::{cluster, sh};

/// What `find` saw before anything was started: it belongs to others.
const BASELINE: &str = "baseline";

/// Notes what is there before `up` starts anything.
pub(crate) fn note_baseline(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(BASELINE);
    if path.exists() { Ok(()) } else { cluster::write(&path, &all(dir).join("\n")) }
}

/// Everything that is there and was not there before, one line each.
pub(crate) fn find(dir: &Path) -> Vec<String> {
    let baseline = fs::read_to_string(dir.join(BASELINE)).unwrap_or_default();
    let mut found = all(dir);
    found.retain(|it| !baseline.lines().any(|known| known == it));
    found
}

fn all(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let dir = dir.to_string_lossy().into_owned();
    found.extend(mounts(&dir));
    found.extend(processes(&dir));
    found.extend(cgroups());
    found.extend(links());
    if let Ok(tables) = sh::read(sh::command("nft").args(["list", "tables"])) {
        found.extend(
            tables.lines().filter(|it| it.contains("outbye")).map(|it| format!("nftables {it}")),
        );
    }
    found
}

fn mounts(dir: &str) -> Vec<String> {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|target| target.starts_with(dir))
        .map(|target| format!("mount {target}"))
        .collect()
}

fn processes(dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        if pid == std::process::id() {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(dir) && line.contains("outbye-") {
            found.push(format!("process {pid} {line}"));
        }
    }
    found
}

fn cgroups() -> Vec<String> {
    let mut found = Vec::new();
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    for dir in std::iter::once(root.to_owned()).chain(hierarchies.map(|it| it.path())) {
        let group = dir.join("outbye");
        if group.is_dir() {
            found.push(format!("cgroup {}", group.display()));
        }
    }
    found
}

fn links() -> Vec<String> {
    fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|it| it.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("outbye") || is_pod_link(name))
        .map(|name| format!("network link {name}"))
        .collect()
}

/// `ob` and twelve hexadecimal digits.
fn is_pod_link(name: &str) -> bool {
    name.strip_prefix("ob")
        .is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|it| it.is_ascii_hexdigit()))
}
