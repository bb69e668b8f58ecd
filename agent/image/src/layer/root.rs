//! The directory that a layer is applied to: every path is resolved below its descriptor.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    rc::Rc,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat2, readlinkat,
        statat, unlinkat,
    },
    io::Errno,
};

use crate::layer::{LayerError, attributes::set_opaque, lower::is_whiteout};

/// Links followed while one directory is made.
const MAX_LINKS: u32 = 40;
/// Bytes of the longest real path of a directory, the store's own path included.
const MAX_DEPTH: usize = 3500;

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// Splits a normalised path into its directory and its name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Makes a name relative to the root, as a shell in the root would: `..` stops there.
pub(crate) fn normalise(name: &[u8]) -> Vec<u8> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop()),
            _ => components.push(component),
        }
    }
    components.join(&b'/')
}

/// Is told the path of each new directory, and the directory.
pub(crate) type Made<'a> = dyn FnMut(&[u8], &OwnedFd) -> Result<(), LayerError> + 'a;

pub(crate) struct Root {
    fd: Rc<OwnedFd>,
    /// The directory used last: entries come sorted by directory.
    cached: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Root {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd: Rc::new(fd), cached: None }
    }

    /// Opens an existing directory, following links as if this were the root of all files.
    pub(crate) fn open_dir(&mut self, path: &[u8]) -> rustix::io::Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.fd));
        }
        if let Some((cached, fd)) = &self.cached
            && cached == path
        {
            return Ok(Rc::clone(fd));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = Rc::new(openat2(&*self.fd, path, flags, Mode::empty(), resolve)?);
        self.cached = Some((path.to_vec(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// Opens a directory, making what is missing. `made` is told each directory that is new.
    ///
    /// A link to nothing leads to a directory of a lower layer, which this layer must have, too: it is
    /// followed by hand, one component after the other, so that neither depth nor links cost stack.
    pub(crate) fn ensure_dir(
        &mut self,
        path: &[u8],
        made: &mut Made<'_>,
    ) -> Result<Rc<OwnedFd>, LayerError> {
        let at = |err| LayerError::at(path, err);
        match self.open_dir(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            result => return result.map_err(at),
        }
        let mut todo: VecDeque<Vec<u8>> = path.split(is_slash).map(<[u8]>::to_vec).collect();
        let mut real: Vec<u8> = Vec::new();
        let mut n_links = 0;
        while let Some(name) = todo.pop_front() {
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    real.truncate(split(&real).0.len());
                    continue;
                }
                _ => {}
            }
            let parent = self.open_dir(&real).map_err(at)?;
            let mut next = real.clone();
            if !next.is_empty() {
                next.push(b'/');
            }
            next.extend_from_slice(&name);
            let found = stat(&parent, &name).map_err(at)?;
            match found.map(|it| (FileType::from_raw_mode(it.st_mode), is_whiteout(&it))) {
                Some((FileType::Directory, _)) => real = next,
                None => {
                    self.make_dir(&next, &parent, &name, false, made)?;
                    real = next;
                }
                Some((_, true)) => {
                    self.remove(&parent, &name).map_err(|err| LayerError::at(path, err))?;
                    self.make_dir(&next, &parent, &name, true, made)?;
                    real = next;
                }
                Some((FileType::Symlink, _)) => {
                    n_links += 1;
                    if n_links > MAX_LINKS {
                        return Err(at(Errno::LOOP));
                    }
                    let target = readlinkat(&*parent, &*name, Vec::new()).map_err(at)?.into_bytes();
                    if target.first() == Some(&b'/') {
                        real.clear();
                    }
                    for component in target.rsplit(is_slash) {
                        todo.push_front(component.to_vec());
                    }
                }
                Some(_) => return Err(at(Errno::NOTDIR)),
            }
        }
        self.open_dir(&real).map_err(at)
    }

    /// Makes one directory; an opaque one has nothing to do with what lies beneath.
    pub(crate) fn make_dir(
        &mut self,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
        is_opaque: bool,
        made: &mut Made<'_>,
    ) -> Result<Rc<OwnedFd>, LayerError> {
        let at = |err: io::Error| LayerError::at(path, err);
        self.check_depth(parent, name).map_err(at)?;
        mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(|err| at(err.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty());
        let fd = Rc::new(fd.map_err(|err| at(err.into()))?);
        if is_opaque {
            set_opaque(&fd).map_err(at)?;
        } else {
            made(path, &fd)?;
        }
        Ok(fd)
    }

    /// Removes what is there, and says what it was.
    pub(crate) fn remove(&mut self, dir: &OwnedFd, name: &[u8]) -> io::Result<Option<Stat>> {
        let Some(found) = stat(dir, name)? else {
            return Ok(None);
        };
        // Whatever went through it resolves differently from here on.
        self.cached = None;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            agent_volume::tree::remove(dir.as_fd(), &std::ffi::CString::new(name)?)?;
        } else {
            unlinkat(dir, name, AtFlags::empty())?;
        }
        Ok(Some(found))
    }

    /// Links let a layer nest deeper than any one path; nothing could walk that afterwards.
    fn check_depth(&self, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let link = format!("/proc/self/fd/{}", parent.as_raw_fd());
        let length = readlinkat(CWD, link, Vec::new())?.as_bytes().len() + 1 + name.len();
        if length > MAX_DEPTH { Err(Errno::NAMETOOLONG.into()) } else { Ok(()) }
    }
}

/// What a name stands for, if anything; a link stands for itself.
pub(crate) fn stat(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(err) => Err(err),
    }
}
