//! What the client decides, without sockets, clocks or tasks: where a command goes, what follows from how an attempt
//! ended, and under which identity a write is sent. Times and random numbers come in as arguments, so tests drive it
//! step by step.

pub(crate) mod backoff;
pub(crate) mod call;
pub(crate) mod routes;
pub(crate) mod sessions;
pub(crate) mod verdict;
