//! What containers read and write: pipes and terminals, their logs, and those who look on.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::clients::kernel;
use super::containers::{Made, not_found, not_running};
use super::{Keeper, Source, Waiter, record};
use crate::clock;
use crate::container::Stdio;
use crate::error::Refusal;
use crate::ids::ContainerId;
use crate::log::{Lines, LogFile, Stream};
use crate::protocol::Answer;

/// What is read from a container at once.
const CHUNK: usize = 64 * 1024;

/// The keeper's side of a container's streams.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) log: Option<LogFile>,
    pub(super) streams: BTreeMap<u64, (OwnedFd, Lines)>,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    /// Copies for those who look on: descriptors that take what they can and lose the rest.
    watchers: Vec<(Stream, OwnedFd)>,
}

type Ended = Vec<(u64, OwnedFd)>;

impl Output {
    /// Moves what is there into the log, at most `rounds` times a chunk per stream. Returns the streams
    /// that have ended, and what went wrong with the log.
    fn pump(&mut self, rounds: usize) -> (Ended, Option<io::Error>) {
        let now = clock::now();
        let (mut ended, mut formatted) = (Vec::new(), Vec::new());
        let mut buffer = vec![0; CHUNK];
        for (token, (fd, lines)) in &mut self.streams {
            for _ in 0..rounds {
                match rustix::io::read(&*fd, &mut buffer) {
                    Ok(length) if length > 0 => {
                        let bytes = buffer.get(..length).unwrap_or_default();
                        show(&mut self.watchers, lines.stream(), bytes);
                        lines.push(bytes, now, &mut formatted);
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    // A terminal without its other side answers EIO.
                    Ok(_) | Err(_) => {
                        lines.finish(now, &mut formatted);
                        ended.push(*token);
                        break;
                    }
                }
            }
        }
        let ended = ended.into_iter().filter_map(|token| {
            let (fd, _) = self.streams.remove(&token)?;
            Some((token, fd))
        });
        let ended = ended.collect();
        let log = self.log.as_mut();
        let trouble = log.and_then(|it| it.append(&formatted).err());
        (ended, trouble)
    }

    /// Everything that is left, when nothing more can come.
    pub(super) fn finish(&mut self) -> (Ended, Option<io::Error>) {
        // As much as the pipe holds at most: a process that was left behind may write for ever.
        let (mut ended, trouble) = self.pump(32);
        let now = clock::now();
        let mut formatted = Vec::new();
        for (_, lines) in self.streams.values_mut() {
            lines.finish(now, &mut formatted);
        }
        let rest = std::mem::take(&mut self.streams);
        ended.extend(rest.into_iter().map(|(token, (fd, _))| (token, fd)));
        let log = self.log.as_mut();
        let trouble = trouble.or_else(|| log.and_then(|it| it.append(&formatted).err()));
        self.watchers.clear();
        (ended, trouble)
    }
}

/// Copies output to those who look on. Whoever is too slow loses it; whoever is gone is forgotten.
fn show(watchers: &mut Vec<(Stream, OwnedFd)>, stream: Stream, bytes: &[u8]) {
    watchers.retain(|(wanted, fd)| {
        *wanted != stream
            || matches!(rustix::io::write(fd, bytes), Ok(_) | Err(Errno::AGAIN | Errno::INTR))
    });
}

/// Whether somebody still holds the other side of a pipe.
fn has_reader(writer: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(writer, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut fds, Some(&now)), Ok(1..))
}

