//! Framed, versioned connections between nodes, on the caller's readiness loop: no clock, and no threads but
//! for looking names up.
//!
//! [`Peers`] owns a listener and one connection per peer and [`Channel`]; the store with the higher id dials.
//! The caller feeds it readiness events and a timer, and takes [`PeerEvent`]s. A connection begins with a
//! handshake that establishes who is who (P7), then carries checksummed frames, each holding the messages of
//! one turn. Delivery is at most once and in order per connection; what was in flight when a connection broke
//! may or may not have arrived, and Raft, snapshots and forwarded requests each cope in their own way.
//!
//! What the frames carry is the caller's: stores speak [`PeerMessage`](quorate_proto::PeerMessage), members of a
//! `quorate-node` group [`NodeMessage`](quorate_proto::NodeMessage); anything else that is a [`PeerCodec`] would do.
//!
//! The bytes are drawn in `docs/formats-wire.md`. Left out: encryption and authentication. Whoever can
//! reach the port and knows the cluster's id is believed; the checks are against mistakes, not attackers.

mod admission;
mod api;
mod backoff;
mod close;
mod connection;
mod frame;
mod greeting;
mod inbox;
mod inquiry;
mod outbox;
mod peers;
mod resolve;

pub use api::{Channel, FRAME_BYTES_MAX_DEFAULT, PeerCodec, PeerConfig, PeerEvent, PeerStats};
pub use greeting::{PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN};
pub use inquiry::{Inquiry, inquire};
pub use peers::Peers;
pub use resolve::{Resolve, SystemResolver};
