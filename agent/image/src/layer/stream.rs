//! The uncompressed bytes of a layer, counted and hashed as they are read.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sha2::{Digest as _, Sha256};

use crate::{Digest, Limits, layer::LayerError};

/// Raised when nobody waits for the work any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reads a blob, whatever it is compressed with. What made a read fail is kept in [`Self::fault`].
pub(crate) struct LayerStream {
    source: Box<dyn Read + Send>,
    hasher: Sha256,
    n_out: u64,
    limit: u64,
    what: &'static str,
    interrupt: Interrupt,
    fault: Option<Fault>,
}

#[derive(Clone, Copy)]
enum Fault {
    TooBig,
    Interrupted,
}

impl LayerStream {
    /// The compression is told by the first bytes, since media types lie.
    pub(crate) fn open(blob: File, limits: &Limits, interrupt: Interrupt) -> io::Result<Self> {
        let n_in = blob.metadata()?.len();
        let mut reader = BufReader::with_capacity(128 << 10, blob);
        let magic = io::BufRead::fill_buf(&mut reader)?;
        let source: Box<dyn Read + Send> = match magic {
            [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)
            }
            _ => Box::new(reader),
        };
        let by_ratio = n_in.saturating_mul(limits.ratio).max(limits.ratio_floor);
        let (limit, what) = if by_ratio < limits.unpacked_bytes {
            (by_ratio, "bytes for the layer's compressed size")
        } else {
            (limits.unpacked_bytes, "uncompressed bytes in a layer")
        };
        Ok(Self { source, hasher: Sha256::new(), n_out: 0, limit, what, interrupt, fault: None })
    }

    /// Reads what is left, and says what all of it hashed to.
    pub(crate) fn finish(mut self) -> Result<Digest, LayerError> {
        let mut rest = vec![0; 64 << 10];
        loop {
            match self.read(&mut rest) {
                Ok(0) => return Ok(Digest::from_hasher(self.hasher)),
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(self.explain(b"", err)),
            }
        }
    }

    /// The reason behind a failed read.
    pub(crate) fn explain(&self, entry: &[u8], err: io::Error) -> LayerError {
        match self.fault {
            Some(Fault::TooBig) => LayerError::TooBig { what: self.what, limit: self.limit },
            Some(Fault::Interrupted) => LayerError::Interrupted,
            None => LayerError::at(entry, err),
        }
    }
}

impl Read for LayerStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.is_raised() {
            self.fault = Some(Fault::Interrupted);
            return Err(io::Error::other("interrupted"));
        }
        let n = self.source.read(buf)?;
        self.n_out += u64::try_from(n).unwrap_or(u64::MAX);
        if self.n_out > self.limit {
            self.fault = Some(Fault::TooBig);
            return Err(io::Error::other("too much"));
        }
        self.hasher.update(&buf[..n]);
        Ok(n)
    }
}
