//! Two files to which batches are appended, in turns: while one is written to, what the other holds goes to the
//! database.
//!
//! ```text
//! file:   header page | record | record | ..         everything begins at a multiple of 4 KiB
//! header: magic "OBWL" | format u32 | salt u128 | checksum u32 (of all before)
//! record: magic "OBWR" | checksum u32 (of the salt and all after) | length u32 | number u64 | changes
//! change: length of the key u32 | length of the value u32, all ones for a deletion | key | value
//! ```
//! Numbers are little endian. Files are written over and never shortened, so that a commit allocates nothing. What an
//! earlier use of the file left behind has an older number or another salt; the salt, which nobody outside knows, also
//! keeps values from looking like records.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::Batch;
use crate::replace::sync_dir;

const FILE_MAGIC: &[u8; 4] = b"OBWL";
const RECORD_MAGIC: &[u8; 4] = b"OBWR";
const FORMAT: u32 = 1;
/// A page: what is made durable together, and never together with what was there before.
const ALIGN: usize = 4096;
const RECORD_HEAD: usize = 20;
const DELETED: u32 = u32::MAX;
/// The file grows by this much, in real zeros: a later commit then changes nothing but content.
const GROWTH: usize = 1 << 20;

type Salt = [u8; 16];

/// The log that is written to.
#[derive(Debug)]
pub(super) struct Log {
    files: [File; 2],
    lengths: [u64; 2],
    current: usize,
    at: u64,
    salt: Salt,
    buffer: Vec<u8>,
    /// The last append failed, and may lie in the file all the same.
    torn: bool,
}

impl Log {
    /// Begins an empty log. What was in the files is forgotten.
    pub(super) fn begin(dir: &Path) -> io::Result<Self> {
        let mut salt = Salt::default();
        File::open("/dev/urandom")?.read_exact(&mut salt)?;
        let open = |index| -> io::Result<(File, u64)> {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(path(dir, index))?;
            file.write_all_at(&header(salt), 0)?;
            file.sync_all()?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let ((first, first_length), (second, second_length)) = (open(0)?, open(1)?);
        sync_dir(dir)?;
        Ok(Self {
            files: [first, second],
            lengths: [first_length, second_length],
            current: 0,
            at: wide(ALIGN),
            salt,
            buffer: Vec::new(),
            torn: false,
        })
    }

    /// Appends a batch. Durable when it returns; after an error its place is free again.
    pub(super) fn append(&mut self, number: u64, batch: &Batch) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        encode(self.salt, number, batch, &mut buffer);
        let written = self.write(&buffer);
        self.buffer = buffer;
        self.torn = written.is_err();
        written
    }

    /// Whether the file that is written to may hold a batch that was not acknowledged. The next one, which has its
    /// number, must take its place: in the other file it would be one of two.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// What a disk that is full leaves behind when it says so too late: a batch that is there and is refused.
    #[cfg(test)]
    pub(super) fn tear(&mut self, number: u64, batch: &Batch) {
        self.append(number, batch).unwrap();
        let mut record = Vec::new();
        encode(self.salt, number, batch, &mut record);
        self.at -= wide(record.len());
        self.torn = true;
    }

    /// Which of the files is written to.
    #[cfg(test)]
    pub(super) fn current(&self) -> usize {
        self.current
    }

    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let (file, length) = (&self.files[self.current], &mut self.lengths[self.current]);
        file.write_all_at(record, self.at)?;
        let end = self.at + wide(record.len());
        if end > *length {
            // Without it the next commit allocates; that is all.
            let grown = file.write_all_at(&vec![0; GROWTH], end);
            *length = end + if grown.is_ok() { wide(GROWTH) } else { 0 };
        }
        file.sync_data()?;
        self.at = end;
        Ok(())
    }

    /// Bytes in the file that is written to.
    pub(super) fn size(&self) -> u64 {
        self.at
    }

    /// Goes on in the other file, whose content is not needed any more.
    pub(super) fn switch(&mut self) {
        self.current = 1 - self.current;
        self.at = wide(ALIGN);
    }
}

