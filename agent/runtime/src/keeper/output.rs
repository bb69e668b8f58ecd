//! What containers read and write: pipes and terminals, their logs, and those who look on.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::clients::refused;
use super::containers::{Made, not_found, not_running};
use super::flow::Flow;
use super::{Keeper, Source, Waiter, record};
use crate::clock;
use crate::container::Stdio;
use crate::error::Refusal;
use crate::ids::ContainerId;
use crate::log::{Lines, LogFile, Stamp, Stream};
use crate::protocol::Answer;
use crate::types::ContainerSpec;

/// What is read from a container at once.
const CHUNK: usize = 64 * 1024;

/// Formatted lines that may gather before they are written, in bytes.
const BATCH: usize = 256 * 1024;

/// The keeper's side of a container's streams.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) log: Option<LogFile>,
    pub(super) streams: BTreeMap<u64, (OwnedFd, Lines)>,
    /// How fast it may fill the log; none for one that logs nothing.
    pub(super) flow: Option<Flow>,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    /// Copies for those who look on: descriptors that take what they can and lose the rest.
    watchers: Vec<(Stream, OwnedFd)>,
}

/// Room to work in, kept between two containers' output.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    input: Vec<u8>,
    lines: Vec<u8>,
}

/// What came of moving output into the log.
#[derive(Debug, Default)]
struct Pumped {
    /// Streams that have ended.
    ended: Vec<(u64, OwnedFd)>,
    /// What went wrong with the log.
    trouble: Option<io::Error>,
    /// Bytes for the log, written or lost.
    n_bytes: u64,
}

impl Pumped {
    fn append(&mut self, log: &mut Option<LogFile>, lines: &mut Vec<u8>) {
        let failed = log.as_mut().and_then(|it| it.append(lines).err());
        self.n_bytes += lines.len() as u64;
        self.trouble = self.trouble.take().or(failed);
        lines.clear();
        // Many short lines in one chunk take much room, once.
        lines.shrink_to(BATCH);
    }
}

impl Output {
    /// Moves what is there into the log, at most `rounds` times a chunk per stream.
    fn pump(&mut self, rounds: usize, scratch: &mut Scratch) -> Pumped {
        let stamp = Stamp::new(clock::now());
        let Scratch { input, lines: formatted } = scratch;
        input.resize(CHUNK, 0);
        let (mut ended, mut pumped) = (Vec::new(), Pumped::default());
        for (token, (fd, lines)) in &mut self.streams {
            for _ in 0..rounds {
                match rustix::io::read(&*fd, &mut *input) {
                    Ok(length) if length > 0 => {
                        let bytes = input.get(..length).unwrap_or_default();
                        show(&mut self.watchers, lines.stream(), bytes);
                        lines.push(bytes, &stamp, formatted);
                        if formatted.len() > BATCH {
                            pumped.append(&mut self.log, formatted);
                        }
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    // A terminal without its other side answers EIO.
                    Ok(_) | Err(_) => {
                        lines.finish(&stamp, formatted);
                        ended.push(*token);
                        break;
                    }
                }
            }
        }
        pumped.append(&mut self.log, formatted);
        let streams = &mut self.streams;
        let ended = ended.into_iter().filter_map(|token| Some((token, streams.remove(&token)?.0)));
        pumped.ended.extend(ended);
        pumped
    }

    /// Everything that is left, when nothing more can come. Returns the streams, and what went wrong
    /// with the log.
    pub(super) fn finish(
        &mut self,
        scratch: &mut Scratch,
    ) -> (Vec<(u64, OwnedFd)>, Option<io::Error>) {
        // As much as the pipe holds at most: a process that was left behind may write for ever.
        let mut pumped = self.pump(32, scratch);
        let stamp = Stamp::new(clock::now());
        for (_, lines) in self.streams.values_mut() {
            lines.finish(&stamp, &mut scratch.lines);
        }
        pumped.append(&mut self.log, &mut scratch.lines);
        let rest = std::mem::take(&mut self.streams);
        pumped.ended.extend(rest.into_iter().map(|(token, (fd, _))| (token, fd)));
        self.watchers.clear();
        (pumped.ended, pumped.trouble)
    }
}

/// What a container's log may take.
pub(super) fn flow_of(spec: &ContainerSpec) -> Flow {
    Flow::new(spec.log_rate.unwrap_or(ContainerSpec::DEFAULT_LOG_RATE), clock::monotonic())
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
        let flow = Some(flow_of(&made.spec));
        if made.spec.tty {
            return Ok((Output { log, flow, ..Output::default() }, Stdio::Terminal));
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
        let output = Output { log, flow, streams, stdin: keeper_stdin, ..Output::default() };
        Ok((output, Stdio::Streams([stdin, stdout, stderr])))
    }

    /// Has the loop tell when there is something to read.
    pub(super) fn watch_streams(
        &mut self,
        id: &ContainerId,
        streams: &mut BTreeMap<u64, (OwnedFd, Lines)>,
    ) -> io::Result<()> {
        for (_, (fd, lines)) in std::mem::take(streams) {
            let source = Source::Output(id.clone(), lines.stream());
            let token = self.watch(fd.as_fd(), source, EventFlags::IN)?;
            streams.insert(token, (fd, lines));
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
        let output = &mut container.output;
        let pumped = output.pump(1, &mut self.scratch);
        let now = clock::monotonic();
        let pause = output.flow.as_mut().and_then(|it| it.take(pumped.n_bytes, now));
        for (token, fd) in pumped.ended {
            self.unwatch(token, fd.as_fd());
        }
        if let Some(err) = pumped.trouble {
            self.complain("write a log", &err);
        }
        if let Some(pause) = pause {
            self.hold_output(id);
            self.held.insert(id.clone(), now + pause);
        }
    }

    /// Stops reading what a container writes; its pipes fill, and then it waits.
    fn hold_output(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get(id) else { return };
        for (token, (fd, _)) in &container.output.streams {
            self.sources.remove(token);
            // It can only fail if it is not watched, and then nothing is left to do.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// How long until a container that was held up may go on.
    pub(super) fn next_release(&self) -> Option<Duration> {
        let now = clock::monotonic();
        self.held.values().min().map(|at| at.saturating_duration_since(now))
    }

    /// Reads on where it is time.
    pub(super) fn release_output(&mut self) {
        let now = clock::monotonic();
        let due: Vec<_> =
            self.held.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.held.remove(&id);
            let Some(container) = self.containers.get_mut(&id) else { continue };
            let mut streams = std::mem::take(&mut container.output.streams);
            if let Err(err) = self.watch_streams(&id, &mut streams) {
                self.complain("read a log again", &err);
            }
            if let Some(container) = self.containers.get_mut(&id) {
                container.output.streams = streams;
            }
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
        let cannot = |err: io::Error| refused(&err);
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
