//! `outbye-agent`: one process for each machine, and the commands to look at it.

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use agent::{
    cli::{self, Target},
    config::AgentConfig,
    join, program, reset,
};
use agent_sync::stream::StreamKind;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use ipnet::Ipv4Net;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Worker threads; most of what the agent does is waiting.
const WORKERS: usize = 2;
/// Threads for what blocks: netlink, files.
const MAX_BLOCKING: usize = 8;
const THREAD_IDLE: std::time::Duration = std::time::Duration::from_secs(5);
const STACK: usize = 1 << 20;
/// One for each thread that works most of the time would be two; they share it without trouble.
const HEAPS: i32 = 1;

/// Runs containers on this machine, with or without its hub.
#[derive(Parser)]
#[command(name = "outbye-agent", version)]
struct Cli {
    #[command(flatten)]
    dirs: Dirs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Dirs {
    /// Where everything durable lies.
    #[arg(long, global = true, default_value = "/var/lib/outbye", env = "OUTBYE_STATE_DIR")]
    state_dir: PathBuf,
    /// Where sockets and namespaces lie until the next boot.
    #[arg(long, global = true, default_value = "/run/outbye", env = "OUTBYE_RUN_DIR")]
    run_dir: PathBuf,
}

#[derive(Args)]
struct Settings {
    /// Name of the node; the one it joined with, or the machine's, when not given.
    #[arg(long)]
    node_name: Option<String>,
    /// The machine's address; that of the default route when not given.
    #[arg(long)]
    node_ip: Option<IpAddr>,
    /// A registry (host:port) that is asked without TLS. May be repeated.
    #[arg(long = "plain-http-registry", value_name = "HOST")]
    plain_http_registries: Vec<String>,
    #[command(flatten)]
    system: SystemSettings,
    /// Addresses of this node's pods until the hub says which.
    #[arg(long)]
    pod_cidr: Option<Ipv4Net>,
    /// Bytes a second that the log of one container takes for long (4194304 when not given).
    #[arg(long, value_name = "BYTES")]
    container_log_rate: Option<u64>,
    /// Follow a hub whose storage was replaced or restored.
    #[arg(long)]
    accept_new_epoch: bool,
}

#[derive(Args)]
struct SystemSettings {
    /// Name of the bridge for pods.
    #[arg(long, default_value = "outbye0")]
    bridge: String,
    /// Addresses of the pods of all nodes.
    #[arg(long, default_value = "10.42.0.0/16")]
    cluster_cidr: Ipv4Net,
    /// Addresses of Services.
    #[arg(long, default_value = "10.96.0.0/16")]
    service_cidr: Ipv4Net,
    /// Name of the nftables tables for Services (ip) and for what pods may send (bridge).
    #[arg(long, default_value = "outbye")]
    nft_table: String,
    /// Name of the control group that everything runs in.
    #[arg(long, default_value = "outbye")]
    cgroup_root: String,
}

#[derive(Args)]
struct TargetArgs {
    /// Name of the pod.
    pod: String,
    /// Namespace of the pod.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Name of the container; not needed where there is only one.
    #[arg(short, long, default_value = "")]
    container: String,
}

impl TargetArgs {
    fn target(self) -> Target {
        Target { namespace: self.namespace, pod: self.pod, container: self.container }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Runs the agent until it is told to stop. Containers outlive it.
    Run {
        #[command(flatten)]
        settings: Settings,
    },
    /// Makes this machine a node of a hub.
    Join {
        /// Address of the hub, host:port; of several hubs on one store all, with commas between them.
        #[arg(long)]
        hub: String,
        /// Join token from `outbye-hub token create`.
        #[arg(long)]
        token: String,
        /// Name of the node; the machine's when not given.
        #[arg(long)]
        node_name: Option<String>,
    },
    /// Shows how the node is.
    Status {
        #[arg(long)]
        json: bool,
    },
    /// Lists pods and their containers.
    Ps {
        #[arg(long)]
        json: bool,
    },
    /// Lists images.
    Images {
        #[arg(long)]
        json: bool,
    },
    /// Prints the log of a container.
    Logs {
        #[command(flatten)]
        target: TargetArgs,
        /// Go on as it grows.
        #[arg(short, long)]
        follow: bool,
        /// The attempt before the current one.
        #[arg(short, long)]
        previous: bool,
        /// Only the last lines.
        #[arg(long)]
        tail: Option<i64>,
        /// Only what was written in the last seconds.
        #[arg(long, value_name = "SECONDS")]
        since: Option<i64>,
        /// Show when each line was written.
        #[arg(long)]
        timestamps: bool,
    },
    /// Runs a command in a container.
    Exec {
        #[command(flatten)]
        target: TargetArgs,
        /// Hand on standard input.
        #[arg(short = 'i', long)]
        stdin: bool,
        /// With a terminal.
        #[arg(short, long)]
        tty: bool,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Removes everything that the agent made on this machine. The agent must not be running.
    Reset {
        /// Do it: pods are killed, and with them what only this machine has.
        #[arg(long)]
        yes: bool,
        /// Keep the node's identity, images and desired state.
        #[arg(long)]
        keep_state: bool,
        #[command(flatten)]
        system: SystemSettings,
    },
    /// Replaces the desired objects by those of a JSON file, as a hub would. For development.
    #[command(hide = true)]
    PutDesired { file: PathBuf },
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(code) = agent_runtime::dispatch(&args) {
        return code;
    }
    agent_sys::limit_heaps(HEAPS);
    let cli = Cli::parse_from(args);
    let wanted = std::env::var("OUTBYE_LOG").ok().and_then(|it| it.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(MAX_BLOCKING)
        .thread_keep_alive(THREAD_IDLE)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .context("could not start the async runtime")
        .and_then(|runtime| {
            let result = runtime.block_on(run(cli));
            // A read of standard input cannot be cut off.
            runtime.shutdown_background();
            result
        });
    match result {
        Ok(code) => code,
        Err(err) => {
            let line = format!("outbye-agent: {err:#}\n");
            // Nobody is left to tell if this fails.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let socket = cli.dirs.run_dir.join("agent.sock");
    match cli.command {
        Command::Run { settings } => program::run(config(cli.dirs, settings)).await?,
        Command::Join { hub, token, node_name } => {
            let name = node_name.unwrap_or_else(program::hostname);
            join::run(&cli.dirs.state_dir, &hub, &token, &name).await?;
        }
        Command::Status { json } => cli::status(&socket, json).await?,
        Command::Ps { json } => cli::pods(&socket, json).await?,
        Command::Images { json } => cli::images(&socket, json).await?,
        Command::Logs { target, follow, previous, tail, since, timestamps } => {
            let kind = StreamKind::Logs {
                follow,
                previous,
                tail_lines: tail,
                since_seconds: since,
                since_time: None,
                timestamps,
                limit_bytes: None,
            };
            cli::logs(&socket, &target.target(), kind).await?;
        }
        Command::Exec { target, stdin, tty, command } => {
            let code = cli::exec(&socket, &target.target(), command, stdin, tty).await?;
            return Ok(ExitCode::from(code));
        }
        Command::Reset { yes, keep_state, system } => {
            anyhow::ensure!(yes, "this kills all pods of this machine; say --yes if that is meant");
            reset::run(&reset_config(cli.dirs, system), keep_state).await?;
        }
        Command::PutDesired { file } => cli::put_desired(&socket, &file).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn config(dirs: Dirs, settings: Settings) -> AgentConfig {
    let Settings {
        node_name,
        node_ip,
        plain_http_registries,
        system,
        pod_cidr,
        container_log_rate,
        accept_new_epoch,
    } = settings;
    let mut config = reset_config(dirs, system);
    config.node_name = node_name.unwrap_or_default();
    config.node_ip = node_ip;
    config.plain_http_registries = plain_http_registries;
    config.pod_cidr = pod_cidr;
    config.container_log_rate = container_log_rate;
    config.accept_new_epoch = accept_new_epoch;
    config
}

/// A configuration with nothing but places and names.
fn reset_config(dirs: Dirs, system: SystemSettings) -> AgentConfig {
    let SystemSettings { bridge, cluster_cidr, service_cidr, nft_table, cgroup_root } = system;
    AgentConfig {
        state_dir: dirs.state_dir,
        run_dir: dirs.run_dir,
        node_name: String::new(),
        node_ip: None,
        plain_http_registries: Vec::new(),
        bridge,
        cluster_cidr,
        service_cidr,
        pod_cidr: None,
        nft_table,
        cgroup_root,
        container_log_rate: None,
        accept_new_epoch: false,
    }
}
