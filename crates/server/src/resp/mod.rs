//! Redis's wire protocol: requests in, replies out, and nothing about what they mean.
//!
//! [`Parser`] cuts requests (arrays of bulk strings, or inline lines) out of an input buffer as they arrive.
//! It keeps its place between calls, so a large value that comes in thousands of pieces is walked once, and
//! arguments are slices of the input, not copies. Nothing is reserved for a length that was only announced.
//! [`Writer`] encodes replies as RESP2 or RESP3, and [`RespValue`] is a reply as a tree, for the rare ones
//! that are easier built than written.

mod inline;
mod parse;
mod value;
mod write;

pub(crate) use parse::parse_i64;
pub use parse::{Args, Limits, Parser, ProtocolError};
pub use value::RespValue;
pub use write::{Protocol, Writer};
