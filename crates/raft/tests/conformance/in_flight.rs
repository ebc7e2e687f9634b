//! What lies between nodes, and between a node and its storage threads.

use quorate_raft::{AppendDone, Entry, Message, ReplicaId, Snapshot};

use crate::describe;

#[derive(Clone, Debug)]
pub(crate) enum InFlight {
    /// A message between members, or of a member to itself.
    Peer(Message),
    /// The append thread of `node` reports that its work is durable.
    Appended {
        node: ReplicaId,
        done: AppendDone,
        snapshot: Option<Box<Snapshot>>,
    },
    /// The apply thread of `node` reports that `entries` are applied.
    Applied { node: ReplicaId, entries: Vec<Entry> },
}

impl InFlight {
    pub(crate) fn to(&self) -> ReplicaId {
        match self {
            InFlight::Peer(message) => message.to,
            InFlight::Appended { node, .. } | InFlight::Applied { node, .. } => *node,
        }
    }

    /// Local ones are never lost.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            InFlight::Peer(message) => message.from == message.to,
            InFlight::Appended { .. } | InFlight::Applied { .. } => true,
        }
    }

    /// The name that `deliver-msgs type=` uses.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            InFlight::Peer(message) => describe::message_kind(message),
            InFlight::Appended { .. } => "MsgStorageAppendResp",
            InFlight::Applied { .. } => "MsgStorageApplyResp",
        }
    }

    pub(crate) fn describe(&self) -> String {
        describe::in_flight(self, "")
    }
}
