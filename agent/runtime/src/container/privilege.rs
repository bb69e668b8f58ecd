//! Steps after the pivot: from a process with every power in a prepared place to the container's command.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, major, minor};
use rustix::process::{Gid, Uid};
use rustix::pty::OpenptFlags;

use super::setup::missing;
use super::{Report, Start, Stdio, report};
use crate::rootfs::{Root, file_type};
use crate::{capability, seccomp, user};

const DEVPTS_MAGIC: i64 = 0x1cd1;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn user(start: &mut Start<'_>) -> io::Result<()> {
    let root = Root::of_process()?;
    let passwd = root.read_text(Path::new("/etc/passwd"))?;
    let group = root.read_text(Path::new("/etc/group"))?;
    let identity = user::resolve(&start.command.user, &passwd, &group).map_err(io::Error::other)?;
    start.found.root = Some(root);
    start.found.identity = Some(identity);
    Ok(())
}

pub(super) fn stdio(start: &mut Start<'_>) -> io::Result<()> {
    let uid = start.found.identity.as_ref().ok_or_else(missing)?.uid;
    let uid = Some(Uid::from_raw(uid));
    let streams = match &start.stdio {
        Stdio::Terminal => {
            let (master, terminal) = open_terminal(start.found.root.as_ref().ok_or_else(missing)?)?;
            report(start, &Report::Terminal, &[master.as_fd()])?;
            rustix::process::ioctl_tiocsctty(&terminal)?;
            rustix::fs::fchown(&terminal, uid, None)?;
            [Some(terminal.try_clone()?), Some(terminal.try_clone()?), Some(terminal)]
        }
        Stdio::Streams(streams) => {
            for stream in streams.iter().flatten() {
                // So that the user can open `/dev/stdout`. Sockets and files stay whose they are.
                if file_type(stream)? == FileType::Fifo {
                    rustix::fs::fchown(stream, uid, None)?;
                }
            }
            [try_clone(streams.first())?, try_clone(streams.get(1))?, try_clone(streams.get(2))?]
        }
    };
    let null = open_null(start.found.root.as_ref().ok_or_else(missing)?)?;
    let [stdin, stdout, stderr] = &streams;
    rustix::stdio::dup2_stdin(stdin.as_ref().unwrap_or(&null))?;
    rustix::stdio::dup2_stdout(stdout.as_ref().unwrap_or(&null))?;
    rustix::stdio::dup2_stderr(stderr.as_ref().unwrap_or(&null))?;
    Ok(())
}

fn try_clone(stream: Option<&Option<OwnedFd>>) -> io::Result<Option<OwnedFd>> {
    stream.and_then(Option::as_ref).map(OwnedFd::try_clone).transpose()
}

fn is_device(fd: &OwnedFd, number: (u32, u32)) -> io::Result<bool> {
    let stat = rustix::fs::fstat(fd)?;
    let is_character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(is_character && (major(stat.st_rdev), minor(stat.st_rdev)) == number)
}

/// The null device, and nothing that was put in its place.
fn open_null(root: &Root) -> io::Result<OwnedFd> {
    let null =
        root.open(Path::new("/dev/null"), OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NOCTTY)?;
    if is_device(&null, (1, 3))? {
        Ok(null)
    } else {
        Err(io::Error::other("/dev/null is not the null device"))
    }
}

/// Both sides of a new terminal of the container's own devpts, none of them reached by a name that the
/// container could have changed.
fn open_terminal(root: &Root) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = root.open(Path::new("/dev/pts/ptmx"), flags)?;
    let is_devpts = rustix::fs::fstatfs(&master)?.f_type == DEVPTS_MAGIC;
    if !is_devpts || !is_device(&master, (5, 2))? {
        return Err(io::Error::other("/dev/pts/ptmx is no terminal multiplexer"));
    }
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, terminal))
}

pub(super) fn keyring(_: &mut Start<'_>) -> io::Result<()> {
    match agent_sys::join_new_session_keyring() {
        // A kernel without keyrings has no keys to keep apart.
        Err(err) if err.raw_os_error() == Some(nix::libc::ENOSYS) => Ok(()),
        other => other,
    }
}

pub(super) fn descriptors(start: &mut Start<'_>) -> io::Result<()> {
    let channel = start.found.channel.as_ref().ok_or_else(missing)?;
    agent_sys::close_all_but(channel.as_fd())?;
    // Closed above with all others: it must not be closed again, and is opened anew where needed.
    std::mem::forget(start.found.root.take());
    Ok(())
}

