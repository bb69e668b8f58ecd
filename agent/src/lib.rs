//! The node program: composition of decisions (`agent-core`) and effects.

pub mod clock;
pub mod desired;
pub mod join;
pub mod link;
pub mod outbox;

/// The text of an error with all its causes, for logs and status.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        text.push_str(": ");
        text.push_str(&err.to_string());
        source = err.source();
    }
    text
}
