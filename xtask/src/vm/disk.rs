//! A disk with a volatile write cache: what was not flushed is lost when the power goes.
//!
//! An NBD server (fixed newstyle) over a file. Writes wait in memory until the guest flushes; a
//! cut drops all of them, or applies some of them and a part of one, as a real disk might.
//! Nothing is acknowledged after the cut: a disk that did so would invent losses.
//!
//! Source: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::{
        fs::FileExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const RESPONSE_MAGIC: u32 = 0x6744_6698;
const FIXED_NEWSTYLE: u16 = 1;
const OPT_EXPORT_NAME: u32 = 1;
const OPT_ABORT: u32 = 2;
const OPT_INFO: u32 = 6;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_UNSUPPORTED: u32 = 0x8000_0001;
/// Has flags, flush and forced unit access.
const TRANSMISSION_FLAGS: u16 = 1 | 4 | 8;
const CMD_FLAG_FUA: u16 = 1;
const MAX_REQUEST: usize = 64 << 20;

/// What becomes of writes that were not flushed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// All are lost.
    DropAll,
    /// Each is lost or kept, one may be torn: by this seed.
    Some(u64),
}

struct State {
    file: File,
    size: u64,
    pending: Vec<(u64, Vec<u8>)>,
    powered: bool,
}

/// The disk, served on a socket until the power is cut.
pub(crate) struct Disk {
    pub(crate) socket: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Disk {
    pub(crate) fn serve(image: &Path, socket: &Path) -> anyhow::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(image)
            .with_context(|| format!("could not open {}", image.display()))?;
        let size = file.metadata()?.len();
        let state = Arc::new(Mutex::new(State { file, size, pending: Vec::new(), powered: true }));
        if socket.exists() {
            std::fs::remove_file(socket)?;
        }
        let listener = UnixListener::bind(socket)?;
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                std::thread::spawn(move || {
                    // The end of the connection is the end of this thread, however it comes.
                    let _ended = serve(stream, &state);
                });
            }
        });
        Ok(Self { socket: socket.to_owned(), state })
    }

    /// Cuts the power; the answer is how many writes were waiting.
    pub(crate) fn cut(&self, how: Cut) -> anyhow::Result<usize> {
        let mut state = lock(&self.state);
        state.powered = false;
        let pending = std::mem::take(&mut state.pending);
        let n_pending = pending.len();
        if let Cut::Some(seed) = how {
            let mut random = Random(seed | 1);
            for (offset, mut data) in pending {
                match random.next() % 4 {
                    0 | 1 => state.file.write_all_at(&data, offset)?,
                    2 => {
                        // Torn at a sector.
                        let sectors = data.len() as u64 / 512;
                        let kept = random.next() % (sectors + 1) * 512;
                        data.truncate(usize::try_from(kept)?);
                        state.file.write_all_at(&data, offset)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(n_pending)
    }

    /// Ends the disk as a clean shutdown does.
    pub(crate) fn close(&self) -> anyhow::Result<()> {
        let mut state = lock(&self.state);
        state.flush()?;
        state.powered = false;
        Ok(())
    }
}

/// xorshift64, seeded: a cut can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: UnixStream, state: &Mutex<State>) -> io::Result<()> {
    if !negotiate(&mut stream, lock(state).size)? {
        return Ok(());
    }
    loop {
        let mut head = [0; 28];
        stream.read_exact(&mut head)?;
        let request = Request::parse(&head)?;
        let mut data = Vec::new();
        if request.command == 1 {
            data.resize(request.len, 0);
            stream.read_exact(&mut data)?;
        }
        let mut state = lock(state);
        if !state.powered {
            return Ok(());
        }
        let answer = match request.command {
            0 => Some(state.read(request.offset, request.len)?),
            1 => {
                state.pending.push((request.offset, data));
                if request.flags & CMD_FLAG_FUA != 0 {
                    // Flushing more than asked is allowed, and simple.
                    state.flush()?;
                }
                Some(Vec::new())
            }
            3 => {
                state.flush()?;
                Some(Vec::new())
            }
            _ => None,
        };
        let Some(answer) = answer else { return Ok(()) };
        // Under the lock: an answer must not slip out after the cut.
        stream.write_all(&RESPONSE_MAGIC.to_be_bytes())?;
        stream.write_all(&0u32.to_be_bytes())?;
        stream.write_all(&request.handle)?;
        stream.write_all(&answer)?;
    }
}

impl State {
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        let end = offset + len as u64;
        for (at, data) in &self.pending {
            let (from, to) = ((*at).max(offset), (at + data.len() as u64).min(end));
            if from < to {
                let source = to_index(from - at)..to_index(to - at);
                bytes[to_index(from - offset)..to_index(to - offset)]
                    .copy_from_slice(&data[source]);
            }
        }
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        for (offset, data) in std::mem::take(&mut self.pending) {
            self.file.write_all_at(&data, offset)?;
        }
        Ok(())
    }
}

fn to_index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

struct Request {
    flags: u16,
    command: u16,
    handle: [u8; 8],
    offset: u64,
    len: usize,
}

impl Request {
    fn parse(head: &[u8; 28]) -> io::Result<Self> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let array =
            |from: usize| -> [u8; 8] { head[from..from + 8].try_into().unwrap_or_default() };
        let word = |from: usize| u16::from_be_bytes([head[from], head[from + 1]]);
        let magic = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let len = u32::from_be_bytes([head[24], head[25], head[26], head[27]]);
        let len = usize::try_from(len).map_err(|_| malformed())?;
        if magic != REQUEST_MAGIC || len > MAX_REQUEST {
            return Err(malformed());
        }
        Ok(Self {
            flags: word(4),
            command: word(6),
            handle: array(8),
            offset: u64::from_be_bytes(array(16)),
            len,
        })
    }
}

