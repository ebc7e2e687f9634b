//! The operations inside a frame's body: how they are written and read back.

use bytes::Bytes;
use quorate_raft::{
    ConfChange, ConfChangeForm, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, Entry, HardState,
    Index, Payload, ReplicaId, Term,
};

use super::LogOp;
use super::frame::{self, Frame};
use super::index::ShardState;
use crate::ShardId;

const APPEND: u8 = 1;
const HARD_STATE: u8 = 2;
const COMPACT: u8 = 3;
const RESET: u8 = 4;
const TOMBSTONE: u8 = 5;
const RELOCATED: u8 = 6;
const STATE: u8 = 7;
const DAMAGE_KNOWN: u8 = 8;

const NORMAL: u8 = 0;
const CONF_CHANGE: u8 = 1;

/// Bytes before an entry's payload: term, payload length, payload kind.
const ENTRY_FIXED_LEN: usize = 13;
/// Bytes of an append before its entries.
const RUN_FIXED_LEN: usize = 24;

/// An operation as it is read.
#[derive(Debug)]
pub(super) enum Op<'a> {
    /// Entries; one at an index that exists replaces it and cuts all behind it.
    Append(Run<'a>),
    /// Entries that were moved here from an older segment; nothing behind them is cut.
    Relocated(Run<'a>),
    /// As in [`LogOp`].
    HardState {
        shard: ShardId,
        replica: ReplicaId,
        state: HardState,
    },
    /// As in [`LogOp`].
    Compact {
        shard: ShardId,
        index: Index,
        term: Term,
    },
    /// As in [`LogOp`].
    Reset {
        shard: ShardId,
        index: Index,
        term: Term,
    },
    /// As in [`LogOp`].
    Tombstone { shard: ShardId, replica: ReplicaId },
    /// All that is known of a shard beside its entries, moved here from an older segment.
    State { shard: ShardId, state: ShardState },
    /// Damage in older frames was found, and the states of the shards that it may have hit say so.
    DamageKnown {
        /// It may also have hit shards that the log does not list.
        unlisted: bool,
    },
}

/// Contiguous entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) shard: ShardId,
    pub(super) first: Index,
    pub(super) count: u32,
    bytes: &'a [u8],
}

impl<'a> Run<'a> {
    /// The index of the last entry.
    pub(super) fn last(&self) -> Index {
        Index(self.first.0 + u64::from(self.count) - 1)
    }

