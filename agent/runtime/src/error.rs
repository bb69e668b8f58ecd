//! What can go wrong between the agent and the keeper.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why there is no keeper to talk to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The directory for the socket cannot be used.
    #[error("could not prepare {}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The keeper process could not be started.
    #[error("could not start the keeper")]
    Spawn {
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The keeper was started and gave up.
    #[error("could not start the keeper: {reason}")]
    GaveUp {
        /// What it said.
        reason: String,
    },
    /// The socket is there, and nobody answers as should be.
    #[error("could not connect to {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
}

/// Why a question to the keeper has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection broke before the answer came: whether it was done is not known. Ask again.
    #[error("could not {operation}: the keeper is out of reach")]
    Unreachable {
        /// What was asked for.
        operation: &'static str,
    },
    /// The keeper answered with a reason.
    #[error("could not {operation}")]
    Refused {
        /// What was asked for.
        operation: &'static str,
        /// Why not.
        #[source]
        refusal: Refusal,
    },
    /// This side of the streams could not be set up.
    #[error("could not {operation}: no streams")]
    Streams {
        /// What was asked for.
        operation: &'static str,
        /// Why not.
        #[source]
        err: io::Error,
    },
}

impl CallError {
    /// Whether trying again, with nothing changed, can succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Streams { .. } => true,
            Self::Refused { refusal, .. } => refusal.is_retryable(),
        }
    }

    /// The keeper's reason, if it gave one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            Self::Unreachable { .. } | Self::Streams { .. } => None,
        }
    }
}

/// The keeper's reason for not doing what it was asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refusal {
    /// The class of reason.
    pub kind: RefusalKind,
    /// The reason in words, made for the operator.
    pub message: String,
}

/// Classes of reasons.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum RefusalKind {
    /// No such sandbox or container.
    NotFound,
    /// The container does not run.
    NotRunning,
    /// It exists with another specification.
    SpecMismatch,
    /// The specification makes no sense.
    InvalidSpec,
    /// The command does not exist in the container (exit code 127 elsewhere).
    CommandNotFound,
    /// The command cannot be run (exit code 126 elsewhere).
    CommandNotExecutable,
    /// The container could not be set up.
    Setup,
    /// The kernel refused something.
    Kernel,
}

impl Refusal {
    /// Makes a reason.
    pub(crate) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Whether trying again, with nothing changed, can succeed.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            // The kernel may free what it lacked; volumes and images may be repaired.
            RefusalKind::Setup | RefusalKind::Kernel => true,
            // Only another specification or another image helps.
            RefusalKind::NotFound
            | RefusalKind::NotRunning
            | RefusalKind::SpecMismatch
            | RefusalKind::InvalidSpec
            | RefusalKind::CommandNotFound
            | RefusalKind::CommandNotExecutable => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
