//! Reads container logs: from any place, across rotations, and on while they grow.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use agent_core::log;
use jiff::Timestamp;

/// Rotated files that may exist beside the current one.
const MAX_ROTATED: u32 = 16;
/// Block in which a file is searched backwards for line ends.
const BLOCK: u64 = 64 << 10;
/// Longest line that is read in one piece; the runtime writes far shorter ones.
const MAX_LINE: u64 = 256 << 10;

/// What a reader wants.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
}

/// Files of one log, the oldest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let rotated = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    let mut found: Vec<PathBuf> =
        (1..=MAX_ROTATED).rev().map(rotated).filter(|it| it.exists()).collect();
    if path.exists() {
        found.push(path.to_owned());
    }
    found
}

/// Removes a log with all its rotated files.
///
/// # Errors
/// The file that could not be removed.
pub fn remove(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    for file in files(path) {
        match fs::remove_file(&file) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err((file, err)),
            _ => {}
        }
    }
    Ok(())
}

/// Reads one log, file by file. A file keeps its identity when it is rotated.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    query: LogQuery,
    current: Option<Open>,
    /// The last piece did not end its line.
    within_line: bool,
}

#[derive(Debug)]
struct Open {
    inode: u64,
    reader: BufReader<File>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
}

impl Open {
    fn at(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let inode = file.metadata()?.ino();
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { inode, reader: BufReader::new(file), partial: Vec::new() })
    }
}

impl LogReader {
    /// Opens a log where the query says. A log that does not exist yet is empty.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn open(path: &Path, query: LogQuery) -> io::Result<Self> {
        let mut reader = Self { path: path.to_owned(), query, current: None, within_line: false };
        let files = files(path);
        let (file, offset) = match reader.query.tail {
            Some(lines) => tail_start(&files, lines)?,
            None => (0, 0),
        };
        if let Some(file) = files.get(file) {
            reader.current = Some(Open::at(file, offset)?);
        }
        Ok(reader)
    }

    /// Appends what is there, up to about `limit` bytes. False when there is nothing more now.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(&mut self, limit: usize, out: &mut Vec<u8>) -> io::Result<bool> {
        let until = out.len().saturating_add(limit);
        while out.len() < until {
            if let Some(line) = self.next_line()? {
                self.push_line(&line, out);
                continue;
            }
            let Some(next) = self.newer_file() else { return Ok(false) };
            // Nothing is written to the file before the newest any more: this is really its end.
            if let Some(line) = self.next_line()? {
                self.push_line(&line, out);
            } else if !self.move_on(&next)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(open) = &mut self.current else { return Ok(None) };
        let mut piece = Vec::new();
        (&mut open.reader).take(MAX_LINE).read_until(b'\n', &mut piece)?;
        open.partial.append(&mut piece);
        if open.partial.last() == Some(&b'\n') {
            open.partial.pop();
            return Ok(Some(std::mem::take(&mut open.partial)));
        }
        Ok(None)
    }

    /// The file that was begun after the current one, if there is one.
    fn newer_file(&self) -> Option<PathBuf> {
        let files = files(&self.path);
        let inode = self.current.as_ref().map(|it| it.inode);
        // A file may be rotated away between list and look.
        let is_current = |file: &PathBuf| fs::metadata(file).ok().map(|it| it.ino()) == inode;
        match files.iter().position(is_current).filter(|_| inode.is_some()) {
            Some(at) => files.get(at + 1).cloned(),
            // Rotated out of existence, or never there: the oldest that is left.
            None => files.first().cloned(),
        }
    }

    fn move_on(&mut self, next: &Path) -> io::Result<bool> {
        match Open::at(next, 0) {
            Ok(open) => {
                self.current = Some(open);
                Ok(true)
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err),
        }
    }

    fn push_line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(line) = log::parse(line) else { return };
        if let Some(since) = self.query.since
            && line.timestamp().is_some_and(|at| at < since)
        {
            return;
        }
        if self.query.timestamps && !self.within_line {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.within_line = line.partial;
    }
}

