//! `vm-test`: what cannot be shown on the machine that builds: a real reboot, cgroup v2 alone, and
//! a disk that loses what was not flushed when the power goes.
//!
//! QEMU with software emulation boots Debian's cloud kernel and an initramfs made here of busybox
//! and our static binaries, in a few seconds. The guest's disk is served by [`disk`].

mod cold_boot;
mod disk;
mod guest;
mod initramfs;
mod kernel;
mod power_cut;

use std::path::PathBuf;

use crate::{
    dist,
    sh::{self, say, step},
    tools,
};

#[derive(clap::Args)]
pub(crate) struct VmOptions {
    /// How often the power is cut
    #[arg(long, default_value_t = 20)]
    cuts: u32,
    /// First seed of the cuts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out the cold boot without hub
    #[arg(long)]
    only_cuts: bool,
    /// Leave out the power cuts
    #[arg(long)]
    only_boot: bool,
}

impl VmOptions {
    pub(crate) const CI: Self = Self { cuts: 20, seed: 1, only_cuts: false, only_boot: false };
}

/// What every test boots.
struct Bench {
    dir: PathBuf,
    bin: PathBuf,
    kernel: kernel::Kernel,
}

/// Runs the tests; the answer is how many passed.
pub(crate) fn run(options: &VmOptions) -> anyhow::Result<usize> {
    sh::ensure_root()?;
    tools::ensure_packages(&tools::UP)?;
    tools::ensure_packages(&tools::TEST)?;
    let bin = step("Building static binaries", || dist::build(dist::Purpose::Test))?;
    let kernel = step("Unpacking Debian's cloud kernel", kernel::Kernel::fetch)?;
    let dir = sh::root().join("target/vm");
    std::fs::create_dir_all(&dir)?;
    let bench = Bench { dir, bin, kernel };
    let mut passed = 0;
    if !options.only_boot {
        passed += power_cut::run(&bench, options.cuts, options.seed)?;
    }
    if !options.only_cuts {
        passed += cold_boot::run(&bench)?;
    }
    say(format!("{passed} VM tests passed."));
    Ok(passed)
}
