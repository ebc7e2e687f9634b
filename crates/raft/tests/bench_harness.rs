//! The benchmark beside raft-rs (`bench/raft`) is a workspace of its own, because of what it pulls in. Its harness and
//! its driver of this core are compiled and run here, so that they cannot rot. The driver is also the check that all
//! three ways to drive the core do the same work.

#[path = "../../../bench/raft/src/cluster.rs"]
mod cluster;
#[path = "../../../bench/raft/src/quorate.rs"]
mod quorate;

use cluster::{Cluster, Proposing, Source};
use quorate::Quorate;

#[test]
fn every_mode_commits_and_applies_everything_on_all_members() {
    for mode in ["store", "sync", "eager"] {
        for source in [Source::Owned, Source::Shared] {
            let mut cluster = Cluster::<Quorate>::new(mode, source);
            // More than a member keeps, so that compaction is part of it. The cluster asserts that all was applied.
            for proposing in [Proposing::Each(1), Proposing::Each(16), Proposing::Batch(16)] {
                cluster.run(proposing, 1600);
            }
        }
    }
}
