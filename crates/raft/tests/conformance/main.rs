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
    println!("skipped: {} is missing", dir.display());
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

#[test]
fn further_transcripts_pass() {
    let Some(dir) = std::env::var_os("QUORATE_TRANSCRIPTS").map(PathBuf::from) else {
        return;
    };
    let kinds = [Kind::Interaction, Kind::ConfChange, Kind::Quorum];
    let present: Vec<Kind> = kinds
        .into_iter()
        .filter(|kind| dir.join(kind.directory()).is_dir())
        .collect();
    assert!(!present.is_empty(), "no transcripts under {}", dir.display());
    let outcomes: Vec<Suite> = present.into_iter().map(|kind| Suite::run(&dir, kind)).collect();
    outcomes.iter().for_each(Suite::assert_all_passed);
}

#[test]
fn own_transcripts_pass() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    if std::env::var_os("QUORATE_REWRITE").is_some_and(|value| value == "1") {
        runner::rewrite(&dir, Kind::Interaction);
    }
    let outcome = Suite::run(&dir, Kind::Interaction);
    assert!(outcome.count() > 0, "no transcripts under {}", dir.display());
    outcome.assert_all_passed();
}
