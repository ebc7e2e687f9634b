//! Wire and disk formats, versioned: what a log entry carries, what nodes say to each other, what a
//! snapshot chunk holds.
//!
//! The types are plain data; their bytes are written and read by hand in `codec`, and drawn in
//! `docs/formats-wire.md`. Decoding borrows: every `Bytes` in a decoded value is a slice of the input, so
//! whoever keeps one for long keeps the whole input alive and should copy it instead.

mod codec;
mod command;
mod control;
mod heartbeat;
mod membership;
mod node;
mod peer;
mod placement;
mod recovery;
mod roles;

pub use codec::{
    COMMAND_VERSION, DecodeError, DecodeProblem, META_VERSION, NodeMessages, Pairs, PeerMessages,
    decode_admission, decode_conf_change, decode_conf_state, decode_config, decode_delta, decode_entry,
    decode_epoch, decode_first_state, decode_losses, decode_membership, decode_moves, decode_pairs,
    decode_payload, decode_plan, decode_recovery, decode_service, decode_shard_info, decode_shards,
    decode_snapshot_meta, decode_store_record, decode_store_rows, decode_stores, encode_admission,
    encode_conf_change, encode_conf_state, encode_config, encode_delta, encode_entry, encode_epoch,
    encode_first_state, encode_losses, encode_membership, encode_moves, encode_pair, encode_payload,
    encode_plan, encode_recovery, encode_service, encode_set, encode_set_to_bytes, encode_shard_info,
    encode_shards, encode_snapshot_meta, encode_store_record, encode_store_rows, encode_stores, is_split,
};
pub use command::{
    Answer, AnswerRow, Command, CommandError, ExpireCondition, Expiry, HeldAnswer, Kept, Op, Query,
    ScanPosition, Session, SessionRow, SessionTotals, SessionWrite, SetCondition, SetExpiry, Split,
};
pub use control::{
    ADDRESS_BYTES_MAX, Admission, ControlCommand, ControlQuery, FirstState, IDS_MAX, LABEL_BYTES_MAX,
    LABELS_MAX, Labels, Service, ShardLookup, StoreRecord, TIMESTAMP_COUNT_BITS, TIMESTAMPS_MAX, ZONE,
    are_labels,
};
pub use heartbeat::{
    HEARTBEAT_SHARDS_MAX, Heartbeat, HeartbeatAnswer, MemberRole, ORDERS_MAX, Order, ShardHeartbeat,
    ShardMember, ShardRow, StoreCounts, StoreHeartbeat, StoreRow, StoreState,
};
pub use membership::{Manage, Membership, ShardInfo, SplitIds};
pub use node::{NodeMessage, NodeSnapshotAck, NodeSnapshotChunk};
pub use peer::{
    Epoch, ForwardBody, Outcome, PeerMessage, RaftEnvelope, Request, Response, SessionRefusal, SnapshotAck,
    SnapshotChunk, SnapshotHeader, SnapshotReport, SnapshotRequest, SnapshotState, StoreHealth, TermAnswer,
    TermQuery, UnknownReason,
};
pub use placement::{Config, Delta, GroupId, Groups, MoveRow, Place, PlacementCommand, PlannedMove};
pub use recovery::{Left, LossRow, RECOVERY_STRIDE, RUNS_MAX, Recovery, SURVIVORS_MAX, Survivor};
pub use roles::Roles;
