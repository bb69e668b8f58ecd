//! CEL: expressions in rules of custom resources, in admission policies and in match conditions.
//!
//! A [`Program`] is compiled once; a [`Session`] evaluates programs over values and counts what
//! they cost. Nothing an expression says can run away: its text and its nesting are bounded when
//! it is compiled, its steps when it is evaluated, and both are answered as Kubernetes answers.
//!
//! ```
//! use hub_api::cel::{Program, Session, value};
//!
//! let program = Program::compile("self.replicas <= 5", &["self"]).unwrap();
//! let object = serde_json::json!({"replicas": 3});
//! let session = Session::new(&[&object]);
//! assert_eq!(session.evaluate_bool(&program, &[("self", value(&object))]), Ok(true));
//! ```
//!
//! Must never perform: no clock, no files, no randomness can be reached from an expression.

mod authorizer;
mod program;
mod session;
mod values;

pub use authorizer::{Answer, Asked, Question, authorizer};
pub(crate) use program::marked;
pub use program::{CompileError, Program};
pub use session::{EvaluateError, PER_CALL_LIMIT, Session, TOTAL_LIMIT};
pub use values::{json, map, optional, value};

/// A value of an expression.
pub use kube_cel::cel::Value;

#[cfg(test)]
mod tests;