/// `false` when the client goes away without a disk.
fn negotiate(stream: &mut UnixStream, size: u64) -> io::Result<bool> {
    stream.write_all(&MAGIC.to_be_bytes())?;
    stream.write_all(&OPTION_MAGIC.to_be_bytes())?;
    stream.write_all(&FIXED_NEWSTYLE.to_be_bytes())?;
    let mut flags = [0; 4];
    stream.read_exact(&mut flags)?;
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let option = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let len = u32::from_be_bytes([head[12], head[13], head[14], head[15]]);
        let mut data = vec![0; usize::try_from(len).unwrap_or(0).min(MAX_REQUEST)];
        stream.read_exact(&mut data)?;
        match option {
            OPT_EXPORT_NAME => {
                stream.write_all(&size.to_be_bytes())?;
                stream.write_all(&TRANSMISSION_FLAGS.to_be_bytes())?;
                stream.write_all(&[0; 124])?;
                return Ok(true);
            }
            OPT_INFO | OPT_GO => {
                let mut info = vec![0, 0];
                info.extend_from_slice(&size.to_be_bytes());
                info.extend_from_slice(&TRANSMISSION_FLAGS.to_be_bytes());
                reply(stream, option, REP_INFO, &info)?;
                reply(stream, option, REP_ACK, &[])?;
                if option == OPT_GO {
                    return Ok(true);
                }
            }
            OPT_ABORT => {
                reply(stream, option, REP_ACK, &[])?;
                return Ok(false);
            }
            _ => reply(stream, option, REP_UNSUPPORTED, &[])?,
        }
    }
}

fn reply(stream: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    stream.write_all(&REPLY_MAGIC.to_be_bytes())?;
    stream.write_all(&option.to_be_bytes())?;
    stream.write_all(&kind.to_be_bytes())?;
    stream.write_all(&u32::try_from(data.len()).unwrap_or(0).to_be_bytes())?;
    stream.write_all(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(dir: &Path) -> State {
        let path = dir.join("disk");
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        file.set_len(8192).unwrap();
        State { file, size: 8192, pending: Vec::new(), powered: true }
    }

    #[test]
    fn unflushed_writes_are_seen_and_then_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = state(dir.path());
        state.pending.push((100, vec![1; 10]));
        state.flush().unwrap();
        state.pending.push((105, vec![2; 10]));
        assert_eq!(state.read(100, 20).unwrap(), [vec![1; 5], vec![2; 10], vec![0; 5]].concat());
        let disk = Disk { socket: PathBuf::new(), state: Arc::new(Mutex::new(state)) };
        assert_eq!(disk.cut(Cut::DropAll).unwrap(), 1);
        let state = lock(&disk.state);
        assert_eq!(state.read(100, 12).unwrap(), [vec![1; 10], vec![0; 2]].concat());
    }
}
