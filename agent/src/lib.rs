//! The node program: composition of decisions (`agent-core`) and effects.

pub mod desired;