/// File and offset from which on there are `lines` lines.
fn tail_start(files: &[PathBuf], lines: usize) -> io::Result<(usize, u64)> {
    let mut missing = lines;
    for (at, path) in files.iter().enumerate().rev() {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        if missing == 0 {
            return Ok((at, size));
        }
        let (found, offset) = count_back(&mut file, size, missing)?;
        if found == missing {
            return Ok((at, offset));
        }
        missing -= found;
    }
    Ok((0, 0))
}

/// Looks for the beginning of the last `lines` lines; says how many there are, and where.
fn count_back(file: &mut File, size: u64, lines: usize) -> io::Result<(usize, u64)> {
    // Beginnings of lines, the latest first; bounded by what is asked for.
    let mut starts: VecDeque<u64> = VecDeque::new();
    let mut end = size;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - begin).unwrap_or(0)];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let start = begin + u64::try_from(at).unwrap_or(0) + 1;
            if start < size {
                starts.push_back(start);
                if starts.len() == lines {
                    return Ok((lines, start));
                }
            }
        }
        end = begin;
    }
    let n_lines = starts.len() + usize::from(size > 0);
    Ok((n_lines.min(lines), 0))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn write(path: &Path, lines: std::ops::Range<u32>) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        for n in lines {
            writeln!(file, "2026-11-20T08:00:{:02}Z stdout F line {n}", n % 60).unwrap();
        }
    }

    fn rest(reader: &mut LogReader) -> String {
        let mut out = Vec::new();
        while reader.read(1000, &mut out).unwrap() {}
        String::from_utf8(out).unwrap()
    }

    fn numbers(text: &str) -> Vec<u32> {
        text.lines().map(|it| it.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn tails_reach_back_across_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        write(&dir.path().join("0.log.2"), 0..10);
        write(&dir.path().join("0.log.1"), 10..20);
        write(&path, 20..30);
        for (tail, want) in [
            (None, 0..30),
            (Some(0), 0..0),
            (Some(3), 27..30),
            (Some(10), 20..30),
            (Some(15), 15..30),
            (Some(99), 0..30),
        ] {
            let query = LogQuery { tail, ..LogQuery::default() };
            let mut reader = LogReader::open(&path, query).unwrap();
            assert_eq!(numbers(&rest(&mut reader)), want.collect::<Vec<_>>(), "{tail:?}");
        }
    }

    #[test]
    fn a_reader_follows_across_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut reader = LogReader::open(&path, LogQuery::default()).unwrap();
        assert_eq!(rest(&mut reader), "");
        write(&path, 0..2);
        assert_eq!(numbers(&rest(&mut reader)), [0, 1]);
        write(&path, 2..3);
        fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        write(&path, 3..5);
        assert_eq!(numbers(&rest(&mut reader)), [2, 3, 4]);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"2026-11-20T08:00:00Z stdout F line").unwrap();
        assert_eq!(rest(&mut reader), "");
        file.write_all(b" 5\n").unwrap();
        assert_eq!(numbers(&rest(&mut reader)), [5]);
    }

    #[test]
    fn long_lines_come_together_and_time_is_shown_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let text = "2026-11-20T08:00:00Z stdout P ab\n2026-11-20T08:00:01Z stdout F cd\n";
        File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        let query = LogQuery { timestamps: true, ..LogQuery::default() };
        let mut reader = LogReader::open(&path, query).unwrap();
        assert_eq!(rest(&mut reader), "2026-11-20T08:00:00Z abcd\n");
        let since = Some("2026-11-20T08:00:01Z".parse().unwrap());
        let query = LogQuery { since, ..LogQuery::default() };
        assert_eq!(rest(&mut LogReader::open(&path, query).unwrap()), "cd\n");
    }
}
