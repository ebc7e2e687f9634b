//! The log stays within its bounds (Log GC): while a replica keeps more bytes or more entries than it is
//! configured to, and has applied some of them, entries must go from its front.
//!
//! The slack is a time, by the replica's own ticks: GC runs only now and then, and only up to what the engine
//! has made durable, which a disk that works takes its time for. While a disk is slow or stalls, time does not
//! count.

use std::collections::BTreeMap;

use quorate_raft::Index;
use quorate_store::{ReplicaStatus, StoreOptions, log_held_max};

use super::{At, Violation};

/// Since when a replica has kept too much.
#[derive(Debug, Default)]
struct Excess {
    base: Index,
    ticks: u64,
}

/// Every replica's.
#[derive(Debug, Default)]
pub(crate) struct LogBounds(BTreeMap<At, Excess>);

impl LogBounds {
    /// A tick passed on a node whose disk works; `ticks_max`: how many may pass.
    pub(crate) fn ticked(
        &mut self,
        node: usize,
        status: &ReplicaStatus,
        options: &StoreOptions,
        ticks_max: u64,
    ) -> Result<(), Violation> {
        let entries = status.last.0 - status.log_base.0;
        let (bytes_max, entries_max) = if status.log_held {
            log_held_max(options)
        } else {
            (options.log_retention_bytes, options.log_retention_entries)
        };
        let is_over = status.log_bytes > bytes_max || entries > entries_max;
        let at = (node, status.shard);
        if !is_over || status.applied <= status.log_base || status.rebuild.is_some() || status.installing {
            self.0.remove(&at);
            return Ok(());
        }
        let excess = self.0.entry(at).or_default();
        if excess.base != status.log_base {
            *excess = Excess {
                base: status.log_base,
                ticks: 0,
            };
        }
        excess.ticks += 1;
        if excess.ticks <= ticks_max {
            return Ok(());
        }
        let detail = format!(
            "shard {} on node {}: {} bytes and {entries} entries behind {} for {ticks_max} ticks, applied is {}; the bounds \
             are {} and {}",
            status.shard,
            node + 1,
            status.log_bytes,
            status.log_base,
            status.applied,
            bytes_max,
            entries_max
        );
        Err(Violation::new("the log stays within its bounds", detail))
    }

    /// The replica is not there any more.
    pub(crate) fn gone(&mut self, at: At) {
        self.0.remove(&at);
    }

    /// A process ended, or its disk does not work as it should.
    pub(crate) fn excused(&mut self, node: usize) {
        self.0.retain(|(on, _), _| *on != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::{ReplicaId, Role, Term};
    use quorate_storage::ShardId;

    fn status(base: u64, applied: u64, log_bytes: u64) -> ReplicaStatus {
        ReplicaStatus {
            shard: ShardId(1),
            replica: ReplicaId(1),
            role: Role::Follower,
            term: Term(2),
            leader: None,
            commit: Index(100),
            applied: Index(applied),
            last: Index(100),
            log_base: Index(base),
            log_bytes,
            log_held: false,
            lease: false,
            rebuild: None,
            conf_ver: 1,
            version: 1,
            slots: (0, 0),
            changing: false,
            sessions: quorate_proto::SessionTotals::default(),
            installing: false,
        }
    }

    #[test]
    fn a_log_that_keeps_too_much_for_too_long_is_seen() {
        let options = StoreOptions {
            log_retention_bytes: 1000,
            ..StoreOptions::default()
        };
        let mut oracle = LogBounds::default();
        let mut tick = |status: &ReplicaStatus| oracle.ticked(0, status, &options, 3);
        for _ in 0..10 {
            assert_eq!(tick(&status(10, 90, 1000)), Ok(()), "within the bound");
            assert_eq!(tick(&status(10, 10, 5000)), Ok(()), "nothing of it is applied");
        }
        for base in 10..20 {
            assert_eq!(tick(&status(base, 90, 5000)), Ok(()), "entries go");
        }
        for _ in 0..2 {
            assert_eq!(tick(&status(19, 90, 5000)), Ok(()), "not for long");
        }
        assert!(tick(&status(19, 90, 5000)).is_err());
    }
}
