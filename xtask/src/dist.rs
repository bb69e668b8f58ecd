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

/// What binaries are for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// To be tried and tested: they are built in half the time.
    Test,
    /// To be shipped and measured: optimised as one piece.
    Ship,
}

impl Purpose {
    fn profile(self) -> &'static str {
        match self {
            Self::Test => "release",
            Self::Ship => "dist",
        }
    }
}

/// Builds what is shipped; the answer is the directory.
pub(crate) fn run() -> anyhow::Result<PathBuf> {
    let dir = build(Purpose::Ship)?;
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
pub(crate) fn build(purpose: Purpose) -> anyhow::Result<PathBuf> {
    if std::env::var_os("OUTBYE_BIN_DIR").is_some() {
        return Ok(dir(purpose));
    }
    cargo_static(purpose, &["--package", "agent", "--package", "hub", "--package", "cni"])
}

/// Builds the program that the power cut test runs in its guest.
pub(crate) fn build_power_cut() -> anyhow::Result<PathBuf> {
    let target = ["--package", "tests", "--bin", "power-cut"];
    Ok(cargo_static(Purpose::Test, &target)?.join("power-cut"))
}

/// Builds what the arguments name.
pub(crate) fn cargo_static(purpose: Purpose, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let mut cargo = sh::command(env!("CARGO"));
    cargo.args(["build", "--profile", purpose.profile(), "--quiet", "--target", TARGET]);
    cargo.args(packages);
    // With an explicit target the flags reach only the product, not procedural macros.
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    // A directory of its own: other flags would rebuild everything.
    cargo.env("CARGO_TARGET_DIR", sh::root().join("target/static"));
    sh::run(&mut cargo)?;
    Ok(target_dir(purpose))
}

/// Where the binaries are.
pub(crate) fn dir(purpose: Purpose) -> PathBuf {
    std::env::var_os("OUTBYE_BIN_DIR").map_or_else(|| target_dir(purpose), PathBuf::from)
}

fn target_dir(purpose: Purpose) -> PathBuf {
    sh::root().join("target/static").join(TARGET).join(purpose.profile())
}
