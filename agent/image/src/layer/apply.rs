//! Makes a layer's entries below one directory, in the form that overlayfs stacks.
//!
//! A layer is applied alone, as an overlay's upper directory would look after its changes: directories
//! that it merely passes through get the attributes they have in the layers beneath; a whiteout is a
//! 0:0 character device; a directory that takes the place of something else is opaque.

use std::{collections::BTreeMap, ffi::CString, fs::File, io::Write, os::fd::OwnedFd, rc::Rc};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, linkat, makedev, mknodat, openat, symlinkat, utimensat},
    io::Errno,
};

use crate::{
    Digest, Limits,
    layer::{
        LayerError,
        attributes::{Attributes, set_opaque, times},
        lower::{self, Found, is_whiteout},
        root::{Root, normalise, split, stat},
        stream::LayerStream,
        tar::{Entry, Kind, TarReader},
    },
};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bookkeeping of a file system of the past.
const AUFS: &[u8] = b".wh..wh.";

/// Applies a whole layer to the empty directory `root`, and says what the stream hashed to.
/// `lowers` are the layers beneath, topmost first.
pub(crate) fn apply(
    stream: LayerStream,
    root: OwnedFd,
    lowers: &[OwnedFd],
    limits: Limits,
) -> Result<Digest, LayerError> {
    let mut reader = TarReader::new(stream, limits);
    let mut layer = Layer {
        root: Root::new(root),
        lowers,
        dir_times: BTreeMap::new(),
        copy_budget: limits.unpacked_bytes,
        buffer: vec![0; 128 << 10],
    };
    layer.start()?;
    while let Some(entry) = reader.next_entry()? {
        layer.entry(entry, &mut reader)?;
    }
    layer.finish()?;
    tracing::trace!(entries = reader.n_entries(), "Applied layer");
    reader.into_stream().finish()
}

struct Layer<'a> {
    root: Root,
    lowers: &'a [OwnedFd],
    /// Filling a directory changes its time, so these are set last.
    dir_times: BTreeMap<Vec<u8>, (i64, u32)>,
    /// Bytes that hardlinks may still copy out of lower layers.
    copy_budget: u64,
    buffer: Vec<u8>,
}

