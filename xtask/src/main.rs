//! `cargo xtask`: everything that is done to this tree, in one place.

mod bench;
mod ci;
mod cluster;
mod codegen;
mod dist;
mod example_images;
mod fuzz;
mod leftovers;
mod oci_push;
mod sh;
mod test;
mod tidy;
mod tools;
mod up;
mod vm;

use clap::{Parser, Subcommand};

/// Outbye's workspace tasks
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Set everything up on this machine and run the example
    Up,
    /// Stop everything that `up` started, and check that nothing is left
    Down,
    /// Run every test there is, unit to VM
    Test(test::TestOptions),
    /// Do exactly what CI does
    Ci,
    /// Check the rules that no compiler checks
    Tidy,
    /// Measure against peers on this machine and print ratios
    Bench(bench::BenchOptions),
    /// Give a parser mutated inputs until it breaks or the time is up
    Fuzz(fuzz::FuzzOptions),
    /// Boot a node in QEMU: cold boot without hub, cgroup v2, power cuts
    VmTest(vm::VmOptions),
    /// Build static binaries with checksums
    Dist,
    /// Make the checked-in data files from what Kubernetes publishes
    Codegen {
        /// Only check that they are up to date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Up => up::up(),
        Task::Down => up::down(),
        Task::Test(options) => test::run(&options),
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::Bench(options) => bench::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::VmTest(options) => vm::run(&options).map(drop),
        Task::Dist => dist::run().map(drop),
        Task::Codegen { check } => codegen::run(check),
    }
}
