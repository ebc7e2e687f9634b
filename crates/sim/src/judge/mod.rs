//! What clients saw, judged key by key. Every kind of key is chosen so that its history can be judged as it
//! grows, without a search: operations on it can be told apart by their effects.
//!
//! Judged is when an operation was invoked and when its answer came, in true time. An operation whose outcome is
//! unknown may have happened at any time after its invocation, once, or never; one that was refused, never.

mod counter;
mod list;
mod program_order;
mod register;

pub(crate) use counter::Counter;
pub(crate) use list::List;
pub(crate) use program_order::{ProgramOrder, Seen};
pub(crate) use register::Register;

pub(crate) const LINEARIZABLE: &str = "clients see a linearizable history";
pub(crate) const OUTCOME: &str = "every outcome is what it says (O)";
