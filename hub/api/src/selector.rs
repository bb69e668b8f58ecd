//! Label and field selectors: parsed from query parameters or objects, matched against objects.

mod field;
mod label;
mod parse;

pub use field::FieldSelector;
pub use label::{LabelSelector, Operator, Requirement};

#[cfg(test)]
mod tests;
