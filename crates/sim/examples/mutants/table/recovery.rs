//! Shards that lost their majority for ever.

use super::*;

pub(super) const MUTANTS: &[Mutant] = &[
    mutant(
        "recovery",
        "survivor-by-its-commit-index",
        RECOVERY,
        "ADR 0006: the survivor that knows most to be committed goes on, though another one's log holds more",
        "assertion `left == right` failed: shard",
    ),
    mutant(
        "recovery",
        "unsure-entries-said-to-be-certain",
        RECOVERY,
        "ADR 0006: what is only in the log that goes on is said to be committed",
        "assertion `left == right` failed: what is certain",
    ),
    mutant(
        "recovery",
        "recovered-before-all-have-told",
        RECOVERY,
        "ADR 0006: a store is heard, but has just started and not told yet what survives there",
        "it has something",
    ),
    mutant(
        "recovery",
        "recovered-though-a-majority-lives",
        RECOVERY,
        "ADR 0006: a shard that has no leader is recovered although those who live could elect one",
        "assertion `left == right` failed: shard",
    ),
    mutant(
        "recovery",
        "second-survivor-chosen",
        RECOVERY,
        "ADR 0006: another survivor is offered while the one that was chosen first may have gone on",
        "assertion `left == right` failed: shard",
    ),
    mutant(
        "recovery",
        "lost-store-stays-in-service",
        RECOVERY,
        "P7: a store that was given up for lost is taken in when it comes back",
        "it stays away",
    ),
    mutant(
        "recovery",
        "recovery-forgets-replica-ids",
        RECOVERY,
        "M3: a shard that goes on alone gives the ids of lost replicas again",
        "a replica id stands for one replica",
    ),
    mutant(
        "recovery",
        "recovered-in-a-term-of-before",
        RECOVERY,
        "Raft 5.2: who goes on alone campaigns in a term in which somebody who is lost may have led",
        "election safety",
    ),
    mutant(
        "recovery",
        "removed-members-taken-for-alive",
        RECOVERY,
        "ADR 0006: a survivor that lags behind the membership counts members that have erased themselves, and is not offered",
        "shard 1 has lost its majority",
    ),
    mutant(
        "recovery",
        "alone-before-it-is-durable",
        RECOVERY,
        "P4: who goes on alone takes part before its new membership is durable",
        "shard 1 is led again",
    ),
];
