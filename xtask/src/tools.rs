//! Programs that the tasks need and the product does not: installed by name, said aloud.

mod clients;

use std::path::PathBuf;

use anyhow::Context;

use crate::sh;

pub(crate) use clients::{apiserver, current_kubectl, helm, informers, python};

/// A Debian package with a program that shows whether it is there.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
}

const fn package(name: &'static str, program: &'static str) -> Package {
    Package { name, program }
}

/// What `up` needs.
pub(crate) const UP: [Package; 2] =
    [package("docker-registry", "docker-registry"), package("busybox-static", "busybox")];
/// What the tests need besides.
pub(crate) const TEST: [Package; 9] = [
    package("ca-certificates", "update-ca-certificates"),
    package("nftables", "nft"),
    package("iproute2", "ip"),
    package("e2fsprogs", "mkfs.ext4"),
    package("etcd-server", "etcd"),
    package("cpio", "cpio"),
    package("qemu-system-x86", "qemu-system-x86_64"),
    package("git", "git"),
    package("xz-utils", "xz"),
];
/// The peers of `bench`.
pub(crate) const BENCH: [Package; 3] =
    [package("crun", "crun"), package("runc", "runc"), package("etcd-server", "etcd")];

/// Installs the packages whose program is missing.
pub(crate) fn ensure_packages(packages: &[Package]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|it| sh::which(it.program).is_none()).map(|it| it.name).collect();
    install(&missing)
}

pub(crate) fn install(missing: &[&str]) -> anyhow::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    sh::ensure_root()?;
    sh::step(&format!("Installing Debian packages: {}", missing.join(" ")), || {
        sh::read(sh::command("apt-get").args(["update", "-qq"]))?;
        let mut apt = sh::command("apt-get");
        apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(missing);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        // Servers that packages bring must not start: the tasks start their own.
        apt.env("RUNLEVEL", "1");
        sh::read(&mut apt).map(drop)
    })
}

/// A kubectl: the one on `PATH`, else Debian's.
pub(crate) fn kubectl() -> anyhow::Result<PathBuf> {
    if let Some(path) = sh::which("kubectl") {
        return Ok(path);
    }
    install(&["kubernetes-client"])?;
    sh::which("kubectl").context("the package kubernetes-client brought no kubectl")
}

/// Debian's kubectl 1.20, unpacked beside whatever is installed.
pub(crate) fn old_kubectl() -> anyhow::Result<PathBuf> {
    let dir = sh::root().join("target/tools/kubernetes-client");
    let path = dir.join("usr/bin/kubectl");
    if !path.exists() {
        sh::step("Unpacking Debian's kubernetes-client", || unpack("kubernetes-client", &dir))?;
    }
    Ok(path)
}

/// Downloads a Debian package and unpacks it, without installing it.
pub(crate) fn unpack(package: &str, dir: &std::path::Path) -> anyhow::Result<()> {
    let download = dir.with_extension("deb.d");
    std::fs::create_dir_all(&download)?;
    // Root's download runs as the user _apt, which cannot write here; the warning is harmless.
    let fetch =
        || sh::read(sh::command("apt-get").args(["download", package]).current_dir(&download));
    if fetch().is_err() {
        sh::read(sh::command("apt-get").args(["update", "-qq"]))?;
        fetch()?;
    }
    let deb = std::fs::read_dir(&download)?
        .filter_map(Result::ok)
        .map(|it| it.path())
        .find(|it| it.extension().is_some_and(|it| it == "deb"))
        .with_context(|| format!("apt-get downloaded no file for {package}"))?;
    std::fs::create_dir_all(dir)?;
    sh::read(sh::command("dpkg-deb").arg("-x").arg(&deb).arg(dir))?;
    std::fs::remove_dir_all(&download)?;
    Ok(())
}