/// Opens the reading side of a container's output; there need not be a writer.
pub(super) fn open_fifo(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

impl Keeper {
    /// Both sides of the streams: the log and what it is fed from, and what the container gets.
    pub(super) fn open_output(&self, made: &Made) -> io::Result<(Output, Stdio)> {
        let log = Some(LogFile::open(&made.spec.log_path)?);
        if made.spec.tty {
            return Ok((Output { log, ..Output::default() }, Stdio::Terminal));
        }
        let (stdin, keeper_stdin) = if made.spec.stdin {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            (Some(reader), Some(writer))
        } else {
            (None, None)
        };
        let mut ends = Vec::new();
        let mut streams = BTreeMap::new();
        for (at, (stream, name)) in
            [(Stream::Stdout, "out"), (Stream::Stderr, "err")].into_iter().enumerate()
        {
            let path = self.layout.fifo(&made.spec.id, name);
            record::remove(&path)?;
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                Mode::from_raw_mode(0o600),
                0,
            )?;
            let reader = open_fifo(&path)?;
            // Both ways, so that a container never writes to a pipe without a reader while one keeper
            // follows another.
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            ends.push(rustix::fs::open(&path, flags, Mode::empty())?);
            streams.insert(at as u64, (reader, Lines::new(stream)));
        }
        let stderr = ends.pop();
        let stdout = ends.pop();
        let output = Output { log, streams, stdin: keeper_stdin, ..Output::default() };
        Ok((output, Stdio::Streams([stdin, stdout, stderr])))
    }

    pub(super) fn watch_output(&mut self, id: &ContainerId, output: &mut Output) -> io::Result<()> {
        for (_, (fd, lines)) in std::mem::take(&mut output.streams) {
            let source = Source::Output(id.clone(), lines.stream());
            let token = self.watch(fd.as_fd(), source, EventFlags::IN)?;
            output.streams.insert(token, (fd, lines));
        }
        Ok(())
    }

    pub(super) fn set_terminal(&mut self, id: &ContainerId, terminal: OwnedFd) {
        let watched = rustix::io::ioctl_fionbio(&terminal, true)
            .map_err(io::Error::from)
            .and_then(|()| terminal.try_clone())
            .and_then(|copy| {
                let source = Source::Output(id.clone(), Stream::Stdout);
                let token = self.watch(copy.as_fd(), source, EventFlags::IN)?;
                Ok((token, copy))
            });
        match watched {
            Ok((token, copy)) => {
                if let Some(container) = self.containers.get_mut(id) {
                    let output = &mut container.output;
                    output.streams.insert(token, (copy, Lines::new(Stream::Stdout)));
                    output.terminal = Some(terminal);
                }
            }
            Err(err) => self.complain("watch a terminal", &err),
        }
    }

    pub(super) fn handle_output(&mut self, id: &ContainerId, _stream: Stream) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let (ended, trouble) = container.output.pump(1);
        for (token, fd) in ended {
            self.unwatch(token, fd.as_fd());
        }
        if let Some(err) = trouble {
            self.complain("write a log", &err);
        }
    }

    pub(super) fn attach(&mut self, waiter: Waiter, id: &ContainerId) {
        match self.attach_streams(id) {
            Ok((stdin, tty, fds)) => {
                self.answer_with(waiter, Ok(Answer::Attach { stdin, tty }), fds);
            }
            Err(refusal) => self.answer(waiter, Err(refusal)),
        }
    }

    /// Descriptors for one who looks on: input if there is one, output, error unless it is a terminal.
    fn attach_streams(&mut self, id: &ContainerId) -> Result<(bool, bool, Vec<OwnedFd>), Refusal> {
        let container = self.containers.get_mut(id).ok_or_else(|| not_found(id))?;
        if container.running().is_none() {
            return Err(not_running(id));
        }
        let output = &mut container.output;
        let cannot = |err: io::Error| kernel("attach to a container", &err);
        let input = output.terminal.as_ref().or(output.stdin.as_ref());
        let mut fds = Vec::new();
        if let Some(input) = input {
            fds.push(input.try_clone().map_err(cannot)?);
        }
        let (stdin, tty) = (input.is_some(), output.terminal.is_some());
        let streams: &[Stream] =
            if tty { &[Stream::Stdout] } else { &[Stream::Stdout, Stream::Stderr] };
        // A container that writes nothing would never find out who has left.
        output.watchers.retain(|(_, fd)| has_reader(fd));
        for stream in streams {
            let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
            let (reader, writer) = pipe_with(flags).map_err(|errno| cannot(errno.into()))?;
            output.watchers.push((*stream, writer));
            fds.push(reader);
        }
        Ok((stdin, tty, fds))
    }
}
