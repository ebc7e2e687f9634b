//! Every mutant: its name, what it breaks, and which suite is expected to catch it.

/// Where a mutant is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Suite {
    /// Whole clusters, in a profile of the simulator.
    Cluster(&'static str),
    /// Groups of bare Raft cores that also change members: `crates/raft/tests/safety`.
    Core,
    /// The Raft log on a disk that loses power: `crates/storage/tests/log_power_loss.rs`.
    Log,
}

/// A deliberate bug.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    /// As its hook names it.
    pub(crate) name: &'static str,
    /// The part of the system.
    pub(crate) area: &'static str,
    /// The rule or property that it breaks, and how.
    pub(crate) breaks: &'static str,
    /// Who is expected to catch it.
    pub(crate) suite: Suite,
}

const fn mutant(area: &'static str, name: &'static str, suite: Suite, breaks: &'static str) -> Mutant {
    Mutant {
        name,
        area,
        breaks,
        suite,
    }
}

const ALL: Suite = Suite::Cluster("everything");
const DISK: Suite = Suite::Cluster("disk");
const MOVES: Suite = Suite::Cluster("moves");
const SPLITS: Suite = Suite::Cluster("splits");
const CORE: Suite = Suite::Core;
const LOG: Suite = Suite::Log;

/// All of them.
pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "elections",
        "two-votes-in-a-term",
        ALL,
        "Raft 5.2: votes for every candidate that asks",
    ),
    mutant(
        "elections",
        "vote-not-persisted",
        ALL,
        "Raft 5.2: a vote given in a term that was stored before is not stored",
    ),
    mutant(
        "elections",
        "vote-forgotten-at-open",
        ALL,
        "Raft 5.2: a process starts without the vote that it stored",
    ),
    mutant(
        "elections",
        "vote-before-sync",
        ALL,
        "Raft 5.2: a vote is sent before it is durable",
    ),
    mutant(
        "elections",
        "log-comparison-reversed",
        ALL,
        "Raft 5.4.1: the longer log wins, whatever its last term",
    ),
    mutant(
        "elections",
        "log-comparison-by-term-alone",
        ALL,
        "Raft 5.4.1: of two logs with equal last terms the shorter one may win",
    ),
    mutant(
        "elections",
        "half-is-a-majority",
        ALL,
        "Raft 5.2: half of an even number of voters decides",
    ),
    mutant(
        "elections",
        "pre-vote-counted-as-vote",
        ALL,
        "thesis 9.6: a late pre-vote counts as a vote",
    ),
    mutant(
        "replication",
        "stale-leader-obeyed",
        ALL,
        "Raft 5.1: an append of an earlier term is taken",
    ),
    mutant(
        "replication",
        "old-term-committed-by-counting",
        ALL,
        "Raft 5.4.2: an entry of an earlier term is committed by counting",
    ),
    mutant(
        "replication",
        "conflicting-entries-kept",
        ALL,
        "Raft 5.3: an entry that is there is not compared",
    ),
    mutant(
        "replication",
        "conflict-tail-not-cut",
        ALL,
        "Raft 5.3: what stands behind a replaced entry stays",
    ),
    mutant(
        "replication",
        "old-append-cuts-newer-entries",
        ALL,
        "Raft 5.3: an append that tells nothing new cuts what stands behind it",
    ),
    mutant(
        "replication",
        "commit-from-a-refused-append",
        ALL,
        "Raft 5.3: a follower commits by an append that did not match",
    ),
    mutant(
        "replication",
        "heartbeat-commits-past-the-match",
        ALL,
        "Raft 5.3: heartbeats carry a commit index beyond the follower's match",
    ),
    mutant(
        "replication",
        "sent-taken-for-stored",
        ALL,
        "Raft 5.3: what is under way to a follower counts as stored there",
    ),
    mutant(
        "applying",
        "applied-index-in-a-batch-of-its-own",
        ALL,
        "design 5: the applied index is not written with what was applied",
    ),
    mutant(
        "persistence",
        "acknowledged-before-sync",
        ALL,
        "Raft 5.1: an append is acknowledged before it is durable",
    ),
    mutant(
        "persistence",
        "leader-counts-itself-before-sync",
        ALL,
        "thesis 10.2.1: the leader's own log counts before it is durable",
    ),
    mutant(
        "persistence",
        "engine-not-durable-at-open",
        ALL,
        "P1: what the engine shows after a kill is vouched for",
    ),
    mutant(
        "persistence",
        "torn-tail-accepted",
        ALL,
        "P: a record's checksum is not looked at",
    ),
    mutant(
        "persistence",
        "record-seed-ignored",
        ALL,
        "P3: old records of a recycled segment are valid",
    ),
    mutant(
        "persistence",
        "recovered-tail-not-synced",
        ALL,
        "P1: the recovered tail is used before it is durable",
    ),
    mutant(
        "persistence",
        "begin-record-before-its-frames",
        LOG,
        "P1: the record that vouches for the recovered tail may be durable before it",
    ),
    mutant(
        "persistence",
        "void-frames-replayed",
        LOG,
        "P3: frames behind the end of a closed segment are replayed",
    ),
    mutant(
        "persistence",
        "segment-name-not-synced",
        ALL,
        "P1: the name of a new segment may get lost",
    ),
    mutant(
        "persistence",
        "segment-begun-before-the-last-was-synced",
        ALL,
        "P: a sync leaves out the segment before",
    ),
    mutant(
        "persistence",
        "segment-freed-too-early",
        LOG,
        "P: a segment goes before the records that replace its own are durable",
    ),
    mutant(
        "persistence",
        "failed-sync-forgotten",
        LOG,
        "P2: after a failed sync the next one succeeds",
    ),
    mutant(
        "persistence",
        "moved-entries-cut-the-tail",
        LOG,
        "P: entries that were moved to a newer segment cut those behind them",
    ),
    mutant(
        "persistence",
        "overwritten-entries-come-back",
        ALL,
        "P: recovery keeps the entries behind an overwritten one",
    ),
    mutant(
        "reads",
        "read-index-without-a-round",
        ALL,
        "Raft 8: a leader answers without asking whether it still leads",
    ),
    mutant(
        "reads",
        "read-before-the-terms-entry",
        ALL,
        "R2: a new leader answers before an entry of its term is committed",
    ),
    mutant(
        "reads",
        "read-joins-a-round-in-flight",
        ALL,
        "R1: a read joins a round that was sent before it came",
    ),
    mutant(
        "reads",
        "read-before-applying",
        ALL,
        "R2: a read does not wait for its index to be applied",
    ),
    mutant(
        "reads",
        "unconfirmed-read-answered-on-stepping-down",
        ALL,
        "R: reads that no round confirmed are answered",
    ),
    mutant(
        "leases",
        "drift-ignored",
        ALL,
        "L1: the lease lasts the whole election timeout, whatever the clocks do",
    ),
    mutant(
        "leases",
        "lease-counted-from-the-answer",
        ALL,
        "L1: the lease counts from the answer, not from the question",
    ),
    mutant(
        "leases",
        "lease-by-the-newest-echo",
        ALL,
        "L1: one follower's echo is enough",
    ),
    mutant(
        "leases",
        "echo-of-another-leaders-clock",
        ALL,
        "L1: a follower echoes the send time of another term's leader",
    ),
    mutant(
        "leases",
        "votes-inside-a-lease-after-a-restart",
        ALL,
        "L2: a process votes as soon as it has started",
    ),
    mutant(
        "leases",
        "lease-after-timeout-now",
        ALL,
        "L3: the lease goes on after TimeoutNow",
    ),
    mutant(
        "leases",
        "lease-before-the-terms-entry",
        ALL,
        "L3: a lease begins before the term's first entry is applied",
    ),
    mutant(
        "leases",
        "lease-kept-after-stepping-down",
        ALL,
        "L3: who stepped down answers until the lease ends",
    ),
    mutant(
        "time",
        "own-clock-decides-expiry",
        ALL,
        "T1: a replica applies by its own clock",
    ),
    mutant(
        "time",
        "stamp-goes-back",
        ALL,
        "T1: the shard's time follows each leader's clock, back as well",
    ),
    mutant(
        "time",
        "wall-clock-ends-a-key",
        ALL,
        "T2: a read answers by its node's clock that a key has expired",
    ),
    mutant(
        "time",
        "sweep-removes-rewritten-keys",
        ALL,
        "T3: the sweep does not look at the key's present deadline",
    ),
    mutant(
        "snapshots",
        "snapshot-behind-its-data",
        ALL,
        "P5: a snapshot's applied index is below what it holds",
    ),
    mutant(
        "snapshots",
        "missing-chunk-unnoticed",
        ALL,
        "P5: a lost chunk is not missed",
    ),
    mutant(
        "snapshots",
        "resume-skips-what-was-lost",
        ALL,
        "P5: a snapshot goes on behind the chunks that were lost with a connection",
    ),
    mutant(
        "snapshots",
        "snapshot-without-the-shards-time",
        ALL,
        "T1: a snapshot leaves the shard's time out",
    ),
    mutant(
        "snapshots",
        "snapshot-acknowledged-before-durable",
        ALL,
        "P5: the log is reset to a snapshot that is not durable",
    ),
    mutant(
        "snapshots",
        "log-reset-not-finished",
        ALL,
        "P5: an engine ahead of the log is not taken for an installed snapshot",
    ),
    mutant(
        "snapshots",
        "stale-snapshot-restored",
        CORE,
        "Raft 7: a snapshot below the commit index is installed",
    ),
    mutant(
        "snapshots",
        "space-used-again",
        ALL,
        "P5: a snapshot is staged among the leftovers of another",
    ),
    mutant(
        "snapshots",
        "space-dropped-before-durable",
        ALL,
        "P5: a space is removed although power loss can bring it back into use",
    ),
    mutant(
        "snapshots",
        "fed-from-behind",
        ALL,
        "a follower sends a snapshot behind what its leader asked for",
    ),
    mutant(
        "snapshots",
        "waits-for-a-dead-feeder",
        ALL,
        "a leader waits for ever for a snapshot that it asked a follower for",
    ),
    mutant(
        "log GC",
        "log-gc-above-durable",
        ALL,
        "log GC takes entries that the engine has not made durable",
    ),
    mutant(
        "order",
        "write-does-not-wait-for-reads",
        ALL,
        "order on a connection: a write is sent while a read of its lane, sent before it, waits for its answer",
    ),
    mutant(
        "order",
        "read-does-not-wait-for-writes",
        ALL,
        "order on a connection: a leader answers a read before the writes of its lane are applied",
    ),
    mutant(
        "outcomes",
        "another-terms-entry-taken-for-ones-own",
        ALL,
        "O1: a write is acknowledged when another term's entry is applied at its index",
    ),
    mutant(
        "outcomes",
        "not-applied-said-on-losing-leadership",
        ALL,
        "O1: losing leadership is taken for not applied",
    ),
    mutant(
        "outcomes",
        "late-write-said-not-applied",
        ALL,
        "O1: a deadline that passed is taken for not applied",
    ),
    mutant(
        "outcomes",
        "write-under-a-snapshot-said-not-applied",
        ALL,
        "O1: a write that a snapshot passed over is taken for not applied",
    ),
    mutant(
        "outcomes",
        "forward-retried-after-a-break",
        ALL,
        "O2: a forward is sent again under another identity although it may have been proposed",
    ),
    mutant(
        "outcomes",
        "forward-numbers-used-again",
        ALL,
        "O: the answer to an earlier process's forward is taken for one to this",
    ),
    mutant(
        "sessions",
        "session-checked-only-before-proposing",
        ALL,
        "S4: what the table says when an entry is applied is ignored, so a repeat whose first entry was under way runs again",
    ),
    mutant(
        "sessions",
        "snapshot-without-the-session-table",
        ALL,
        "S2: a snapshot carries the data without the sessions",
    ),
    mutant(
        "sessions",
        "answer-forgotten-before-it-is-acknowledged",
        ALL,
        "S3: answers to lower numbers are dropped with each write, although their client did not acknowledge them",
    ),
    mutant(
        "sessions",
        "acknowledged-write-runs-again",
        ALL,
        "S3: a write below the lowest number wanted runs, although its answer was dropped",
    ),
    mutant(
        "sessions",
        "expired-session-runs-again",
        ALL,
        "S3: a write of a session that was forgotten runs as if it were its first",
    ),
    mutant(
        "sessions",
        "fingerprint-ignored",
        ALL,
        "S4: another command under the same identity gets the first one's answer",
    ),
    mutant(
        "sessions",
        "status-without-the-log",
        ALL,
        "S4: a leader says from what it applied that a write never runs, with nothing in the log to keep it from running",
    ),
    mutant(
        "sessions",
        "settled-write-runs",
        ALL,
        "S4: a write runs of which a status said that it never will",
    ),
    mutant(
        "applying",
        "compare-and-set-does-not-compare",
        ALL,
        "a CAS sets the value whatever the key holds",
    ),
    mutant(
        "persistence",
        "damage-ignored",
        DISK,
        "P3: a replica whose log was damaged goes on with what is left",
    ),
    mutant(
        "persistence",
        "rebuild-ignores-the-answers",
        DISK,
        "P3: a rebuilt log begins in a term in which the replica may have lost something",
    ),
    mutant(
        "persistence",
        "rebuilt-replica-votes-early",
        DISK,
        "P3: a replica votes before its log holds again what it may have lost",
    ),
    mutant(
        "membership",
        "joint-commit-by-the-incoming-half",
        CORE,
        "Raft 6: the incoming half alone commits",
    ),
    mutant(
        "membership",
        "joint-vote-by-the-incoming-half",
        CORE,
        "Raft 6: the incoming half alone elects",
    ),
    mutant(
        "membership",
        "learners-count-for-commit",
        CORE,
        "thesis 4.2.1: learners count as voters for commit",
    ),
    mutant(
        "membership",
        "second-change-while-one-is-pending",
        CORE,
        "thesis 4.1: two membership changes overlap",
    ),
    mutant(
        "membership",
        "new-leader-forgets-a-pending-change",
        CORE,
        "thesis 4.1: a new leader does not know of the change in its log",
    ),
    mutant(
        "membership",
        "campaign-with-an-unapplied-change",
        CORE,
        "a member campaigns in a configuration that is not the newest committed one",
    ),
    mutant(
        "membership",
        "leader-leaves-before-handing-over",
        MOVES,
        "M1: a leader that is to go leaves the joint configuration itself, and the shard is without one",
    ),
    mutant(
        "membership",
        "promoted-before-caught-up",
        MOVES,
        "M1: a learner becomes a voter before it has anything",
    ),
    mutant(
        "membership",
        "replica-id-used-again",
        MOVES,
        "M3: a new replica gets the id of one that was removed",
    ),
    mutant(
        "membership",
        "tombstone-forgotten",
        MOVES,
        "M4: nothing is left of a removed replica, and a late message brings it back",
    ),
    mutant(
        "membership",
        "erased-while-a-member",
        MOVES,
        "M1, M4: an old replica erases itself while the joint configuration still counts it",
    ),
    mutant(
        "membership",
        "membership-not-in-the-batch",
        MOVES,
        "P4: the new membership is not in the batch of the entry that changes it",
    ),
    mutant(
        "membership",
        "committed-change-not-recorded",
        MOVES,
        "M1: after a power loss the new members do not know that the old ones are not needed any more",
    ),
    mutant(
        "controller",
        "ids-begin-anew-at-a-start",
        ALL,
        "design 6: a process starts with the ids that the cluster began with, and gives them again when it leads",
    ),
    mutant(
        "controller",
        "registered-under-the-id-of-another",
        ALL,
        "P7: whoever comes under the id of a store that is known by another incarnation is taken in",
    ),
    mutant(
        "controller",
        "second-bootstrap-accepted",
        ALL,
        "PS-08: a cluster that has begun begins again",
    ),
    mutant(
        "controller",
        "stale-heartbeat-accepted",
        ALL,
        "HB-12: what a shard's leader said before a split, a membership change or an election replaces what was said after",
    ),
    mutant(
        "controller",
        "timestamps-of-an-earlier-term",
        ALL,
        "B-10: the controller's leader gives timestamps out of the window of the leader before it",
    ),
    mutant(
        "controller",
        "map-kept-over-an-election",
        ALL,
        "design 6: the controller's leader takes what it heard when it led before for what it hears now",
    ),
    mutant(
        "schedulers",
        "order-of-an-old-epoch-carried-out",
        MOVES,
        "design 6: a shard's leader carries out what was ordered of an earlier version of the shard",
    ),
    mutant(
        "schedulers",
        "scheduled-before-it-was-heard",
        MOVES,
        "design 6: the controller's new leader plans before it has heard of every slot",
    ),
    mutant(
        "schedulers",
        "replaced-although-half-are-down",
        MOVES,
        "design 6: stores are replaced while half of them or more look down",
    ),
    mutant(
        "schedulers",
        "more-at-a-time-than-allowed",
        MOVES,
        "B-08: more shards change, or more replicas come to a store, than the limits say",
    ),
    mutant(
        "schedulers",
        "split-not-recorded",
        SPLITS,
        "design 6: a new shard is in no config, so in no group",
    ),
    mutant(
        "split",
        "session-table-lost-at-a-split",
        SPLITS,
        "S2: the new shard knows nothing of the sessions that wrote to its keys",
    ),
    mutant(
        "split",
        "forgotten-sessions-forgotten-at-a-split",
        SPLITS,
        "S3: the new shard does not know how far sessions were forgotten",
    ),
    mutant(
        "split",
        "lease-through-a-split",
        SPLITS,
        "L3: the leader keeps its lease from proposing a split until it has applied it",
    ),
    mutant(
        "split",
        "write-behind-a-split-runs-in-the-old-shard",
        SPLITS,
        "a write that was proposed before its leader had applied the split runs behind it",
    ),
    mutant(
        "split",
        "split-child-takes-part-before-it-is-durable",
        SPLITS,
        "P4: a new shard's replica votes before the engine has made its birth durable",
    ),
];
