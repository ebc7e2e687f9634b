//! PS-09: which messages may make a replica.

use quorate_proto::{PeerMessage, RaftEnvelope};
use quorate_raft::{Index, Message, MessageBody, ReadContext, ReplicaId, Snapshot, SnapshotMeta, Term};
use quorate_storage::ShardId;
use quorate_store::StoreOptions;

use crate::cluster::Cluster;

/// Unknown to every store.
const STRANGE: ShardId = ShardId(77);

/// What a message to a replica that does not exist does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Makes {
    /// A leader speaks: the replica was added.
    Replica,
    /// A candidate may be of a shard whose split was not applied here: only one that asks for long.
    ReplicaInTime,
    Nothing,
}

/// Lists every kind, so that a new one forces a decision.
fn what(body: &MessageBody) -> Makes {
    match body {
        MessageBody::Append { .. } | MessageBody::Heartbeat { .. } => Makes::Replica,
        MessageBody::Vote { .. } | MessageBody::PreVote { .. } => Makes::ReplicaInTime,
        MessageBody::AppendResponse { .. }
        | MessageBody::HeartbeatResponse { .. }
        | MessageBody::VoteResponse { .. }
        | MessageBody::PreVoteResponse { .. }
        | MessageBody::Snapshot(_)
        | MessageBody::TimeoutNow
        | MessageBody::TransferLeader { .. }
        | MessageBody::ReadIndex { .. }
        | MessageBody::ReadIndexResponse { .. }
        | MessageBody::Propose { .. } => Makes::Nothing,
    }
}

fn bodies() -> Vec<MessageBody> {
    let (index, term, context) = (Index(5), Term(2), ReadContext(9));
    let meta = SnapshotMeta {
        index,
        term,
        ..SnapshotMeta::default()
    };
    vec![
        MessageBody::Append {
            prev_index: index,
            prev_term: term,
            commit: index,
            entries: vec![],
        },
        MessageBody::AppendResponse { index, reject: None },
        MessageBody::Heartbeat {
            commit: Index(0),
            context: None,
        },
        MessageBody::HeartbeatResponse { context: None },
        MessageBody::Vote {
            last_index: index,
            last_term: term,
            transfer: false,
        },
        MessageBody::VoteResponse { reject: false },
        MessageBody::PreVote {
            last_index: index,
            last_term: term,
            transfer: false,
        },
        MessageBody::PreVoteResponse { reject: false },
        MessageBody::Snapshot(Box::new(Snapshot {
            meta,
            data: bytes::Bytes::new(),
        })),
        MessageBody::TimeoutNow,
        MessageBody::TransferLeader {
            target: ReplicaId(51),
        },
        MessageBody::ReadIndex { context },
        MessageBody::ReadIndexResponse { index, context },
        MessageBody::Propose { payloads: vec![] },
    ]
}

fn envelope(shard: ShardId, to: u64, body: MessageBody) -> PeerMessage {
    let message = Message {
        from: ReplicaId(50),
        to: ReplicaId(to),
        term: Term(3),
        body,
    };
    PeerMessage::Raft(RaftEnvelope {
        shard,
        sent_at_us: 0,
        message,
    })
}

#[test]
fn ps_09_only_a_leader_or_a_patient_candidate_makes_a_replica() {
    let bodies = bodies();
    for (at, body) in bodies.iter().enumerate() {
        let first = bodies
            .iter()
            .position(|other| std::mem::discriminant(other) == std::mem::discriminant(body));
        assert_eq!(first, Some(at), "each kind once");
        let options = StoreOptions::default();
        let mut cluster = Cluster::new(3, &options);
        let is_there = |cluster: &Cluster| cluster.nodes[0].store.descriptor(STRANGE).is_some();
        cluster.peer(0, 2, envelope(STRANGE, 51, body.clone()));
        assert_eq!(
            is_there(&cluster),
            what(body) == Makes::Replica,
            "{body:?}, said once"
        );
        // Said every tick for an election timeout and more.
        for _ in 0..options.election_ticks + 2 {
            cluster.tick(1);
            cluster.peer(0, 2, envelope(STRANGE, 51, body.clone()));
        }
        assert_eq!(
            is_there(&cluster),
            what(body) != Makes::Nothing,
            "{body:?}, said for long"
        );
    }
    let seen = bodies.iter().map(what);
    for kind in [Makes::Replica, Makes::ReplicaInTime, Makes::Nothing] {
        assert!(seen.clone().any(|makes| makes == kind), "{kind:?}");
    }
}
