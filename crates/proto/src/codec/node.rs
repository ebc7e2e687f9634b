//! Messages between members of a `quorate-node` group: a tag byte and the message, delimiting themselves.

use bytes::Bytes;
use quorate_raft::{Message, SnapshotMeta, Term};

use super::writer::{put_bytes, put_varint};
use super::{Reader, Wire};
use crate::{DecodeError, NodeMessage, NodeSnapshotAck, NodeSnapshotChunk};

const TAG_RAFT: u8 = 1;
const TAG_SNAPSHOT_CHUNK: u8 = 2;
const TAG_SNAPSHOT_ACK: u8 = 3;
const TAG_REMOVED: u8 = 4;

impl NodeMessage {
    /// Appends the message's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }

    /// Reads a message; its byte strings are slices of `source`.
    ///
    /// # Errors
    /// Anything but exactly one message.
    pub fn decode(source: Bytes) -> Result<NodeMessage, DecodeError> {
        let mut reader = Reader::new(&source);
        let message = NodeMessage::take(&mut reader)?;
        reader.finish("node message")?;
        Ok(message)
    }

    /// Reads messages that were encoded one behind the other.
    #[must_use]
    pub fn decode_all(source: Bytes) -> NodeMessages {
        NodeMessages { source, at: 0 }
    }
}

/// The messages in a buffer, in order. After an error there are no more.
#[derive(Clone, Debug)]
pub struct NodeMessages {
    source: Bytes,
    at: usize,
}

impl Iterator for NodeMessages {
    type Item = Result<NodeMessage, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        super::next_of(&self.source, &mut self.at)
    }
}

impl Wire for NodeMessage {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            NodeMessage::Raft(message) => {
                out.push(TAG_RAFT);
                message.put(out);
            }
            NodeMessage::SnapshotChunk(chunk) => {
                out.push(TAG_SNAPSHOT_CHUNK);
                chunk.put(out);
            }
            NodeMessage::SnapshotAck(ack) => {
                out.push(TAG_SNAPSHOT_ACK);
                ack.put(out);
            }
            NodeMessage::Removed => out.push(TAG_REMOVED),
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("node message")? {
            TAG_RAFT => NodeMessage::Raft(Message::take(reader)?),
            TAG_SNAPSHOT_CHUNK => NodeMessage::SnapshotChunk(NodeSnapshotChunk::take(reader)?),
            TAG_SNAPSHOT_ACK => NodeMessage::SnapshotAck(NodeSnapshotAck::take(reader)?),
            TAG_REMOVED => NodeMessage::Removed,
            tag => return Err(reader.unknown_tag("node message", tag)),
        })
    }
}

impl Wire for NodeSnapshotChunk {
    const BYTES_MIN: usize = 9 + SnapshotMeta::BYTES_MIN;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id);
        self.term.put(out);
        self.meta.put(out);
        put_varint(out, self.bytes_total);
        put_varint(out, self.offset);
        put_bytes(out, &self.data);
        out.extend_from_slice(&self.crc.to_le_bytes());
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(NodeSnapshotChunk {
            id: reader.varint("snapshot id")?,
            term: Term::take(reader)?,
            meta: SnapshotMeta::take(reader)?,
            bytes_total: reader.varint("snapshot length")?,
            offset: reader.varint("snapshot offset")?,
            data: reader.bytes("snapshot piece")?,
            crc: reader.u32_le("snapshot checksum")?,
        })
    }
}

impl Wire for NodeSnapshotAck {
    const BYTES_MIN: usize = 3;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id);
        put_varint(out, self.next);
        out.push(u8::from(self.done));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(NodeSnapshotAck {
            id: reader.varint("snapshot id")?,
            next: reader.varint("snapshot offset")?,
            done: reader.bool("snapshot done")?,
        })
    }
}
