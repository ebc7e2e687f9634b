//! What goes in and what comes out: configuration, events, counters.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use quorate_proto::{DecodeError, NodeMessage, PeerMessage};
use quorate_storage::{Identity, Incarnation, StoreId};

/// What [`PeerConfig::frame_bytes_max`] should be unless there is a reason.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 64 << 20;

/// Who this node is and whom it talks to.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// This store's.
    pub identity: Identity,
    /// Drawn at random at each start of the process. Also seeds the jitter of reconnects.
    pub process: u64,
    /// Where peers connect to.
    pub listen: SocketAddr,
    /// Where the other stores listen, `host:port`, resolved again at every reconnect. Only stores with a lower
    /// id are dialed; the others dial here. This store's own entry is ignored.
    pub addresses: BTreeMap<StoreId, String>,
    /// Where clients reach this node; told to peers in the handshake. At most 1024 bytes.
    pub client_address: String,
    /// Where its HTTP and gRPC are; told to peers in the handshake. At most 1024 bytes.
    pub http_address: String,
    /// The longest frame, sent or received, in bytes; the same on all nodes. It bounds a message too.
    pub frame_bytes_max: usize,
    /// Tokens from this one on belong to the transport.
    pub first_token: usize,
}

/// What travels in frames: messages that delimit themselves.
pub trait PeerCodec: Sized {
    /// Appends the message's bytes.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads the messages of a frame, in order; the first error ends it. Byte strings are slices of `frame`.
    fn decode_all(frame: Bytes) -> impl Iterator<Item = Result<Self, DecodeError>>;
}

impl PeerCodec for PeerMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        PeerMessage::encode(self, out);
    }
    fn decode_all(frame: Bytes) -> impl Iterator<Item = Result<Self, DecodeError>> {
        PeerMessage::decode_all(frame)
    }
}

impl PeerCodec for NodeMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        NodeMessage::encode(self, out);
    }
    fn decode_all(frame: Bytes) -> impl Iterator<Item = Result<Self, DecodeError>> {
        NodeMessage::decode_all(frame)
    }
}

/// Which of the two connections of a pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Channel {
    /// Consensus and forwarded requests.
    Raft,
    /// Snapshots, so that they do not stand in the way of heartbeats.
    Bulk,
}

impl Channel {
    pub(crate) const ALL: [Channel; 2] = [Channel::Raft, Channel::Bulk];

    pub(crate) const fn position(self) -> usize {
        match self {
            Channel::Raft => 0,
            Channel::Bulk => 1,
        }
    }
}

/// What happened on the connections.
#[derive(Clone, PartialEq, Debug)]
pub enum PeerEvent<M = PeerMessage> {
    /// The Raft channel to a store is ready.
    Up {
        /// The peer.
        store: StoreId,
        /// Its process: another one than last time means that it restarted (Z2, R1).
        process: u64,
        /// Its incarnation.
        incarnation: Incarnation,
        /// Where clients reach it.
        client_address: String,
        /// Where its HTTP and gRPC are.
        http_address: String,
    },
    /// The Raft channel to a store broke: what was in flight may or may not have arrived. Follows an
    /// [`PeerEvent::Up`] of the same store.
    Down {
        /// The peer.
        store: StoreId,
    },
    /// A message arrived. Its byte strings are slices of the receive buffer: copy what is kept for long.
    Message {
        /// The sender.
        from: StoreId,
        /// What it says.
        message: M,
    },
    /// A handshake failed: this side or the other said no.
    Refused {
        /// The other side, if it said who it is.
        store: Option<StoreId>,
        /// What is wrong, for the operator.
        reason: String,
        /// A peer refused this store's identity (its cluster or incarnation). The node should stop and say so.
        fatal: bool,
    },
    /// First contact with a store. The owner records the binding durably (P7); it is in force here at once.
    Bind {
        /// The peer.
        store: StoreId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PeerStats {
    /// Bytes read from sockets.
    pub bytes_in: u64,
    /// Bytes written to sockets.
    pub bytes_out: u64,
    /// Frames received, pings included.
    pub frames_in: u64,
    /// Frames sent, pings included.
    pub frames_out: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Messages accepted for sending.
    pub messages_out: u64,
    /// Messages not accepted for sending: no connection, or too long.
    pub messages_dropped: u64,
    /// Connections that became ready for a store and channel that had one before.
    pub reconnects: u64,
}
