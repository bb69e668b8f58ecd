//! What a request says, parsed: its path, its query, what it accepts and what it sends.

pub(crate) mod accept;
#[cfg(test)]
mod fuzz;
pub(crate) mod path;
pub(crate) mod query;
