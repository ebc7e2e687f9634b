//! Keys, and the commands that their use allows.

use bytes::Bytes;
use quorate_proto::{ExpireCondition, Expiry, ForwardBody, Op, Query, SetCondition, SetExpiry};
use quorate_storage::ShardId;
use quorate_store::Target;

use crate::judge::{Counter, List, ProgramOrder, Register};
use crate::rng::Rng;

/// How a key is used.
pub(super) enum Use {
    List(List),
    Counter(Counter),
    Register(Register),
    /// Anything goes.
    Mixed,
}

pub(super) struct Key {
    pub(super) name: Bytes,
    pub(super) target: Target,
    pub(super) shard: ShardId,
    pub(super) history: Use,
    pub(super) order: ProgramOrder,
}

/// What a request does to its key's history.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Append(u32),
    ReadList { floor: usize },
    Increment { floor: i64 },
    ReadCounter { floor: i64 },
    Set(u32),
    Delete,
    ReadRegister,
    OtherRead,
    Other,
}

impl Key {
    /// A command on this key that its history can judge, and what it does there; `token` is used once. A read
    /// that may be stale is judged only by what it shows, not by when.
    pub(super) fn command(
        &mut self,
        rng: &mut Rng,
        reads: bool,
        may_be_stale: bool,
        token: u32,
    ) -> (Kind, ForwardBody) {
        let name = self.name.clone();
        if reads {
            let kind = match &self.history {
                Use::List(_) if may_be_stale => Kind::ReadList { floor: 0 },
                Use::List(list) => Kind::ReadList { floor: list.floor() },
                Use::Counter(_) if may_be_stale => Kind::ReadCounter { floor: 0 },
                Use::Counter(counter) => Kind::ReadCounter {
                    floor: counter.floor(),
                },
                Use::Register(_) if !may_be_stale => Kind::ReadRegister,
                Use::Register(_) | Use::Mixed => Kind::OtherRead,
            };
            return (kind, ForwardBody::Read(Query::Get { key: name }));
        }
        let value = Bytes::copy_from_slice(&token.to_be_bytes());
        let (kind, op) = match &mut self.history {
            Use::List(list) => {
                list.begin_append(token);
                (Kind::Append(token), Op::Append { key: name, value })
            }
            Use::Counter(counter) => {
                counter.begin_increment();
                (
                    Kind::Increment {
                        floor: counter.floor(),
                    },
                    Op::Increment { key: name, delta: 1 },
                )
            }
            Use::Register(_) => match rng.below(8) {
                0 => (Kind::Delete, Op::Delete { key: name }),
                1 => {
                    let expiry = Expiry::In(rng.range(1, 2000) as i64);
                    (
                        Kind::Other,
                        Op::Expire {
                            key: name,
                            expiry,
                            condition: ExpireCondition::Always,
                        },
                    )
                }
                2 => (Kind::Other, Op::Persist { key: name }),
                n => {
                    let expiry = match n {
                        3..=5 => SetExpiry::Set(Expiry::In(rng.range(1, 1000) as i64)),
                        6 => SetExpiry::Keep,
                        _ => SetExpiry::Clear,
                    };
                    let condition = SetCondition::Always;
                    (
                        Kind::Set(token),
                        Op::Set {
                            key: name,
                            value,
                            expiry,
                            condition,
                            get: false,
                        },
                    )
                }
            },
            Use::Mixed => (Kind::Other, mixed(rng, name, value, self.shard)),
        };
        (kind, ForwardBody::Write(op))
    }
}

fn mixed(rng: &mut Rng, key: Bytes, value: Bytes, shard: ShardId) -> Op {
    let filler = vec![b'x'; rng.range_log(1, 2000) as usize].into();
    match rng.below(13) {
        0 => Op::Delete { key },
        1 => Op::Increment { key, delta: 7 },
        2 => Op::SetRange {
            key,
            offset: rng.below(100),
            value,
        },
        3 => Op::GetDelete { key },
        4 => Op::Noop,
        5 if shard == ShardId(0) => Op::Flush,
        6 if shard == ShardId(0) => Op::IncrementFloat { key, delta: 0.5 },
        6 => Op::Increment { key, delta: -3 },
        7 => Op::SetAllIfAbsent {
            pairs: vec![(key, value)],
        },
        8 => Op::GetExpire {
            key,
            expiry: Some(Expiry::In(rng.below(500) as i64)),
        },
        // Values that are often there: what increments leave, and what was swapped before.
        9 => Op::CompareAndSet {
            key,
            expected: rng.pick(&["7", "-3", "4", "14", "swapped"]).as_bytes().into(),
            value: rng.pick(&["7", "4", "swapped"]).as_bytes().into(),
            expiry: *rng.pick(&[SetExpiry::Clear, SetExpiry::Keep, SetExpiry::Set(Expiry::In(900))]),
        },
        _ => Op::Set {
            key,
            value: filler,
            expiry: SetExpiry::Set(Expiry::In(rng.below(3000) as i64)),
            condition: *rng.pick(&[
                SetCondition::Always,
                SetCondition::IfAbsent,
                SetCondition::IfPresent,
            ]),
            get: rng.one_in(2),
        },
    }
}
