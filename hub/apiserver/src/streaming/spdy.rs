//! SPDY/3.1, as far as `kubectl exec`, `attach`, `cp` and `port-forward` need it: the codec and
//! the server's end of a session. Peers of this protocol keep no flow control windows, therefore
//! back-pressure is that of the connection; every queue is bounded all the same.

mod dictionary;
pub(crate) mod frame;
mod headers;
pub(crate) mod session;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use headers::Headers;
pub(crate) use session::{Session, SpdyStream, StreamReader, StreamWriter};

/// Why a SPDY connection ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpdyError {
    #[error("could not read a malformed {what}")]
    Malformed { what: &'static str },
    #[error("could not take an oversized {what}")]
    TooLarge { what: &'static str },
    #[error("could not open more than {limit} streams")]
    TooManyStreams { limit: usize },
    #[error("could not use the connection")]
    Io {
        #[source]
        err: std::io::Error,
    },
    #[error("could not go on: the session is closed")]
    Closed,
}
