//! Of shards that lost their majority.

use quorate_proto::{
    ControlCommand, ControlQuery, Left, LossRow, Op, PeerMessage, Query, Recovery, Survivor,
};
use quorate_raft::{Index, Term};
use quorate_storage::{ShardId, StoreId};

use super::Gen;

impl Gen {
    /// Of the two messages between the controller's leader and a store.
    pub(crate) fn recovery_message(&mut self, kind: u64) -> PeerMessage {
        if kind.is_multiple_of(2) {
            PeerMessage::Survivors(self.list(Gen::survivor))
        } else {
            PeerMessage::Recover(Box::new(self.recovery()))
        }
    }
    pub(crate) fn recover(&mut self) -> Op {
        Op::Control(Box::new(ControlCommand::Recover {
            lost: self.list(|g| StoreId(g.u64())).into_iter().collect(),
            shards: self.list(Gen::recovery),
        }))
    }
    pub(crate) fn losses_query(&mut self) -> Query {
        Query::Control(ControlQuery::Losses {
            lost: self.list(|g| StoreId(g.u64())).into_iter().collect(),
        })
    }
    pub(crate) fn survivor(&mut self) -> Survivor {
        Survivor {
            shard: ShardId(self.u64()),
            replica: self.replica(),
            start_slot: self.next() as u16,
            end_slot: self.next() as u16,
            epoch: self.epoch(),
            known: self.epoch(),
            members: self.list(Gen::member),
            removed: self.list(Gen::replica),
            last_replica: self.replica(),
            term: self.term(),
            commit: self.index(),
            last: self.index(),
            runs: self.list(Gen::end),
            heard: self.option(Gen::index),
            silent_ms: self.option(Gen::u64),
            sessions: self.u64(),
            is_unfit: self.bool(),
        }
    }
    pub(crate) fn recovery(&mut self) -> Recovery {
        Recovery {
            shard: ShardId(self.u64()),
            replica: self.replica(),
            store: StoreId(self.u64()),
            start_slot: self.next() as u16,
            end_slot: self.next() as u16,
            epoch: self.epoch(),
            term: self.term(),
            last_replica: self.replica(),
            left: self.option(|g| Left {
                commit: g.index(),
                last: g.end(),
            }),
        }
    }
    pub(crate) fn loss(&mut self) -> LossRow {
        LossRow {
            recovery: self.option(Gen::recovery),
            shard: ShardId(self.u64()),
            start_slot: self.next() as u16,
            end_slot: self.next() as u16,
            survivors: self.list(|g| StoreId(g.u64())),
            heard: self.option(Gen::index),
            silent_ms: self.option(Gen::u64),
            sessions: self.u64(),
            conf_ver: self.option(Gen::u64),
            known_conf_ver: self.option(Gen::u64),
        }
    }
    fn end(&mut self) -> (Index, Term) {
        (self.index(), self.term())
    }
}
