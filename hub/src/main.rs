//! `outbye-hub`: the hub's command line.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand};
use hub::{
    admin::{self, AdminAnswer, AdminRequest},
    recovery,
    serve::{self, Sealing, ServeConfig},
    store::StoreConfig,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The hub of an Outbye fleet: the Kubernetes API, controllers, scheduler and node sessions
#[derive(Parser)]
#[command(name = "outbye-hub", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub
    Serve(Box<ServeConfig>),
    /// Manage join tokens of the running hub
    #[command(subcommand)]
    Token(Token),
    /// Print the administrator's kubeconfig
    Kubeconfig {
        /// Directory of the hub's data
        #[arg(long, default_value = "/var/lib/outbye-hub")]
        data_dir: PathBuf,
    },
    /// Write everything that the running hub knows, its authority included, into a new file
    Backup {
        /// The file
        file: PathBuf,
        /// Directory of the hub's data
        #[arg(long, default_value = "/var/lib/outbye-hub")]
        data_dir: PathBuf,
    },
    /// Make the data of a hub, or the store that hubs share, of a backup. Nodes follow it when their agents are started
    /// with --accept-new-epoch
    Restore {
        /// The file
        file: PathBuf,
        /// Directory of the hub's data; it must not be there yet, or be empty. Not used with an etcd
        #[arg(long, default_value = "/var/lib/outbye-hub")]
        data_dir: PathBuf,
        #[command(flatten)]
        store: Box<StoreConfig>,
        #[command(flatten)]
        sealing: Sealing,
    },
    /// Look after the store
    #[command(subcommand)]
    Storage(Storage),
    /// Show how the running hub is
    Status {
        /// Directory of the hub's data
        #[arg(long, default_value = "/var/lib/outbye-hub")]
        data_dir: PathBuf,
    },
}

#[derive(Subcommand)]
enum Storage {
    /// Print a line with a new encryption key, for the file of --encryption-keys
    NewKey {
        /// Name of the key
        name: String,
    },
    /// Begin a new history in an etcd that was restored from a snapshot, while no hub runs. Nodes follow the hubs when
    /// their agents are started with --accept-new-epoch
    NewEpoch {
        #[command(flatten)]
        store: StoreConfig,
    },
    /// Copy the store of a hub that does not run into a fresh file, and encrypt what is to be encrypted: nothing is left
    /// of what objects were before
    Rewrite {
        /// Directory of the hub's data
        #[arg(long, default_value = "/var/lib/outbye-hub")]
        data_dir: PathBuf,
        #[command(flatten)]
        sealing: Sealing,
    },
}

#[derive(Subcommand)]
enum Token {
    /// Make a token with which one machine can join
    Create {
        /// Directory of the hub's data
        #[arg(long, default_value = "/var/lib/outbye-hub")]
        data_dir: PathBuf,
        /// Life of the token, in seconds
        #[arg(long, default_value_t = 86_400)]
        life: u64,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            tracing::error!(error = format!("{err:#}"), "Failed");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Serve(config) => serve(*config).await,
            Command::Token(Token::Create { data_dir, life }) => {
                let request = AdminRequest::CreateToken { life_seconds: life };
                match admin::ask(&data_dir, &request).await? {
                    AdminAnswer::Token { token } => print(&token),
                    other @ (AdminAnswer::Status { .. } | AdminAnswer::Error { .. }) => {
                        anyhow::bail!("the hub answered {other:?}")
                    }
                }
            }
            Command::Kubeconfig { data_dir } => {
                let path = data_dir.join("admin.kubeconfig");
                let text = std::fs::read_to_string(&path).with_context(|| {
                    format!("could not read {}; has the hub run here?", path.display())
                })?;
                print(&text)
            }
            Command::Backup { file, data_dir } => {
                let size = admin::backup(&data_dir, &file).await?;
                print(&format!("wrote {size} bytes to {}", file.display()))
            }
            Command::Restore { file, data_dir, store, sealing } => {
                let restored = if store.is_shared() {
                    recovery::restore_shared(&file, &store, &sealing).await?
                } else {
                    recovery::restore(&file, &data_dir)?
                };
                print(&format!(
                    "restored {} objects at revision {}, epoch {}",
                    restored.n_objects, restored.revision, restored.epoch
                ))
            }
            Command::Storage(Storage::NewKey { name }) => {
                let line = hub_storage::Sealer::fresh_line(&name);
                print(&line.context("a key's name has letters, digits, `-`, `_` and `.` only")?)
            }
            Command::Storage(Storage::NewEpoch { store }) => print(&store.new_epoch().await?),
            Command::Storage(Storage::Rewrite { data_dir, sealing }) => {
                print(&recovery::rewrite(&data_dir, &sealing)?)
            }
            Command::Status { data_dir } => {
                match admin::ask(&data_dir, &AdminRequest::Status).await? {
                    AdminAnswer::Status { connected_nodes, revision } => print(&format!(
                        "revision         {revision}\nconnected nodes  {}",
                        connected_nodes.join(" ")
                    )),
                    other @ (AdminAnswer::Token { .. } | AdminAnswer::Error { .. }) => {
                        anyhow::bail!("the hub answered {other:?}")
                    }
                }
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("could not watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not watch for SIGINT")?;
    let serving = serve::run(config, shutdown.clone());
    tokio::pin!(serving);
    tokio::select! {
        result = &mut serving => return result,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
    serving.await
}

#[expect(clippy::print_stdout, reason = "this is the command line")]
fn print(text: &str) -> anyhow::Result<()> {
    println!("{text}");
    Ok(())
}