    /// Bytes of the entries.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The entries as they are stored. Ends early at what cannot be read.
    pub(super) fn raw(&self) -> impl Iterator<Item = (Index, &'a [u8])> + use<'a> {
        let (mut index, mut rest) = (self.first, self.bytes);
        std::iter::from_fn(move || {
            let len = ENTRY_FIXED_LEN + frame::u32_at(rest, 8)? as usize;
            let raw = rest.get(..len)?;
            rest = &rest[len..];
            let at = index;
            index = index.next();
            Some((at, raw))
        })
    }
}

/// Reads one stored entry. The payload is copied: a slice would keep a whole segment in memory.
pub(super) fn entry(index: Index, raw: &[u8]) -> Option<Entry> {
    let term = Term(frame::u64_at(raw, 0)?);
    let payload = raw.get(ENTRY_FIXED_LEN..)?;
    let payload = match raw[12] {
        NORMAL => Payload::Normal(Bytes::copy_from_slice(payload)),
        CONF_CHANGE => Payload::ConfChange(Box::new(conf_change(payload)?)),
        _ => return None,
    };
    Some(Entry { term, index, payload })
}

/// Appends one of the caller's operations; `slot` is its shard's place in the frame's table.
pub(super) fn put(buf: &mut Vec<u8>, slot: u32, op: &LogOp) -> Option<()> {
    match op {
        LogOp::Append { entries, .. } => put_append(buf, slot, entries)?,
        LogOp::HardState { replica, state, .. } => {
            put_header(buf, HARD_STATE, slot);
            let vote = state.vote.unwrap_or_default();
            put_u64s(buf, &[replica.0, state.term.0, vote.0, state.commit.0]);
        }
        LogOp::Compact { index, term, .. } => {
            put_header(buf, COMPACT, slot);
            put_u64s(buf, &[index.0, term.0]);
        }
        LogOp::Reset { index, term, .. } => {
            put_header(buf, RESET, slot);
            put_u64s(buf, &[index.0, term.0]);
        }
        LogOp::Tombstone { replica, .. } => {
            put_header(buf, TOMBSTONE, slot);
            put_u64s(buf, &[replica.0]);
        }
    }
    Some(())
}

fn put_append(buf: &mut Vec<u8>, slot: u32, entries: &[Entry]) -> Option<()> {
    let at = buf.len();
    put_run_header(
        buf,
        APPEND,
        slot,
        entries.first()?.index,
        u32::try_from(entries.len()).ok()?,
    );
    for entry in entries {
        buf.extend_from_slice(&entry.term.0.to_le_bytes());
        match &entry.payload {
            Payload::Normal(data) => {
                buf.extend_from_slice(&u32::try_from(data.len()).ok()?.to_le_bytes());
                buf.push(NORMAL);
                buf.extend_from_slice(data);
            }
            Payload::ConfChange(change) => {
                let len_at = buf.len();
                buf.extend_from_slice(&[0, 0, 0, 0, CONF_CHANGE]);
                put_conf_change(buf, change)?;
                let len = u32::try_from(buf.len() - len_at - 5).ok()?;
                buf[len_at..len_at + 4].copy_from_slice(&len.to_le_bytes());
            }
        }
    }
    finish_run(buf, at)
}

/// Appends entries in their stored form.
pub(super) fn put_relocated(
    buf: &mut Vec<u8>,
    slot: u32,
    first: Index,
    count: u32,
    entries: &[u8],
) -> Option<()> {
    let at = buf.len();
    put_run_header(buf, RELOCATED, slot, first, count);
    buf.extend_from_slice(entries);
    finish_run(buf, at)
}

/// Completes the run that begins at `at` and ends with `buf`.
fn finish_run(buf: &mut [u8], at: usize) -> Option<()> {
    let len = u32::try_from(buf.len() - at - RUN_FIXED_LEN).ok()?;
    buf[at + 20..at + 24].copy_from_slice(&len.to_le_bytes());
    Some(())
}

/// Appends the whole state of a shard.
pub(super) fn put_state(buf: &mut Vec<u8>, slot: u32, state: &ShardState) {
    put_header(buf, STATE, slot);
    let flags = u64::from(state.suspect_entries) | u64::from(state.suspect_hard_state) << 1;
    let replica = state.replica.unwrap_or_default();
    let tombstone = state.tombstone.unwrap_or_default();
    let hard = state.hard_state;
    let vote = hard.vote.unwrap_or_default();
    let (index, term) = state.base;
    put_u64s(
        buf,
        &[
            flags,
            replica.0,
            hard.term.0,
            vote.0,
            hard.commit.0,
            index.0,
            term.0,
            tombstone.0,
        ],
    );
}

/// Appends the note that damage is accounted for.
pub(super) fn put_damage_known(buf: &mut Vec<u8>, unlisted: bool) {
    put_header(buf, DAMAGE_KNOWN, 0);
    put_u64s(buf, &[u64::from(unlisted)]);
}

fn put_header(buf: &mut Vec<u8>, kind: u8, slot: u32) {
    buf.extend_from_slice(&[kind, 0, 0, 0]);
    buf.extend_from_slice(&slot.to_le_bytes());
}

fn put_run_header(buf: &mut Vec<u8>, kind: u8, slot: u32, first: Index, count: u32) {
    put_header(buf, kind, slot);
    buf.extend_from_slice(&first.0.to_le_bytes());
    buf.extend_from_slice(&count.to_le_bytes());
    buf.extend_from_slice(&[0; 4]);
}

fn put_u64s(buf: &mut Vec<u8>, values: &[u64]) {
    for value in values {
        buf.extend_from_slice(&value.to_le_bytes());
    }
}

fn put_conf_change(buf: &mut Vec<u8>, change: &ConfChange) -> Option<()> {
    buf.push(match change.form {
        ConfChangeForm::V1 => 1,
        ConfChangeForm::V2 => 2,
    });
    buf.push(match change.transition {
        ConfChangeTransition::Auto => 0,
        ConfChangeTransition::Implicit => 1,
        ConfChangeTransition::Explicit => 2,
    });
    buf.extend_from_slice(&u32::try_from(change.changes.len()).ok()?.to_le_bytes());
    for single in &change.changes {
        buf.push(match single.kind {
            ConfChangeKind::AddVoter => 0,
            ConfChangeKind::AddLearner => 1,
            ConfChangeKind::Remove => 2,
            ConfChangeKind::Update => 3,
        });
        buf.extend_from_slice(&single.replica.0.to_le_bytes());
    }
    buf.extend_from_slice(&change.context);
    Some(())
}

fn conf_change(bytes: &[u8]) -> Option<ConfChange> {
    let mut reader = Reader(bytes);
    let form = match reader.u8()? {
        1 => ConfChangeForm::V1,
        2 => ConfChangeForm::V2,
        _ => return None,
    };
    let transition = match reader.u8()? {
        0 => ConfChangeTransition::Auto,
        1 => ConfChangeTransition::Implicit,
        2 => ConfChangeTransition::Explicit,
        _ => return None,
    };
    let mut changes = Vec::new();
    for _ in 0..reader.u32()? {
        let kind = match reader.u8()? {
            0 => ConfChangeKind::AddVoter,
            1 => ConfChangeKind::AddLearner,
            2 => ConfChangeKind::Remove,
            3 => ConfChangeKind::Update,
            _ => return None,
        };
        changes.push(ConfChangeSingle {
            kind,
            replica: ReplicaId(reader.u64()?),
        });
    }
    Some(ConfChange {
        form,
        transition,
        changes,
        context: Bytes::copy_from_slice(reader.0),
    })
}

/// Reads the operations of a frame one after the other, each with its offset in the segment. `None` inside
/// means that it cannot be read, although the checksum holds.
pub(super) fn ops<'a>(frame: &Frame<'a>) -> impl Iterator<Item = Option<(u64, Op<'a>)>> + use<'a> {
    let (table, body) = (frame.table, frame.body);
    let body_offset = frame.offset + frame.header.body_start();
    let mut reader = Reader(body);
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || reader.0.is_empty() {
            return None;
        }
        let offset = body_offset + (body.len() - reader.0.len()) as u64;
        let op = read_op(&mut reader, table);
        broken = op.is_none();
        Some(op.map(|op| (offset, op)))
    })
}

