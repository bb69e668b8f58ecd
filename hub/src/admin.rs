//! The local door of the hub: a socket in the data directory (0600) for its own command line.
//!
//! One JSON request a connection, one JSON answer; the answer to a backup is the backup itself. Who may open the socket
//! is root already.

use std::{
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hub_api::Clock;
use hub_apiserver::{Registry, places::ACCEPT_PAUSE};
use hub_storage::Storage;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    fleet::{Fleet, tokens},
    secrets::SharedSecrets,
    serve::AUTHORITY_DIR,
};

const MAX_REQUEST: u64 = 64 << 10;
/// For a request, and for its answer or the next piece of a backup.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// What a backup may hold beside objects: a file of the authority.
const MAX_FILE: u64 = 1 << 20;
/// Requests at once.
const MAX_REQUESTS: usize = 8;

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AdminRequest {
    CreateToken { life_seconds: u64 },
    Status,
    Backup,
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
    #[error("could not write the backup to {path}")]
    Write {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
}

/// What the admin socket needs of the hub.
pub(crate) struct Admin {
    pub(crate) registry: Registry,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) authority_hash: String,
    pub(crate) store: Arc<dyn Storage>,
    /// What the hubs on the store share, if it is not this hub's alone.
    pub(crate) shared: Option<SharedSecrets>,
    pub(crate) data_dir: PathBuf,
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
    let admin = Arc::new(admin);
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = requests.join_next() => {}
            accepted = listener.accept(), if requests.len() < MAX_REQUESTS => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(err) => {
                        tracing::warn!(error = %err, "Could not accept a connection on the admin socket");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let admin = admin.clone();
                requests.spawn(async move {
                    if let Err(err) = admin.serve(stream).await {
                        tracing::warn!(error = %err, "Gave up a request on the admin socket");
                    }
                });
            }
            () = shutdown.cancelled() => return,
        }
    }
}

impl Admin {
    async fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        within((&mut stream).take(MAX_REQUEST).read_to_end(&mut bytes)).await?;
        let answer = match serde_json::from_slice(&bytes) {
            Ok(AdminRequest::Backup) => match self.ready_to_back_up().await {
                Ok(files) => return self.send_backup(&mut stream, &files).await,
                Err(message) => AdminAnswer::Error { message },
            },
            Ok(request) => self.answer(request).await,
            Err(err) => AdminAnswer::Error { message: err.to_string() },
        };
        within(stream.write_all(&serde_json::to_vec(&answer).unwrap_or_default())).await?;
        stream.shutdown().await
    }

    /// The files of a backup, once this hub has everything that any hub on the store has acknowledged.
    async fn ready_to_back_up(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        self.store.catch_up().await.map_err(|err| {
            format!("this hub does not have everything that is stored: {err}; back up another, or try again")
        })?;
        self.files().map_err(|err| format!("could not read the authority: {err}"))
    }

    async fn send_backup(
        &self,
        stream: &mut UnixStream,
        files: &[(String, Vec<u8>)],
    ) -> io::Result<()> {
        let mut backup = self.store.backup(files);
        while let Some(piece) = backup.next_piece() {
            within(stream.write_all(&piece)).await?;
        }
        stream.shutdown().await
    }

    /// The files without which a hub is not this hub: its authority's.
    fn files(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        if let Some(shared) = &self.shared {
            return shared.files().map_err(|err| io::Error::other(format!("{err:#}")));
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.data_dir.join(AUTHORITY_DIR))? {
            let entry = entry?;
            let name = format!("{AUTHORITY_DIR}/{}", entry.file_name().to_string_lossy());
            let metadata = entry.metadata()?;
            if metadata.is_file() && metadata.len() <= MAX_FILE {
                files.push((name, std::fs::read(entry.path())?));
            }
        }
        Ok(files)
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
            AdminRequest::Backup => {
                AdminAnswer::Error { message: "a backup is not answered in JSON".to_owned() }
            }
        }
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(EXCHANGE_TIMEOUT, work).await.map_err(io::Error::from)?
}

async fn send(data_dir: &Path, request: &AdminRequest) -> Result<UnixStream, AdminError> {
    let path = socket_path(data_dir);
    let mut stream =
        UnixStream::connect(&path).await.map_err(|err| AdminError::Connect { path, err })?;
    let bytes = serde_json::to_vec(request).map_err(AdminError::Parse)?;
    stream.write_all(&bytes).await.map_err(AdminError::Exchange)?;
    stream.shutdown().await.map_err(AdminError::Exchange)?;
    Ok(stream)
}

/// Has the running hub write a backup into a new file. What was written of a backup that failed is removed.
///
/// # Errors
/// There is no hub, the file is there already or cannot be written, or the backup is not whole.
pub async fn backup(data_dir: &Path, path: &Path) -> Result<u64, AdminError> {
    let failed = |err| AdminError::Write { path: path.to_owned(), err };
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(failed)?;
    let written = match send(data_dir, &AdminRequest::Backup).await {
        Ok(stream) => fill(stream, file).await.map_err(failed),
        Err(err) => Err(err),
    };
    if written.is_err() {
        // The error that is told is the one that matters.
        let _ = std::fs::remove_file(path);
    }
    written
}

async fn fill(mut stream: UnixStream, file: std::fs::File) -> io::Result<u64> {
    let mut file = tokio::fs::File::from_std(file);
    let size = tokio::io::copy(&mut stream, &mut file).await?;
    file.sync_all().await?;
    let mut file = file.into_std().await;
    file.seek(SeekFrom::Start(0))?;
    // An answer that was cut off, or that says why there is none, is no backup.
    if let Err(err) = hub_storage::backup::verify(&mut BufReader::new(&mut file)) {
        file.seek(SeekFrom::Start(0))?;
        let mut start = String::new();
        let readable = (&mut file).take(MAX_REQUEST).read_to_string(&mut start).is_ok();
        let told = serde_json::from_str(&start).ok().filter(|_| readable);
        return Err(io::Error::other(match told {
            Some(AdminAnswer::Error { message }) => message,
            _ => crate::chain(&err),
        }));
    }
    Ok(size)
}

/// Asks the running hub.
///
/// # Errors
/// There is none, or it refuses.
pub async fn ask(data_dir: &Path, request: &AdminRequest) -> Result<AdminAnswer, AdminError> {
    let stream = send(data_dir, request).await?;
    let mut answer = Vec::new();
    stream.take(MAX_REQUEST).read_to_end(&mut answer).await.map_err(AdminError::Exchange)?;
    match serde_json::from_slice(&answer).map_err(AdminError::Parse)? {
        AdminAnswer::Error { message } => Err(AdminError::Refused { message }),
        answer @ (AdminAnswer::Token { .. } | AdminAnswer::Status { .. }) => Ok(answer),
    }
}