/// All batches that can be read, by their numbers.
pub(super) fn read(dir: &Path) -> io::Result<BTreeMap<u64, Batch>> {
    let mut files = Vec::new();
    for index in [0, 1] {
        match fs::read(path(dir, index)) {
            Ok(content) => files.push(content),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    let mut found = BTreeMap::new();
    // One good header is enough for both.
    let Some(salt) = files.iter().find_map(|it| salt_of(it)) else { return Ok(found) };
    for content in &files {
        let mut at = ALIGN;
        while let Some(rest) = content.get(at..) {
            let record = decode(salt, rest);
            at += record.as_ref().map_or(ALIGN, |(_, _, size)| size.next_multiple_of(ALIGN));
            found.extend(record.map(|(number, batch, _)| (number, batch)));
        }
    }
    Ok(found)
}

/// Removes the files, where there are any.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    for index in [0, 1] {
        match fs::remove_file(path(dir, index)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("log-{index}"))
}

pub(super) fn header(salt: Salt) -> Vec<u8> {
    let mut page = Vec::with_capacity(ALIGN);
    page.extend_from_slice(FILE_MAGIC);
    page.extend_from_slice(&FORMAT.to_le_bytes());
    page.extend_from_slice(&salt);
    page.extend_from_slice(&crc32fast::hash(&page).to_le_bytes());
    page.resize(ALIGN, 0);
    page
}

fn salt_of(content: &[u8]) -> Option<Salt> {
    let (head, rest) = content.split_at_checked(24)?;
    let intact = head.starts_with(FILE_MAGIC)
        && head.get(4..8)? == FORMAT.to_le_bytes()
        && rest.get(..4)? == crc32fast::hash(head).to_le_bytes();
    if intact { head.get(8..24)?.try_into().ok() } else { None }
}

pub(super) fn encode(salt: Salt, number: u64, batch: &Batch, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(RECORD_MAGIC);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&number.to_le_bytes());
    for (key, value) in &batch.changes {
        out.extend_from_slice(&narrow(key.len()).to_le_bytes());
        out.extend_from_slice(&value.as_ref().map_or(DELETED, |it| narrow(it.len())).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let length = narrow(out.len() - RECORD_HEAD).to_le_bytes();
    out[8..12].copy_from_slice(&length);
    let checksum = checksum(salt, &out[8..]).to_le_bytes();
    out[4..8].copy_from_slice(&checksum);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// The record at the beginning, with its number and its size, if there is one.
pub(super) fn decode(salt: Salt, bytes: &[u8]) -> Option<(u64, Batch, usize)> {
    let head = bytes.get(..RECORD_HEAD).filter(|it| it.starts_with(RECORD_MAGIC))?;
    let length = u32::from_le_bytes(head.get(8..12)?.try_into().ok()?);
    let number = u64::from_le_bytes(head.get(12..20)?.try_into().ok()?);
    let size = RECORD_HEAD.checked_add(usize::try_from(length).ok()?)?;
    let record = bytes.get(..size)?;
    if head.get(4..8)? != checksum(salt, record.get(8..)?).to_le_bytes() {
        return None;
    }
    let (mut batch, mut rest) = (Batch::default(), record.get(RECORD_HEAD..)?);
    while !rest.is_empty() {
        let key_length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
        let value_length = u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?);
        let (key, after) = rest.get(8..)?.split_at_checked(usize::try_from(key_length).ok()?)?;
        rest = after;
        if value_length == DELETED {
            batch.delete(key.to_vec());
        } else {
            let (value, after) = after.split_at_checked(usize::try_from(value_length).ok()?)?;
            batch.put(key.to_vec(), value.to_vec());
            rest = after;
        }
    }
    Some((number, batch, size))
}

pub(super) fn checksum(salt: Salt, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt);
    hasher.update(bytes);
    hasher.finalize()
}

fn narrow(size: usize) -> u32 {
    u32::try_from(size).ok().filter(|it| *it != DELETED).expect("a batch is smaller than 4 GiB")
}

fn wide(size: usize) -> u64 {
    u64::try_from(size).expect("usize fits into u64 on every supported machine")
}
