//! `dist`: static binaries and their checksums.
//!
//! Statically linked with glibc, so that they run on any distribution and in an initramfs. Such
//! binaries have no NSS: names are resolved by DNS only where the resolver is our own.

use std::{fs, path::PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::{
    cluster,
    sh::{self, say},
};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const BINARIES: [&str; 3] = ["outbye-agent", "outbye-hub", "outbye-cni"];

/// Builds them; the answer is the directory.
pub(crate) fn run() -> anyhow::Result<PathBuf> {
    let dir = build()?;
    let mut sums = String::new();
    for name in BINARIES {
        let bytes = fs::read(dir.join(name)).with_context(|| format!("could not read {name}"))?;
        let hash: String =
            Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        sums.push_str(&format!("{hash}  {name}\n"));
        say(format!("{name}: {} KiB", bytes.len() / 1024));
    }
    cluster::write(&dir.join("SHA256SUMS"), &sums)?;
    say(format!("Binaries and SHA256SUMS are in {}", dir.display()));
    Ok(dir)
}

/// Builds them without the checksums. `OUTBYE_BIN_DIR` names binaries to take instead.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    if std::env::var_os("OUTBYE_BIN_DIR").is_some() {
        return Ok(dir());
    }
    cargo_static(&["--package", "agent", "--package", "hub", "--package", "cni"])
}

/// Builds the program that the power cut test runs in its guest.
pub(crate) fn build_power_cut() -> anyhow::Result<PathBuf> {
    Ok(cargo_static(&["--package", "tests", "--bin", "power-cut"])?.join("power-cut"))
}

/// Builds what the arguments name, as all that is shipped is built.
pub(crate) fn cargo_static(packages: &[&str]) -> anyhow::Result<PathBuf> {
    let mut cargo = sh::command(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--target", TARGET]).args(packages);
    // With an explicit target the flags reach only the product, not procedural macros.
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    // A directory of its own: other flags would rebuild everything.
    cargo.env("CARGO_TARGET_DIR", sh::root().join("target/static"));
    sh::run(&mut cargo)?;
    Ok(target_dir())
}

/// Where the binaries are.
pub(crate) fn dir() -> PathBuf {
    std::env::var_os("OUTBYE_BIN_DIR").map_or_else(target_dir, PathBuf::from)
}

fn target_dir() -> PathBuf {
    sh::root().join("target/static").join(TARGET).join("release")
}