impl Layer<'_> {
    /// The root shows the attributes it has in the layers beneath, unless this layer has its own.
    fn start(&mut self) -> Result<(), LayerError> {
        let root = self.root.open_dir(b"").map_err(|err| LayerError::at(b"/", err))?;
        copy_up_dir(self.lowers, &mut self.dir_times, b"", &root)
    }

    fn entry(&mut self, entry: Entry, reader: &mut TarReader) -> Result<(), LayerError> {
        let path = normalise(&entry.name);
        let (dir, name) = split(&path);
        if name == OPAQUE {
            let dir = self.ensure_dir(dir)?;
            return set_opaque(&dir).map_err(|err| LayerError::at(&path, err));
        }
        if path.split(|byte| *byte == b'/').any(|component| component.starts_with(AUFS)) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&path, dir, hidden);
        }
        match &entry.kind {
            Kind::Dir => self.directory(&path, entry),
            Kind::Hardlink(target) => {
                let target = normalise(target);
                self.hardlink(&path, &target)
            }
            Kind::File | Kind::Symlink(_) | Kind::Char { .. } | Kind::Block { .. } | Kind::Fifo => {
                if path.is_empty() {
                    return Err(LayerError::malformed(&entry.name, "not a name"));
                }
                self.inode(&path, entry, reader)
            }
        }
    }

    /// Times of directories, now that nothing more is put into them.
    fn finish(&mut self) -> Result<(), LayerError> {
        for (path, time) in std::mem::take(&mut self.dir_times) {
            let at = |err: Errno| LayerError::at(&path, err);
            let (dir, name) = split(&path);
            let name = if path.is_empty() { b"." } else { name };
            let dir = match self.root.open_dir(dir) {
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                result => result.map_err(at)?,
            };
            // It may have been removed or replaced by a later entry.
            let found = stat(&dir, name).map_err(at)?;
            let ty = found.map(|it| FileType::from_raw_mode(it.st_mode));
            if ty == Some(FileType::Directory) {
                utimensat(&*dir, name, &times(time), AtFlags::SYMLINK_NOFOLLOW).map_err(at)?;
            }
        }
        Ok(())
    }

    fn ensure_dir(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, LayerError> {
        let Self { root, lowers, dir_times, .. } = self;
        root.ensure_dir(path, &mut |path, fd| copy_up_dir(lowers, dir_times, path, fd))
    }

    /// Hides a name of the layers beneath. What this layer itself has there is not hidden.
    fn whiteout(&mut self, path: &[u8], dir: &[u8], hidden: &[u8]) -> Result<(), LayerError> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(LayerError::malformed(path, "a whiteout of no name"));
        }
        let at = |err: Errno| LayerError::at(path, err);
        let dir = self.ensure_dir(dir)?;
        let own = stat(&dir, hidden).map_err(at)?;
        match own.map(|it| FileType::from_raw_mode(it.st_mode)) {
            None => {
                let ty = FileType::CharacterDevice;
                mknodat(&*dir, hidden, ty, Mode::empty(), makedev(0, 0)).map_err(at)
            }
            Some(FileType::Directory) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat(&*dir, hidden, flags, Mode::empty()).map_err(at)?;
                set_opaque(&fd).map_err(|err| LayerError::at(path, err))
            }
            // A file hides what is below by being there.
            Some(_) => Ok(()),
        }
    }

    fn directory(&mut self, path: &[u8], mut entry: Entry) -> Result<(), LayerError> {
        let at = |err: Errno| LayerError::at(path, err);
        let attributes = Attributes::of_entry(&mut entry);
        let fd = if path.is_empty() {
            self.root.open_dir(path).map_err(at)?
        } else {
            let (dir, name) = split(path);
            let parent = self.ensure_dir(dir)?;
            let own = stat(&parent, name).map_err(at)?;
            match own.map(|it| FileType::from_raw_mode(it.st_mode)) {
                Some(FileType::Directory) => {
                    let flags =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    Rc::new(openat(&*parent, name, flags, Mode::empty()).map_err(at)?)
                }
                other => {
                    let removed = other.is_some();
                    self.root.remove(&parent, name).map_err(|err| LayerError::at(path, err))?;
                    self.root.make_dir(path, &parent, name, removed, &mut |_, _| Ok(()))?
                }
            }
        };
        self.dir_times.insert(path.to_vec(), attributes.mtime);
        attributes.set(&fd).map_err(|err| LayerError::at(path, err))
    }

    fn inode(
        &mut self,
        path: &[u8],
        mut entry: Entry,
        reader: &mut TarReader,
    ) -> Result<(), LayerError> {
        let (dir, name) = split(path);
        let dir = self.ensure_dir(dir)?;
        self.root.remove(&dir, name).map_err(|err| LayerError::at(path, err))?;
        let attributes = Attributes::of_entry(&mut entry);
        match entry.kind {
            Kind::File => {
                let mut file = create(&dir, name).map_err(|err| LayerError::at(path, err))?;
                loop {
                    match reader.read_body(path, &mut self.buffer)? {
                        0 => break,
                        n => file
                            .write_all(&self.buffer[..n])
                            .map_err(|err| LayerError::at(path, err))?,
                    }
                }
                attributes.set(&file.into()).map_err(|err| LayerError::at(path, err))
            }
            Kind::Symlink(target) => symlink(&dir, path, &target, &attributes),
            Kind::Char { major, minor } => {
                let device = makedev(major, minor);
                node(&dir, path, FileType::CharacterDevice, device, &attributes)
            }
            Kind::Block { major, minor } => {
                let device = makedev(major, minor);
                node(&dir, path, FileType::BlockDevice, device, &attributes)
            }
            Kind::Fifo => node(&dir, path, FileType::Fifo, 0, &attributes),
            Kind::Dir | Kind::Hardlink(_) => Err(LayerError::malformed(path, "not an inode")),
        }
    }

    /// Links to an entry of this layer, or to a copy of what the layers beneath have there.
    fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), LayerError> {
        let at = |err: Errno| LayerError::at(path, err);
        if path.is_empty() || target.is_empty() || path == target {
            return Err(LayerError::malformed(path, "a hardlink to itself or to nothing"));
        }
        let (target_dir, target_name) = split(target);
        let own = match self.root.open_dir(target_dir) {
            Ok(dir) => stat(&dir, target_name).map_err(at)?,
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(err) => return Err(at(err)),
        };
        match own {
            None => self.copy_up(target)?,
            Some(found) if is_whiteout(&found) => return Err(missing(path, target)),
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                return Err(LayerError::malformed(path, "a hardlink to a directory"));
            }
            Some(_) => {}
        }
        let (dir, name) = split(path);
        let dir = self.ensure_dir(dir)?;
        self.root.remove(&dir, name).map_err(|err| LayerError::at(path, err))?;
        let from = self.root.open_dir(target_dir).map_err(at)?;
        linkat(&*from, target_name, &*dir, name, AtFlags::empty()).map_err(at)
    }

    fn copy_up(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let at = |err: std::io::Error| LayerError::at(path, err);
        let found = lower::find(self.lowers, path).map_err(at)?;
        let Some(found) = found else {
            return Err(missing(path, path));
        };
        let (dir, name) = split(path);
        let dir = self.ensure_dir(dir)?;
        match found {
            Found::Dir(_) => Err(LayerError::malformed(path, "a hardlink to a directory")),
            Found::Symlink(target, attributes) => symlink(&dir, path, &target, &attributes),
            Found::Node(ty, device, attributes) => node(&dir, path, ty, device, &attributes),
            Found::File(fd, attributes) => {
                let source = File::from(fd);
                let size = source.metadata().map_err(at)?.len();
                self.copy_budget =
                    self.copy_budget.checked_sub(size).ok_or(LayerError::TooBig {
                        what: "bytes copied from lower layers",
                        limit: self.copy_budget,
                    })?;
                let mut copy = create(&dir, name).map_err(at)?;
                std::io::copy(&mut &source, &mut copy).map_err(at)?;
                attributes.set(&copy.into()).map_err(at)
            }
        }
    }
}

