//! The file that events go to, one a line. A full file moves aside; the oldest is dropped. What cannot be written waits:
//! events are lost only when so many wait that requests had to wait for them too long, and that is told.

use std::collections::VecDeque;
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
/// After a failure the disk is tried again so much later.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

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
    /// A full file could not be moved aside the last time.
    is_stuck: bool,
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
        let writer =
            AuditWriter { path: path.to_owned(), rotation, file, size, lines, is_stuck: false };
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
    /// Writes until `shutdown` fires and nothing waits any more, or nobody can write any more. What cannot be written by
    /// then is lost.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                waiting = self.receive(&shutdown).await.into();
                if waiting.is_empty() {
                    return;
                }
            }
            let written = tokio::task::spawn_blocking(move || {
                let result = self.write(&mut waiting);
                (self, waiting, result)
            })
            .await;
            let (writer, left, result) = match written {
                Ok(written) => written,
                Err(err) => return tracing::error!(error = %err, "The audit log ended"),
            };
            (self, waiting) = (writer, left);
            if let Err(err) = result {
                let n_waiting = waiting.len();
                tracing::error!(error = %err, n_waiting, "Could not write the audit log");
                if shutdown.is_cancelled() || self.lines.is_closed() {
                    return tracing::error!(n_lost = n_waiting, "Lost the end of the audit log");
                }
                // Cut short, it is tried a last time.
                let _cut = shutdown.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await;
            }
        }
    }

    /// What is to be written next; nothing if there will be nothing more.
    async fn receive(&mut self, shutdown: &CancellationToken) -> Vec<String> {
        let mut batch = Vec::new();
        let received = self.lines.recv_many(&mut batch, QUEUE);
        if shutdown.run_until_cancelled(received).await.is_none() {
            // What was served before the end is told all the same.
            self.lines.close();
            while let Ok(line) = self.lines.try_recv() {
                batch.push(line);
            }
        }
        batch
    }

    /// Writes these lines and takes out those that are written.
    fn write(&mut self, lines: &mut VecDeque<String>) -> io::Result<()> {
        let mut may_rotate = true;
        while let Some(line) = lines.front() {
            let size = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
            let is_full = self.size > 0 && self.size.saturating_add(size) > self.rotation.max_size;
            if is_full && may_rotate {
                let rotated = self.rotate();
                // A file that grows too large is better than events that nobody can read. The next lines try again.
                may_rotate = rotated.is_ok();
                if let Err(err) = &rotated
                    && !self.is_stuck
                {
                    tracing::error!(error = %err, "Could not move the full audit log aside");
                }
                self.is_stuck = rotated.is_err();
            }
            let text = [line.as_bytes(), b"\n"].concat();
            if let Err(err) = self.file.write_all(&text) {
                // No half line stays, if that can be helped.
                let _cut = self.file.set_len(self.size);
                return Err(err);
            }
            self.size = self.size.saturating_add(size);
            lines.pop_front();
        }
        Ok(())
    }

    /// `audit.log` becomes `audit.log.1`, that becomes `audit.log.2`, and so on. Where it fails, what was written before
    /// stays, and the next attempt begins where this one ended.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |n: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        // Somebody else, or an attempt before, may have moved it.
        if self.path.try_exists()? {
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
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Log {
        dir: tempfile::TempDir,
        file: AuditFile,
        writer: AuditWriter,
    }

    impl Log {
        fn new(max_files: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let rotation = Rotation { max_size: 10, max_files };
            let (file, writer) = AuditFile::open(&dir.path().join("audit.log"), rotation).unwrap();
            Self { dir, file, writer }
        }

        /// What could not be written.
        fn write(&mut self, lines: &[&str]) -> VecDeque<String> {
            let mut lines = lines.iter().map(|it| (*it).to_owned()).collect();
            let result = self.writer.write(&mut lines);
            assert_eq!(result.is_ok(), lines.is_empty());
            lines
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap()
        }
    }

    #[test]
    fn full_files_move_aside_and_the_oldest_go() {
        let mut log = Log::new(2);
        for line in ["aaaa", "bbbb", "cccc", "dddd"] {
            log.write(&[line]);
        }
        // In the middle of a batch as well.
        log.write(&["eeee", "ffff", "gggg"]);
        assert_eq!(log.read("audit.log"), "gggg\n");
        assert_eq!(log.read("audit.log.1"), "eeee\nffff\n");
        assert_eq!(log.read("audit.log.2"), "cccc\ndddd\n");
        assert!(!log.path("audit.log.3").exists());
    }

    #[test]
    fn a_file_that_cannot_move_aside_is_written_on() {
        let mut log = Log::new(1);
        log.write(&["aaaa"]);
        // A file cannot take the place of a directory.
        fs::create_dir(log.path("audit.log.1")).unwrap();
        assert!(log.write(&["bbbb", "cccc", "dddd"]).is_empty());
        assert_eq!(log.read("audit.log"), "aaaa\nbbbb\ncccc\ndddd\n");
        fs::remove_dir(log.path("audit.log.1")).unwrap();
        log.write(&["eeee"]);
        assert_eq!(log.read("audit.log"), "eeee\n");
        assert_eq!(log.read("audit.log.1"), "aaaa\nbbbb\ncccc\ndddd\n");
        // Moved by somebody else: what is kept stays where it is.
        fs::rename(log.path("audit.log"), log.path("taken")).unwrap();
        log.write(&["ffff", "gggg"]);
        assert_eq!(
            (log.read("taken").as_str(), log.read("audit.log").as_str()),
            ("eeee\nffff\n", "gggg\n")
        );
        assert_eq!(log.read("audit.log.1"), "aaaa\nbbbb\ncccc\ndddd\n");
    }

    #[test]
    fn what_cannot_be_written_waits() {
        let mut log = Log::new(1);
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let good = std::mem::replace(&mut log.writer.file, full);
        let mut left = log.write(&["aaaa", "bbbb", "cccc"]);
        assert_eq!(left.len(), 3);
        log.writer.file = good;
        left.push_back("dddd".to_owned());
        log.writer.write(&mut left).unwrap();
        assert_eq!(log.read("audit.log.1"), "aaaa\nbbbb\n");
        assert_eq!(log.read("audit.log"), "cccc\ndddd\n");
    }

    #[tokio::test]
    async fn it_ends_when_nobody_is_left_to_write_also_on_a_full_disk() {
        let log = Log::new(1);
        log.file.write("aaaa".to_owned()).await;
        log.file.write("bbbb".to_owned()).await;
        drop(log.file);
        log.writer.run(CancellationToken::new()).await;
        assert_eq!(fs::read_to_string(log.dir.path().join("audit.log")).unwrap(), "aaaa\nbbbb\n");

        let mut log = Log::new(1);
        log.writer.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        log.file.write("aaaa".to_owned()).await;
        drop(log.file);
        let ended = log.writer.run(CancellationToken::new());
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
    }
}
