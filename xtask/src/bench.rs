//! `bench`: measures against peers in the same run.

#[derive(clap::Args)]
pub struct BenchOptions {}

pub fn run(_options: &BenchOptions) -> anyhow::Result<()> {
    anyhow::bail!("the benchmarks are not written yet")
}
