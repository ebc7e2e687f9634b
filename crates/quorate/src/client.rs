//! What the commands and the integration tests talk to a node with.

pub use quorate_client::plain::{Client, ClientError};
pub use quorate_client::resp::{self, Reply};
pub use quorate_client::slots;
