//! Debian's cloud kernel, unpacked and not installed, and the modules that a node needs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use super::initramfs::Archive;
use crate::{sh, tools};

/// Without their dependencies, which are read from the files.
const WANTED: [&str; 26] = [
    "crc32c-intel",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "ext4",
    "overlay",
    "bridge",
    "veth",
    "nf_tables",
    "nft_meta_bridge",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_numgen",
    "nft_hash",
    "nft_fib",
    "nft_fib_ipv4",
    "nft_fib_inet",
    "nft_limit",
    "nft_redir",
    "nft_reject",
    "nft_reject_ipv4",
    "nft_reject_inet",
    "nf_conntrack",
    "vxlan",
];

pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    /// In the order in which they can be loaded.
    pub(crate) modules: Vec<PathBuf>,
}

impl Kernel {
    pub(crate) fn fetch() -> anyhow::Result<Self> {
        let dir = sh::root().join("target/tools/linux");
        if !dir.join("boot").exists() {
            tools::unpack(&package()?, &dir)?;
        }
        let image = fs::read_dir(dir.join("boot"))?
            .filter_map(Result::ok)
            .map(|it| it.path())
            .find(|it| it.file_name().is_some_and(|it| it.to_string_lossy().starts_with("vmlinuz")))
            .context("the kernel package holds no vmlinuz")?;
        let mut files = BTreeMap::new();
        collect(&dir.join("lib/modules"), &mut files)?;
        let mut modules = Vec::new();
        for name in WANTED {
            load_order(&name.replace('-', "_"), &files, &mut modules)?;
        }
        Ok(Self { image, modules })
    }
}

impl Kernel {
    /// Puts the modules into an initramfs, with the order in which its `/init` loads them.
    pub(crate) fn pack(&self, archive: &mut Archive) -> anyhow::Result<()> {
        let mut order = String::new();
        for path in &self.modules {
            let name = path.file_name().context("a module has no name")?.to_string_lossy();
            archive.file(&format!("mod/{name}"), path)?;
            order.push_str(&format!("{name}\n"));
        }
        archive.script("mod/order", &order);
        Ok(())
    }
}

/// The package behind the name that always means the newest.
fn package() -> anyhow::Result<String> {
    let read = || sh::read(sh::command("apt-cache").args(["depends", "linux-image-cloud-amd64"]));
    let find = |text: String| {
        text.lines().find_map(|it| {
            let name = it.trim().strip_prefix("Depends: ")?;
            name.starts_with("linux-image-").then(|| name.to_owned())
        })
    };
    if let Some(name) = read().ok().and_then(find) {
        return Ok(name);
    }
    sh::read(sh::command("apt-get").args(["update", "-qq"]))?;
    find(read()?).context("apt knows no linux-image-cloud-amd64")
}

fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            collect(&path, files)?;
        } else if let Some(name) =
            path.file_name().and_then(|it| it.to_str()).and_then(|it| it.strip_suffix(".ko"))
        {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn load_order(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    order: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    // What is no file is built into the kernel.
    let Some(path) = files.get(name) else { return Ok(()) };
    if order.contains(path) {
        return Ok(());
    }
    for dependency in dependencies(path)? {
        load_order(&dependency.replace('-', "_"), files, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// The `depends=` line of the module's `.modinfo` section.
fn dependencies(path: &Path) -> anyhow::Result<Vec<String>> {
    const KEY: &[u8] = b"\0depends=";
    let bytes = fs::read(path)?;
    let start = bytes.windows(KEY.len()).position(|it| it == KEY).map(|it| it + KEY.len());
    let Some(start) = start else { return Ok(Vec::new()) };
    let end = bytes[start..].iter().position(|it| *it == 0).map_or(bytes.len(), |it| start + it);
    let text = std::str::from_utf8(&bytes[start..end])?;
    ensure!(text.len() < 1000, "{} has a strange list of dependencies", path.display());
    Ok(text.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect())
}
