//! Replays the reference's transcripts against the core, character for character.
//!
//! The shared transcripts are read from `$QUORATE_SHARED` (by default `shared` beside the workspace), further
//! ones from `$QUORATE_TRANSCRIPTS` if set, and our own lie in `tests/transcripts`. `QUORATE_REWRITE=1`
//! rewrites the outputs of our own; read the difference as carefully as code.

mod confchange;
mod describe;
mod env;
mod in_flight;
mod interaction;
mod node;
mod quorum;
mod runner;
mod script;

use std::path::{Path, PathBuf};

use runner::{Kind, Suite};

/// The interaction transcripts that may never fail nor be missing.
const REQUIRED: [&str; 20] = [
    "async_storage_writes",
    "campaign",
    "campaign_learner_must_vote",
    "checkquorum",
    "confchange_disable_validation",
    "confchange_v1_add_single",
    "confchange_v1_remove_leader",
    "confchange_v2_add_double_auto",
    "confchange_v2_add_single_auto",
    "confchange_v2_add_single_explicit",
    "confchange_v2_replace_leader",
    "forget_leader",
    "forget_leader_read_only_lease_based",
    "heartbeat_resp_recovers_from_probing",
    "lagging_commit",
    "prevote",
    "probe_and_replicate",
    "replicate_pause",
    "single_node",
    "snapshot_succeed_via_app_resp",
];

/// The shared transcripts, or `None` where they are not installed.
fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("QUORATE_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let dir = root.join("conformance/etcd-raft");
    if dir.is_dir() {
        return Some(dir);
    }
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{} is missing, and in CI the transcripts must run",
        dir.display()
    );
    runner::say(&format!("skipped: {} is missing", dir.display()));
    None
}

#[test]
fn shared_interaction_transcripts_pass() {
    let Some(dir) = shared() else { return };
    let outcome = Suite::run(&dir, Kind::Interaction);
    let absent: Vec<_> = REQUIRED.iter().filter(|name| !outcome.ran(name)).collect();
    assert!(absent.is_empty(), "required transcripts are missing: {absent:?}");
    outcome.assert_all_passed();
}

#[test]
fn shared_confchange_transcripts_pass() {
    let Some(dir) = shared() else { return };
    Suite::run(&dir, Kind::ConfChange).assert_all_passed();
}

#[test]
fn shared_quorum_transcripts_pass() {
    let Some(dir) = shared() else { return };
    Suite::run(&dir, Kind::Quorum).assert_all_passed();
}

const KINDS: [Kind; 3] = [Kind::Interaction, Kind::ConfChange, Kind::Quorum];

#[test]
fn further_transcripts_pass() {
    let Some(dir) = std::env::var_os("QUORATE_TRANSCRIPTS").map(PathBuf::from) else {
        return;
    };
    let present: Vec<Kind> = KINDS
        .into_iter()
        .filter(|kind| dir.join(kind.directory()).is_dir())
        .collect();
    let layout = "interaction, confchange or quorum";
    assert!(!present.is_empty(), "{} has no directory {layout}", dir.display());
    let outcomes: Vec<Suite> = present.into_iter().map(|kind| Suite::run(&dir, kind)).collect();
    let count: usize = outcomes.iter().map(Suite::count).sum();
    assert!(count > 0, "{} has no transcripts", dir.display());
    outcomes.iter().for_each(Suite::assert_all_passed);
}

#[test]
fn own_transcripts_pass() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    for kind in KINDS {
        if std::env::var_os("QUORATE_REWRITE").is_some_and(|value| value == "1") {
            runner::rewrite(&dir, kind);
        }
        let outcome = Suite::run(&dir, kind);
        assert!(
            outcome.count() > 0,
            "no {} transcripts under {}",
            kind.directory(),
            dir.display()
        );
        outcome.assert_all_passed();
    }
}

/// What differs is shown as a difference, at its place.
#[test]
fn a_mismatch_is_shown_as_a_unified_diff() {
    let dir = std::env::temp_dir().join(format!("quorate-transcripts-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("quorum")).expect("a temporary directory");
    let text = "# Wrong.\nvote cfg=(1,2,3) votes=(y,n,n)\n----\nVoteWon\n";
    std::fs::write(dir.join("quorum/wrong.txt"), text).expect("writable");
    let outcome = Suite::run(&dir, Kind::Quorum);
    std::fs::remove_dir_all(&dir).expect("removable");
    let failure = outcome.failure("wrong").expect("it is wrong");
    assert!(failure.contains("quorum/wrong.txt:2: vote"), "{failure}");
    assert!(failure.contains("--- expected\n+++ actual\n"), "{failure}");
    assert!(failure.contains("\n-VoteWon\n+VoteLost\n"), "{failure}");
}