/// Gives a directory that was made on the way the attributes it has in the layers beneath.
fn copy_up_dir(
    lowers: &[OwnedFd],
    dir_times: &mut BTreeMap<Vec<u8>, (i64, u32)>,
    path: &[u8],
    fd: &OwnedFd,
) -> Result<(), LayerError> {
    let at = |err: std::io::Error| LayerError::at(path, err);
    if let Some(Found::Dir(attributes)) = lower::find(lowers, path).map_err(at)? {
        dir_times.insert(path.to_vec(), attributes.mtime);
        attributes.set(fd).map_err(at)?;
    }
    Ok(())
}

fn create(dir: &OwnedFd, name: &[u8]) -> std::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(dir, name, flags, Mode::from_raw_mode(0o600))?))
}

fn symlink(
    dir: &OwnedFd,
    path: &[u8],
    target: &[u8],
    attributes: &Attributes,
) -> Result<(), LayerError> {
    let (_, name) = split(path);
    symlinkat(target, dir, name).map_err(|err| LayerError::at(path, err))?;
    let name = CString::new(name).map_err(|err| LayerError::at(path, err))?;
    attributes.set_at(dir, &name, true).map_err(|err| LayerError::at(path, err))
}

fn node(
    dir: &OwnedFd,
    path: &[u8],
    ty: FileType,
    device: u64,
    attributes: &Attributes,
) -> Result<(), LayerError> {
    let (_, name) = split(path);
    let mode = Mode::from_raw_mode(0o600);
    mknodat(dir, name, ty, mode, device).map_err(|err| LayerError::at(path, err))?;
    let name = CString::new(name).map_err(|err| LayerError::at(path, err))?;
    attributes.set_at(dir, &name, false).map_err(|err| LayerError::at(path, err))
}

fn missing(path: &[u8], target: &[u8]) -> LayerError {
    let target = String::from_utf8_lossy(&target[..target.len().min(200)]);
    LayerError::malformed(path, format!("hardlink target {target:?} does not exist"))
}