pub(super) fn working_directory(start: &mut Start<'_>) -> io::Result<()> {
    let root = Root::of_process()?;
    let cwd = &start.command.cwd;
    let dir = match root.open(cwd, OFlags::PATH | OFlags::DIRECTORY) {
        Err(rustix::io::Errno::NOENT) => root.ensure_dir(cwd)?,
        other => other?,
    };
    rustix::process::fchdir(&dir)?;
    // The kernel marks a directory that cannot be reached from the root.
    let seen = rustix::process::getcwd(Vec::new())?;
    if seen.to_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(io::Error::other("working directory is outside of the root"))
    }
}

fn no_new_privs(start: &Start<'_>) -> bool {
    start.bundle.spec.process().as_ref().and_then(|it| it.no_new_privileges()) == Some(true)
}

pub(super) fn no_new_privileges(start: &mut Start<'_>) -> io::Result<()> {
    if no_new_privs(start) {
        rustix::thread::set_no_new_privs(true)?;
    }
    Ok(())
}

pub(super) fn early_seccomp(start: &mut Start<'_>) -> io::Result<()> {
    match start.profile {
        Some(profile) if !no_new_privs(start) => seccomp::load(profile),
        _ => Ok(()),
    }
}

pub(super) fn bounding_set(start: &mut Start<'_>) -> io::Result<()> {
    capability::limit_bounding_set(start.bundle.capabilities)
}

pub(super) fn ids(start: &mut Start<'_>) -> io::Result<()> {
    let identity = start.found.identity.as_ref().ok_or_else(missing)?;
    let groups: Vec<_> = identity.groups.iter().map(|it| Gid::from_raw(*it)).collect();
    let (gid, uid) = (Gid::from_raw(identity.gid), Uid::from_raw(identity.uid));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

pub(super) fn capabilities(start: &mut Start<'_>) -> io::Result<()> {
    capability::limit(start.bundle.capabilities)
}

pub(super) fn late_seccomp(start: &mut Start<'_>) -> io::Result<()> {
    match start.profile {
        Some(profile) if no_new_privs(start) => seccomp::load(profile),
        _ => Ok(()),
    }
}

/// Later entries win; `PATH`, `HOME` and a terminal's `TERM` have defaults.
fn environment(start: &Start<'_>) -> Vec<String> {
    let name_of = |entry: &str| entry.split('=').next().unwrap_or("").to_owned();
    let mut env: Vec<String> = Vec::new();
    for entry in &start.command.env {
        let name = name_of(entry);
        match env.iter_mut().find(|it| name_of(it) == name) {
            Some(earlier) => *earlier = entry.clone(),
            None => env.push(entry.clone()),
        }
    }
    let home = start.found.identity.as_ref().map_or("/", |it| it.home.as_str());
    let mut defaults = vec![("PATH", DEFAULT_PATH), ("HOME", home)];
    if matches!(start.stdio, Stdio::Terminal) {
        defaults.push(("TERM", "xterm"));
    }
    for (name, value) in defaults {
        if !env.iter().any(|it| name_of(it) == name) {
            env.push(format!("{name}={value}"));
        }
    }
    env
}

fn c_strings(texts: impl IntoIterator<Item = String>) -> io::Result<Vec<CString>> {
    texts.into_iter().map(|it| CString::new(it).map_err(io::Error::other)).collect()
}

pub(super) fn execute(start: &mut Start<'_>) -> io::Result<()> {
    // The usual one: a container that wants another sets it.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let env = environment(start);
    let name = start.command.args.first().cloned().ok_or_else(missing)?;
    let path = env.iter().find_map(|it| it.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.clone()]
    } else {
        let dirs = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
        dirs.map(|dir| format!("{dir}/{name}")).collect()
    };
    let (candidates, args, env) =
        (c_strings(candidates)?, c_strings(start.command.args.clone())?, c_strings(env)?);
    report(start, &Report::Executing, &[])?;

    let mut best = nix::errno::Errno::ENOENT;
    for candidate in &candidates {
        // Comes back only with an error.
        match nix::unistd::execve(candidate, &args, &env) {
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => {}
            // Perhaps a later directory has one that may be executed.
            Err(nix::errno::Errno::EACCES) => best = nix::errno::Errno::EACCES,
            Err(errno) => return Err(errno.into()),
            Ok(never) => match never {},
        }
    }
    Err(best.into())
}
