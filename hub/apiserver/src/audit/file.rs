//! The file that events go to, one a line. A full file moves aside; the oldest is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that wait for the disk; when they are this many, requests wait.
const QUEUE: usize = 4096;
/// A request waits so long for the disk; then its event is lost, and that is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// When a file is full, and how many full ones are kept.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// In bytes.
    pub max_size: u64,
    /// Full files beside the one that is written.
    pub max_files: usize,
}

/// The log could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not open the audit log {path}")]
pub struct AuditFileError {
    path: PathBuf,
    #[source]
    err: io::Error,
}

/// The way to the file. What goes in is written by [`AuditWriter::run`].
#[derive(Debug)]
pub struct AuditFile {
    lines: mpsc::Sender<String>,
}

/// Writes what comes.
#[derive(Debug)]
pub struct AuditWriter {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
    lines: mpsc::Receiver<String>,
}

impl AuditFile {
    /// Opens or makes the file, which only its owner may read.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, rotation: Rotation) -> Result<(Self, AuditWriter), AuditFileError> {
        let failed = |err| AuditFileError { path: path.to_owned(), err };
        let file = append(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let (sender, lines) = mpsc::channel(QUEUE);
        let writer = AuditWriter { path: path.to_owned(), rotation, file, size, lines };
        Ok((Self { lines: sender }, writer))
    }

    pub(super) async fn write(&self, line: String) {
        if self.lines.send_timeout(line, PATIENCE).await.is_err() {
            tracing::error!("Lost an event of the audit log");
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl AuditWriter {
    /// Writes until `shutdown` fires and nothing waits any more, or nobody can write any more.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let mut batch = Vec::new();
            let received = self.lines.recv_many(&mut batch, QUEUE);
            match shutdown.run_until_cancelled(received).await {
                Some(0) => return,
                Some(_) => {}
                // What was served before the end is told all the same.
                None => {
                    self.lines.close();
                    while let Ok(line) = self.lines.try_recv() {
                        batch.push(line);
                    }
                    if batch.is_empty() {
                        return;
                    }
                }
            }
            let written = tokio::task::spawn_blocking(move || {
                let result = self.write(&batch);
                (self, result)
            })
            .await;
            match written {
                Ok((writer, result)) => {
                    self = writer;
                    if let Err(err) = result {
                        tracing::error!(error = %err, "Could not write the audit log");
                    }
                }
                Err(err) => return tracing::error!(error = %err, "The audit log ended"),
            }
        }
    }

    fn write(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            let size = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
            if self.size > 0 && self.size.saturating_add(size) > self.rotation.max_size {
                self.rotate()?;
            }
            let mut text = line.clone().into_bytes();
            text.push(b'\n');
            self.file.write_all(&text)?;
            self.size = self.size.saturating_add(size);
        }
        Ok(())
    }

    /// `audit.log` becomes `audit.log.1`, that becomes `audit.log.2`, and so on.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |n: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..self.rotation.max_files).rev() {
            match fs::rename(numbered(n), numbered(n + 1)) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                Ok(()) | Err(_) => {}
            }
        }
        if self.rotation.max_files > 0 {
            fs::rename(&self.path, numbered(1))?;
        } else {
            fs::remove_file(&self.path)?;
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_move_aside_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let rotation = Rotation { max_size: 10, max_files: 2 };
        let (_file, mut writer) = AuditFile::open(&path, rotation).unwrap();
        for line in ["aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff", "gggg"] {
            writer.write(&[line.to_owned()]).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("audit.log"), "gggg\n");
        assert_eq!(read("audit.log.1"), "eeee\nffff\n");
        assert_eq!(read("audit.log.2"), "cccc\ndddd\n");
        assert!(!dir.path().join("audit.log.3").exists());
    }
}
