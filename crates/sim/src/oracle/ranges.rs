//! Every slot is in exactly one shard: the newest ranges of all shards meet without a gap and without an overlap at
//! every moment, since a split shows both halves at once; and a version of a shard stands for one range.

use std::collections::BTreeMap;

use quorate_storage::ShardId;
use quorate_store::{ReplicaStatus, SLOTS};

use super::Violation;

const PROPERTY: &str = "every slot is in exactly one shard";

/// The newest range of every shard.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    by_version: BTreeMap<(ShardId, u64), (u16, u16)>,
    newest: BTreeMap<ShardId, (u64, (u16, u16))>,
    is_news: bool,
}

impl Ranges {
    /// The range that a shard begins with, which may be told before any store that holds it has said so.
    pub(crate) fn begins(&mut self, shard: ShardId, version: u64, slots: (u16, u16)) {
        self.by_version.insert((shard, version), slots);
        self.newest.insert(shard, (version, slots));
    }

    /// How a replica stands.
    pub(crate) fn seen(&mut self, node: usize, status: &ReplicaStatus) -> Result<(), Violation> {
        let (shard, version, slots) = (status.shard, status.version, status.slots);
        // One without a state, and the controller's shard, have none.
        if slots.0 == slots.1 {
            return Ok(());
        }
        let known = *self.by_version.entry((shard, version)).or_insert(slots);
        if known != slots {
            let detail = format!(
                "shard {shard} in version {version} has slots {slots:?} on node {} and had {known:?}",
                node + 1
            );
            return Err(Violation::new(PROPERTY, detail));
        }
        let newest = self.newest.entry(shard).or_default();
        if version > newest.0 {
            *newest = (version, slots);
            self.is_news = true;
        }
        Ok(())
    }

    /// The shards in the order of their slots.
    pub(crate) fn all(&self) -> Vec<(ShardId, (u16, u16))> {
        let mut all: Vec<_> = self
            .newest
            .iter()
            .map(|(shard, (_, slots))| (*shard, *slots))
            .collect();
        all.sort_unstable_by_key(|(_, slots)| *slots);
        all
    }

    /// A turn is over.
    pub(crate) fn check(&mut self) -> Result<(), Violation> {
        if !std::mem::take(&mut self.is_news) {
            return Ok(());
        }
        let mut end = 0;
        for (shard, slots) in self.all() {
            if slots.0 != end {
                let detail = format!("shard {shard} has slots {slots:?}, the one before it ends at {end}");
                return Err(Violation::new(PROPERTY, detail));
            }
            end = slots.1;
        }
        if end != SLOTS {
            return Err(Violation::new(
                PROPERTY,
                format!("the last shard ends at slot {end}"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{Index, ReplicaId, Role, Term};

    use super::*;

    fn status(shard: u64, version: u64, slots: (u16, u16)) -> ReplicaStatus {
        ReplicaStatus {
            shard: ShardId(shard),
            replica: ReplicaId(1),
            role: Role::Follower,
            term: Term(2),
            leader: None,
            commit: Index(1),
            applied: Index(1),
            last: Index(1),
            log_base: Index(1),
            log_bytes: 0,
            log_held: false,
            lease: false,
            rebuild: None,
            conf_ver: 1,
            version,
            slots,
            changing: false,
            sessions: quorate_proto::SessionTotals::default(),
            installing: false,
        }
    }

    #[test]
    fn a_split_that_leaves_a_gap_or_an_overlap_is_seen() {
        for (left, right, fits) in [
            ((0, 5), (5, SLOTS), true),
            ((0, 5), (6, SLOTS), false),
            ((0, 6), (5, SLOTS), false),
            ((0, 5), (5, 9), false),
        ] {
            let mut oracle = Ranges::default();
            assert_eq!(oracle.seen(0, &status(1, 1, (0, SLOTS))), Ok(()));
            assert_eq!(oracle.check(), Ok(()));
            assert_eq!(oracle.seen(0, &status(1, 2, left)), Ok(()));
            assert_eq!(oracle.seen(0, &status(2, 2, right)), Ok(()));
            assert_eq!(oracle.check().is_ok(), fits, "{left:?} {right:?}");
            assert_eq!(oracle.seen(1, &status(1, 1, (0, SLOTS))), Ok(()), "one that lags");
            assert!(oracle.seen(1, &status(1, 2, (0, 7))).is_err());
        }
    }
}
