//! Messages as traces show them, and as they come off the wire.

use quorate_proto::{ForwardBody, Outcome, PeerMessage, ShardHeartbeat};
use quorate_raft::{Message, MessageBody};

/// A number that tells messages apart well enough for a digest.
pub(crate) fn kind(message: &PeerMessage) -> u64 {
    match message {
        PeerMessage::Raft(envelope) => {
            let message = &envelope.message;
            let position = match &message.body {
                MessageBody::Append {
                    prev_index,
                    entries,
                    commit,
                    ..
                } => prev_index.0 << 20 ^ commit.0 << 4 ^ entries.len() as u64,
                MessageBody::AppendResponse { index, .. } => index.0,
                _ => 0,
            };
            message.from.0 << 48 ^ message.term.0 << 40 ^ position
        }
        PeerMessage::Request(request) => 1 << 60 ^ request.id,
        PeerMessage::Response(response) => 2 << 60 ^ response.id,
        PeerMessage::SnapshotChunk(chunk) => 3 << 60 ^ u64::from(chunk.seq),
        PeerMessage::SnapshotAck(ack) => 4 << 60 ^ ack.id,
        PeerMessage::TermQuery(query) => 5 << 60 ^ query.shard.0,
        PeerMessage::TermAnswer(answer) => 6 << 60 ^ answer.term.0,
        PeerMessage::StoreHealth(health) => 7 << 60 ^ u64::from(health.is_full),
        PeerMessage::ShardInfo(info) => 8 << 60 ^ info.shard.0 << 20 ^ info.epoch.conf_ver,
        PeerMessage::ShardQuery { shard } => 9 << 60 ^ shard.0,
        PeerMessage::Heartbeat(beat) => 10 << 60 ^ beat.seq << 20 ^ beat.shards.len() as u64,
        PeerMessage::HeartbeatAnswer(answer) => 11 << 60 ^ answer.seq << 20 ^ answer.term.0,
        PeerMessage::Survivors(survivors) => 14 << 60 ^ survivors.len() as u64,
        PeerMessage::Recover(recovery) => 15 << 60 ^ recovery.shard.0,
        PeerMessage::SnapshotRequest(request) => 12 << 60 ^ request.id,
        PeerMessage::SnapshotReport(report) => 13 << 60 ^ report.id << 4 ^ report.state as u64,
    }
}

/// Whether it answers another message.
pub(crate) fn is_answer(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Raft(envelope) => envelope.message.body.is_response(),
        PeerMessage::Response(_)
        | PeerMessage::SnapshotAck(_)
        | PeerMessage::TermAnswer(_)
        | PeerMessage::SnapshotReport(_)
        | PeerMessage::HeartbeatAnswer(_) => true,
        PeerMessage::Request(_)
        | PeerMessage::SnapshotChunk(_)
        | PeerMessage::SnapshotRequest(_)
        | PeerMessage::TermQuery(_)
        | PeerMessage::ShardInfo(_)
        | PeerMessage::ShardQuery { .. }
        | PeerMessage::StoreHealth(_)
        | PeerMessage::Survivors(_)
        | PeerMessage::Recover(_)
        | PeerMessage::Heartbeat(_) => false,
    }
}

/// One line.
pub(crate) fn text(message: &PeerMessage) -> String {
    match message {
        PeerMessage::Raft(envelope) => format!("s{} {}", envelope.shard, raft_text(&envelope.message)),
        PeerMessage::Request(request) => {
            let body = match &request.body {
                ForwardBody::Write(op) => format!("{op:?}"),
                ForwardBody::Read(query) => format!("{query:?}"),
                ForwardBody::Manage(wish) => format!("{wish:?}"),
            };
            format!("s{} request {}: {body}", request.shard, request.id)
        }
        PeerMessage::Response(response) => match &response.outcome {
            Outcome::Done(answer) => format!("response {}: {answer:?}", response.id),
            other => format!("response {}: {other:?}", response.id),
        },
        PeerMessage::SnapshotChunk(chunk) => format!(
            "s{} snapshot {} at {}@{} chunk {}{} ({} bytes)",
            chunk.shard,
            chunk.id,
            chunk.header.meta.index,
            chunk.header.meta.term,
            chunk.seq,
            if chunk.last { " (last)" } else { "" },
            chunk.pairs.len()
        ),
        PeerMessage::SnapshotRequest(request) => format!("s{} {request:?}", request.shard),
        PeerMessage::SnapshotReport(report) => format!("s{} {report:?}", report.shard),
        PeerMessage::TermQuery(query) => format!("s{} {query:?}", query.shard),
        PeerMessage::TermAnswer(answer) => format!("s{} {answer:?}", answer.shard),
        PeerMessage::ShardInfo(info) => format!(
            "s{} conf_ver={} members={:?} leader={:?}",
            info.shard, info.epoch.conf_ver, info.membership.members, info.leader
        ),
        PeerMessage::ShardQuery { shard } => format!("s{shard} who holds it?"),
        PeerMessage::StoreHealth(health) => format!("{health:?}"),
        PeerMessage::Heartbeat(beat) => {
            let shard = |told: &ShardHeartbeat| {
                let ShardHeartbeat {
                    shard, epoch, term, ..
                } = told;
                format!("s{shard} {}.{}@{term}", epoch.version, epoch.conf_ver)
            };
            let shards: Vec<String> = beat.shards.iter().map(shard).collect();
            format!("controller heartbeat {}: {}", beat.seq, shards.join(" "))
        }
        PeerMessage::HeartbeatAnswer(answer) => format!("{answer:?}"),
        PeerMessage::Survivors(survivors) => format!("{survivors:?}"),
        PeerMessage::Recover(recovery) => format!("{recovery:?}"),
        PeerMessage::SnapshotAck(ack) => {
            format!(
                "s{} snapshot {} ack next={:?} done={}",
                ack.shard, ack.id, ack.next, ack.done
            )
        }
    }
}

fn raft_text(message: &Message) -> String {
    let body = match &message.body {
        MessageBody::Append {
            prev_index,
            prev_term,
            commit,
            entries,
        } => {
            let list: Vec<String> = entries
                .iter()
                .map(|entry| format!("{}@{}", entry.index, entry.term))
                .collect();
            format!(
                "Append base={prev_index}@{prev_term} commit={commit} [{}]",
                list.join(" ")
            )
        }
        other => format!("{other:?}"),
    };
    format!("{}@{} -> {} {body}", message.from, message.term, message.to)
}

/// Bytes on the wire, without the frame.
pub(crate) fn encoded_len(message: &PeerMessage) -> u64 {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes.len() as u64
}

/// What the other side reads of a message.
pub(crate) fn through_wire(message: &PeerMessage) -> PeerMessage {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    match PeerMessage::decode(bytes.into()) {
        Ok(read) => {
            assert_eq!(&read, message, "a message comes off the wire as it went on");
            read
        }
        Err(error) => unreachable!("a message that was encoded cannot be decoded: {error}: {message:?}"),
    }
}
