//! Measures how long a container takes from the request to the running command.
//!
//! `start_latency <rootfs> [count]`: starts that many containers of `/bin/true` one after the other in
//! one sandbox, and prints the median of each part. Compare with another runtime on the same machine, in
//! turns; a time alone means nothing.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "this program measures time and prints it"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent_runtime::{
    CgroupPath, ContainerId, ContainerSpec, Resources, Runtime, RuntimeConfig, SandboxId,
    SandboxSpec,
};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = agent_runtime::dispatch(&args) {
        return code;
    }
    match measure(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            println!("{err}");
            ExitCode::FAILURE
        }
    }
}

fn sandbox(id: &str) -> Result<SandboxSpec, Box<dyn Error>> {
    Ok(SandboxSpec {
        id: SandboxId::new(id)?,
        hostname: id.to_owned(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        cgroup: CgroupPath::new(format!("burstable/pod{id}"))?,
        resources: Resources::default(),
        sysctls: BTreeMap::new(),
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[tokio::main(flavor = "current_thread")]
async fn measure(args: &[OsString]) -> Result<(), Box<dyn Error>> {
    let rootfs = PathBuf::from(args.get(1).ok_or("usage: start_latency <rootfs> [count]")?);
    let count: u32 = args.get(2).and_then(|it| it.to_str()).map_or(Ok(50), str::parse)?;
    let dir = tempfile::tempdir()?;
    let config = RuntimeConfig {
        state_dir: dir.path().join("state"),
        run_dir: dir.path().join("run"),
        cgroup_root: format!("outbye-latency-{}", std::process::id()),
    };
    let runtime = Runtime::connect(&config).await?;
    let (mut sandboxes, mut starts, mut removals) = (vec![], vec![], vec![]);
    for n in 0..count {
        let spec = sandbox(&format!("s{n}"))?;
        let begin = Instant::now();
        runtime.ensure_sandbox(&spec).await?;
        sandboxes.push(begin.elapsed());

        let id = ContainerId::new(format!("c{n}"))?;
        let log = dir.path().join("log");
        let layers = vec![rootfs.clone()];
        let mut spec = ContainerSpec::new(id, spec.id, layers, vec!["/bin/true".to_owned()], log);
        spec.resources.memory_limit = Some(64 << 20);
        spec.resources.cpu_shares = Some(100);
        spec.resources.pids_limit = Some(100);
        let begin = Instant::now();
        runtime.ensure_container(&spec).await?;
        starts.push(begin.elapsed());

        let begin = Instant::now();
        runtime.remove_sandbox(&spec.sandbox).await?;
        removals.push(begin.elapsed());
    }
    println!("sandbox   {:?}", median(sandboxes));
    println!("container {:?}", median(starts));
    println!("removal   {:?}", median(removals));
    runtime.retire_keeper().await?;
    Ok(())
}
