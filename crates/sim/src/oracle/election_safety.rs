//! Election safety: at most one leader can be elected in a given term (Raft, section 5.2, figure 3).

use std::collections::{BTreeMap, HashMap};

use quorate_raft::{ReplicaId, Term};
use quorate_storage::ShardId;

use super::{At, Violation};

/// Who led in which term, and who leads now.
#[derive(Debug, Default)]
pub(crate) struct ElectionSafety {
    leaders: HashMap<(ShardId, Term), ReplicaId>,
    leading: BTreeMap<ShardId, BTreeMap<usize, Term>>,
}

impl ElectionSafety {
    pub(crate) fn seen(
        &mut self,
        at: At,
        replica: ReplicaId,
        term: Term,
        leads: bool,
    ) -> Result<(), Violation> {
        let (node, shard) = at;
        let leading = self.leading.entry(shard).or_default();
        if !leads {
            leading.remove(&node);
            return Ok(());
        }
        leading.insert(node, term);
        let first = *self.leaders.entry((shard, term)).or_insert(replica);
        if first == replica {
            return Ok(());
        }
        let detail = format!("shard {shard} term {term}: replicas {first} and {replica} both led");
        Err(Violation::new("election safety", detail))
    }

    /// The nodes that think that they lead a shard, and their terms.
    pub(crate) fn leading(&self, shard: ShardId) -> Vec<(usize, Term)> {
        self.leading
            .get(&shard)
            .into_iter()
            .flatten()
            .map(|(node, term)| (*node, *term))
            .collect()
    }

    /// The replica is not there any more.
    pub(crate) fn gone(&mut self, at: At) {
        if let Some(leading) = self.leading.get_mut(&at.1) {
            leading.remove(&at.0);
        }
    }

    pub(crate) fn stopped(&mut self, node: usize) {
        for leading in self.leading.values_mut() {
            leading.remove(&node);
        }
    }

    /// Elections won so far.
    pub(crate) fn count(&self) -> u64 {
        self.leaders.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_leader_of_a_term_is_seen() {
        let mut oracle = ElectionSafety::default();
        let mut seen = |node, term, leads| {
            oracle.seen((node, ShardId(1)), ReplicaId(node as u64 + 1), Term(term), leads)
        };
        assert_eq!(seen(0, 2, true), Ok(()));
        assert_eq!(seen(1, 3, true), Ok(()), "an old leader may not know yet");
        assert_eq!(seen(1, 2, false), Ok(()));
        assert!(seen(2, 2, true).is_err());
    }
}
