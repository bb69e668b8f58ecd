//! Sets of files made from bytes, replaced as a whole.
//!
//! ```text
//! dir/..2026_11_20_08_00_00.1/a    the files of one set
//! dir/..data -> ..2026_11_20_08_00_00.1
//! dir/a -> ..data/a
//! ```
//! Renaming a new link over `..data` is the one instant of change. Who opens `..data` and reads below
//! that descriptor sees one set; who reads `dir/a` sees an old or a new file, never a torn one.
//!
//! Nothing is synced: after a power cut the set is compared with what is wanted, and made again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, openat,
        readlinkat, renameat, statat, symlinkat, unlinkat,
    },
    io::Errno,
};

use crate::{
    RelPath,
    tmpfs::{self, Tmpfs},
    tree,
};

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// One file to be.
#[derive(Clone, Eq, PartialEq)]
pub struct FileData {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner; that of the set where unset.
    pub uid: Option<u32>,
}

impl fmt::Debug for FileData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes may be secret.
        write!(f, "FileData({} bytes, mode {:o})", self.bytes.len(), self.mode)
    }
}

/// All files of a volume.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileSet {
    /// The files by their place in the volume.
    pub files: BTreeMap<RelPath, FileData>,
    /// Owner of files and directories; ours where unset.
    pub uid: Option<u32>,
    /// Group of files and directories, which may read them whatever their mode says; ours where
    /// unset.
    pub gid: Option<u32>,
    /// Keep the files in memory, never on a disk.
    pub secret: bool,
}

impl FileSet {
    fn mode_of(&self, file: &FileData) -> u32 {
        /// As Kubernetes has it: the group of the pod is there to read the pod's files.
        const READ_BY_GROUP: u32 = 0o440;
        (file.mode | if self.gid.is_some() { READ_BY_GROUP } else { 0 }) & 0o7777
    }

    fn owner_of(&self, file: &FileData) -> Option<u32> {
        file.uid.or(self.uid)
    }
}

/// What [`ensure_files`] found to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FilesOutcome {
    /// The wanted set was there already; nothing was written.
    Unchanged,
    /// The wanted set was put in place.
    Written,
}

/// Why a set of files is not in place. The former set, if any, still is.
#[derive(Debug, thiserror::Error)]
pub enum EnsureFilesError {
    /// A name that this layout keeps for itself.
    #[error("file name {path} must not start with '..'")]
    Reserved {
        /// The name.
        path: RelPath,
    },
    /// A file stands where another needs a directory.
    #[error("{path} is both a file and a directory")]
    Conflict {
        /// The name.
        path: RelPath,
    },
    /// The stamp cannot be part of a name.
    #[error("{stamp:?} cannot name a set of files")]
    Stamp {
        /// The stamp.
        stamp: String,
    },
    /// The disk or the kernel refused.
    #[error("could not write the files of {dir}")]
    Write {
        /// The volume.
        dir: PathBuf,
        /// What the kernel said.
        #[source]
        err: io::Error,
    },
}

/// Puts a set of files in place, all at once. `stamp` names the set: a time or a counter, which must
/// differ from the one given with the former set.
pub fn ensure_files(
    dir: &Path,
    set: &FileSet,
    stamp: &str,
) -> Result<FilesOutcome, EnsureFilesError> {
    check(set, stamp)?;
    ensure(dir, set, stamp).map_err(|err| EnsureFilesError::Write { dir: dir.to_owned(), err })
}

fn check(set: &FileSet, stamp: &str) -> Result<(), EnsureFilesError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if stamp.is_empty()
        || stamp.len() > 200
        || stamp.starts_with('.')
        || !stamp.chars().all(is_name)
    {
        return Err(EnsureFilesError::Stamp { stamp: stamp.to_owned() });
    }
    if let Some(path) = set.files.keys().find(|path| path.first().starts_with("..")) {
        return Err(EnsureFilesError::Reserved { path: path.clone() });
    }
    let dirs: BTreeSet<&str> = set.files.keys().flat_map(parents).collect();
    match set.files.keys().find(|path| dirs.contains(path.as_str())) {
        Some(path) => Err(EnsureFilesError::Conflict { path: path.clone() }),
        None => Ok(()),
    }
}

fn ensure(dir: &Path, set: &FileSet, stamp: &str) -> io::Result<FilesOutcome> {
    std::fs::create_dir_all(dir)?;
    if set.secret {
        tmpfs::ensure(dir, &Tmpfs { size: None, mode: 0o755, gid: None, secret: true })?;
    }
    let volume = tmpfs::open_dir(dir)?;
    let former = current(&volume)?;
    if let Some(former) = &former
        && is_same(&volume, former, set)?
    {
        link_names(&volume, set)?;
        return Ok(FilesOutcome::Unchanged);
    }
    let mut fresh = format!("..{stamp}");
    if former.as_ref() == Some(&fresh) {
        fresh.push_str(".next");
    }
    sweep(&volume, former.as_deref())?;
    write_set(&volume, &fresh, set)?;
    symlinkat(&fresh, &volume, DATA_NEXT)?;
    renameat(&volume, DATA_NEXT, &volume, DATA)?;
    link_names(&volume, set)?;
    sweep(&volume, Some(&fresh))?;
    Ok(FilesOutcome::Written)
}

