//! Finding a keeper, or starting one that outlives us.

use std::io::{self, Read};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::error::ConnectError;
use crate::types::RuntimeConfig;

/// Attempts to reach a keeper that another process is starting at the same time.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Connects, and starts a keeper if there is none.
pub(super) async fn open(config: &RuntimeConfig) -> Result<UnixStream, ConnectError> {
    prepare(&config.run_dir)?;
    prepare(&config.state_dir)?;
    let socket = config.run_dir.join("keeper.sock");
    let mut reason = String::new();
    for attempt in 0..ATTEMPTS {
        match UnixStream::connect(&socket).await {
            Ok(stream) => return Ok(stream),
            Err(err) if is_absent(&err) => {}
            Err(err) => return Err(ConnectError::Socket { path: socket, err }),
        }
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let config = config.clone();
        let started = tokio::task::spawn_blocking(move || start(&config)).await;
        let started = started.unwrap_or_else(|err| Err(io::Error::other(err)));
        match started {
            Ok(said) if said.starts_with("ready") => {}
            // Perhaps another process is just starting one: then it will answer soon.
            Ok(said) => reason = said.trim().to_owned(),
            Err(err) => return Err(ConnectError::Spawn { err }),
        }
    }
    Err(ConnectError::GaveUp { reason })
}

fn is_absent(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn prepare(dir: &Path) -> Result<(), ConnectError> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(|err| ConnectError::Directory { path: dir.to_owned(), err })
}

/// Runs this program again as a keeper. Returns what it says when it is up, or gives up.
#[expect(clippy::disallowed_methods, reason = "the keeper is this program, run again")]
fn start(config: &RuntimeConfig) -> io::Result<String> {
    let mut child = std::process::Command::new("/proc/self/exe")
        .arg("keeper")
        .args([&config.state_dir, &config.run_dir])
        .arg(&config.cgroup_root)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // Ends when the keeper lets go of its standard output, which it does once it is up.
        stdout.read_to_string(&mut said)?;
    }
    // The process that was started here has detached the keeper from itself, and ended.
    child.wait()?;
    Ok(said)
}
