//! The local door of the hub: a socket in the data directory (0600) for its own command line.
//!
//! One JSON request a connection, one JSON answer. Who may open the socket is root already.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hub_api::Clock;
use hub_apiserver::{Registry, places::ACCEPT_PAUSE};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, tokens};

const MAX_REQUEST: u64 = 64 << 10;
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AdminRequest {
    CreateToken { life_seconds: u64 },
    Status,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AdminAnswer {
    Token { token: String },
    Status { connected_nodes: Vec<String>, revision: u64 },
    Error { message: String },
}

/// The hub could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("could not open the hub's socket {path}; is the hub running with this --data-dir?")]
    Connect {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("could not talk to the hub")]
    Exchange(#[source] io::Error),
    #[error("could not understand the hub; is it of another version?")]
    Parse(#[source] serde_json::Error),
    #[error("the hub refused: {message}")]
    Refused { message: String },
}

/// What the admin socket needs of the hub.
pub(crate) struct Admin {
    pub(crate) registry: Registry,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) authority_hash: String,
}

pub(crate) fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("hub.sock")
}

pub(crate) fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let path = socket_path(data_dir);
    match std::fs::remove_file(&path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

pub(crate) async fn run(admin: Admin, listener: UnixListener, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(err) => {
                        tracing::warn!(error = %err, "Could not accept a connection on the admin socket");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                // One at a time: this is for people.
                let served = tokio::time::timeout(EXCHANGE_TIMEOUT, admin.serve(stream)).await;
                if !matches!(served, Ok(Ok(()))) {
                    tracing::warn!("Gave up a request on the admin socket");
                }
            }
            () = shutdown.cancelled() => return,
        }
    }
}

impl Admin {
    async fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        (&mut stream).take(MAX_REQUEST).read_to_end(&mut bytes).await?;
        let answer = match serde_json::from_slice(&bytes) {
            Ok(request) => self.answer(request).await,
            Err(err) => AdminAnswer::Error { message: err.to_string() },
        };
        stream.write_all(&serde_json::to_vec(&answer).unwrap_or_default()).await?;
        stream.shutdown().await
    }

    async fn answer(&self, request: AdminRequest) -> AdminAnswer {
        match request {
            AdminRequest::CreateToken { life_seconds } => {
                let life = Duration::from_secs(life_seconds);
                let now = self.clock.now();
                match tokens::create(&self.registry, &self.authority_hash, life, now).await {
                    Ok(token) => AdminAnswer::Token { token: token.to_string() },
                    Err(status) => AdminAnswer::Error { message: status.message },
                }
            }
            AdminRequest::Status => AdminAnswer::Status {
                connected_nodes: self.fleet.connected(),
                revision: self.registry.storage().revision().get(),
            },
        }
    }
}

/// Asks the running hub.
///
/// # Errors
/// There is none, or it refuses.
pub async fn ask(data_dir: &Path, request: &AdminRequest) -> Result<AdminAnswer, AdminError> {
    let path = socket_path(data_dir);
    let mut stream =
        UnixStream::connect(&path).await.map_err(|err| AdminError::Connect { path, err })?;
    let bytes = serde_json::to_vec(request).map_err(AdminError::Parse)?;
    stream.write_all(&bytes).await.map_err(AdminError::Exchange)?;
    stream.shutdown().await.map_err(AdminError::Exchange)?;
    let mut answer = Vec::new();
    stream.take(MAX_REQUEST).read_to_end(&mut answer).await.map_err(AdminError::Exchange)?;
    match serde_json::from_slice(&answer).map_err(AdminError::Parse)? {
        AdminAnswer::Error { message } => Err(AdminError::Refused { message }),
        answer @ (AdminAnswer::Token { .. } | AdminAnswer::Status { .. }) => Ok(answer),
    }
}