/// The name of the set that `..data` points to.
fn current(volume: &OwnedFd) -> io::Result<Option<String>> {
    match readlinkat(volume, DATA, Vec::new()) {
        Ok(target) => Ok(target.into_string().ok().filter(|it| is_set(it))),
        Err(Errno::NOENT) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

fn is_set(name: &str) -> bool {
    name.starts_with("..")
        && name.len() > 2
        && name != DATA
        && name != DATA_NEXT
        && !name.contains('/')
}

/// Removes every set but `keep`, and a link that was never put in place.
fn sweep(volume: &OwnedFd, keep: Option<&str>) -> io::Result<()> {
    for (name, _) in entries(volume)? {
        let is_leftover = name == DATA_NEXT || (is_set(&name) && Some(name.as_str()) != keep);
        if is_leftover {
            tree::remove(volume.as_fd(), &std::ffi::CString::new(name)?)?;
        }
    }
    Ok(())
}

fn write_set(volume: &OwnedFd, name: &str, set: &FileSet) -> io::Result<()> {
    mkdirat(volume, name, Mode::from_raw_mode(0o755))?;
    let root = open_dir(volume, name)?;
    finish(&root, set.uid, set.gid, 0o755)?;
    let mut dirs: BTreeMap<String, OwnedFd> = BTreeMap::new();
    for (path, data) in &set.files {
        for dir in parents(path) {
            if !dirs.contains_key(dir) {
                mkdirat(&root, dir, Mode::from_raw_mode(0o755))?;
                let fd = open_dir(&root, dir)?;
                finish(&fd, set.uid, set.gid, 0o755)?;
                dirs.insert(dir.to_owned(), fd);
            }
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = openat(&root, path.as_str(), flags, Mode::from_raw_mode(0o600))?;
        let file = std::fs::File::from(fd);
        io::Write::write_all(&mut &file, &data.bytes)?;
        finish(&OwnedFd::from(file), set.owner_of(data), set.gid, set.mode_of(data))?;
    }
    Ok(())
}

fn finish(fd: &OwnedFd, uid: Option<u32>, gid: Option<u32>, mode: u32) -> io::Result<()> {
    if uid.is_some() || gid.is_some() {
        fchown(fd, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?;
    }
    Ok(fchmod(fd, Mode::from_raw_mode(mode & 0o7777))?)
}

/// Makes `name -> ..data/name` for all first components, and removes what else is there.
fn link_names(volume: &OwnedFd, set: &FileSet) -> io::Result<()> {
    let wanted: BTreeSet<&str> = set.files.keys().map(RelPath::first).collect();
    for name in &wanted {
        let target = format!("{DATA}/{name}");
        match readlinkat(volume, *name, Vec::new()) {
            Ok(found) if found.to_bytes() == target.as_bytes() => continue,
            Err(Errno::NOENT) => {}
            Ok(_) | Err(_) => {
                tree::remove(volume.as_fd(), &std::ffi::CString::new(*name)?)?;
            }
        }
        symlinkat(&target, volume, *name)?;
    }
    for (name, ty) in entries(volume)? {
        if ty == FileType::Symlink && !name.starts_with("..") && !wanted.contains(name.as_str()) {
            unlinkat(volume, &name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Whether the set in place is the wanted one, in contents, modes, owners and number.
fn is_same(volume: &OwnedFd, name: &str, set: &FileSet) -> io::Result<bool> {
    let root = match open_dir(volume, name) {
        Ok(root) => root,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(err) => return Err(err.into()),
    };
    for (path, data) in &set.files {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match openat(&root, path.as_str(), flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(err) => return Err(err.into()),
        };
        let facts = fstat(&fd)?;
        let is_like = FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile
            && facts.st_mode & 0o7777 == set.mode_of(data)
            && usize::try_from(facts.st_size) == Ok(data.bytes.len())
            && set.owner_of(data).is_none_or(|uid| uid == facts.st_uid)
            && set.gid.is_none_or(|gid| gid == facts.st_gid);
        if !is_like {
            return Ok(false);
        }
        let mut found = Vec::with_capacity(data.bytes.len());
        io::Read::read_to_end(&mut std::fs::File::from(fd), &mut found)?;
        if found != data.bytes {
            return Ok(false);
        }
    }
    Ok(count_files(&root)? == set.files.len())
}

fn count_files(dir: &OwnedFd) -> io::Result<usize> {
    let mut count = 0;
    for (name, ty) in entries(dir)? {
        let is_dir = ty == FileType::Directory;
        count += if is_dir { count_files(&open_dir(dir, &name)?)? } else { 1 };
    }
    Ok(count)
}

/// Names and types in a directory; names that are not text are none of ours.
fn entries(dir: &OwnedFd) -> io::Result<Vec<(String, FileType)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !matches!(name, "." | "..") {
            let facts = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            entries.push((name.to_owned(), FileType::from_raw_mode(facts.st_mode)));
        }
    }
    Ok(entries)
}

fn open_dir(dir: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// `a` and `a/b` for `a/b/c`.
fn parents(path: &RelPath) -> impl Iterator<Item = &str> {
    let text = path.as_str();
    text.match_indices('/').map(|(at, _)| &text[..at])
}

#[cfg(test)]
mod tests;
