//! A layer's way from a blob to a directory that overlayfs can use.
//!
//! `stream` undoes the compression, counts and hashes; `tar` cuts the stream into entries; `apply`
//! makes the entries below one directory descriptor; `lower` looks things up in the layers beneath.
//! Everything a layer says is hostile: nothing here trusts a name, a size or an order.

pub(crate) mod apply;
mod attributes;
mod lower;
mod root;
pub(crate) mod stream;
pub(crate) mod tar;

use std::io;

/// Why a layer cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    /// The layer is at fault.
    #[error("entry {entry:?}: {message}")]
    Malformed { entry: String, message: String },
    /// A limit is exceeded.
    #[error("more than {limit} {what}")]
    TooBig { what: &'static str, limit: u64 },
    /// The disk is at fault.
    #[error("could not write entry {entry:?}")]
    Disk {
        entry: String,
        #[source]
        err: io::Error,
    },
    /// Nobody waits for it any more.
    #[error("interrupted")]
    Interrupted,
}

impl LayerError {
    /// Tells errors of names and shapes, which the layer chose, from errors of the disk.
    pub(crate) fn at(entry: &[u8], err: impl Into<io::Error>) -> Self {
        use rustix::io::Errno;

        let err = err.into();
        let entry = shorten(entry);
        let of_the_layer = [
            Errno::NAMETOOLONG,
            Errno::LOOP,
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::XDEV,
            Errno::NOENT,
            Errno::EXIST,
            Errno::INVAL,
            Errno::MLINK,
        ];
        match Errno::from_io_error(&err) {
            Some(errno) if !of_the_layer.contains(&errno) => Self::Disk { entry, err },
            Some(_) | None => Self::Malformed { entry, message: err.to_string() },
        }
    }

    pub(crate) fn malformed(entry: &[u8], message: impl Into<String>) -> Self {
        Self::Malformed { entry: shorten(entry), message: message.into() }
    }
}

/// At most 120 printable characters of a name.
fn shorten(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(480)]).into_owned();
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(120).collect()
}

#[cfg(test)]
pub(crate) mod tests;