fn read_op<'a>(reader: &mut Reader<'a>, table: &[u8]) -> Option<Op<'a>> {
    let kind = reader.u8()?;
    reader.take(3)?;
    let slot = reader.u32()? as usize;
    if kind == DAMAGE_KNOWN {
        return Some(Op::DamageKnown {
            unlisted: reader.u64()? != 0,
        });
    }
    let shard = ShardId(frame::u64_at(table, 8 * slot)?);
    Some(match kind {
        APPEND => Op::Append(reader.run(shard)?),
        RELOCATED => Op::Relocated(reader.run(shard)?),
        HARD_STATE => {
            let replica = ReplicaId(reader.u64()?);
            Op::HardState {
                shard,
                replica,
                state: reader.hard_state()?,
            }
        }
        COMPACT => Op::Compact {
            shard,
            index: Index(reader.u64()?),
            term: Term(reader.u64()?),
        },
        RESET => Op::Reset {
            shard,
            index: Index(reader.u64()?),
            term: Term(reader.u64()?),
        },
        TOMBSTONE => Op::Tombstone {
            shard,
            replica: ReplicaId(reader.u64()?),
        },
        STATE => {
            let flags = reader.u64()?;
            let state = ShardState {
                suspect_entries: flags & 1 != 0,
                suspect_hard_state: flags & 2 != 0,
                replica: reader.replica()?,
                hard_state: reader.hard_state()?,
                base: (Index(reader.u64()?), Term(reader.u64()?)),
                tombstone: reader.replica()?,
            };
            Op::State { shard, state }
        }
        _ => return None,
    })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }
    fn u32(&mut self) -> Option<u32> {
        frame::u32_at(self.take(4)?, 0)
    }
    fn u64(&mut self) -> Option<u64> {
        frame::u64_at(self.take(8)?, 0)
    }
    /// Zero is never a member.
    fn replica(&mut self) -> Option<Option<ReplicaId>> {
        let id = self.u64()?;
        Some((id != 0).then_some(ReplicaId(id)))
    }
    fn hard_state(&mut self) -> Option<HardState> {
        Some(HardState {
            term: Term(self.u64()?),
            vote: self.replica()?,
            commit: Index(self.u64()?),
        })
    }
    fn run(&mut self, shard: ShardId) -> Option<Run<'a>> {
        let first = Index(self.u64()?);
        let count = self.u32()?;
        let len = self.u32()? as usize;
        let run = Run {
            shard,
            first,
            count,
            bytes: self.take(len)?,
        };
        (count > 0).then_some(run)
    }
}
