//! What a request says, parsed: its path, its query, what it accepts and what it sends.

pub(crate) mod accept;
pub(crate) mod body;
#[cfg(test)]
mod fuzz;
pub(crate) mod path;
pub(crate) mod query;
