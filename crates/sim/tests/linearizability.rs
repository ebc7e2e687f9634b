//! The checker against histories with known verdicts: this project's own, and the shared ones, which are read
//! from `$QUORATE_SHARED` (by default `shared` beside the workspace).

use std::path::{Path, PathBuf};
use std::time::Instant;

use quorate_sim::linearizability::{Budget, Verdict, known_histories, read_history};

fn check_all(dir: &Path) -> usize {
    let known = known_histories(dir).unwrap();
    let mut wrong = Vec::new();
    for history in &known {
        let recorded = read_history(&history.path, 1 << 30).unwrap_or_else(|error| panic!("{error}"));
        let began = Instant::now();
        let verdict = recorded.check(&Budget::default());
        let expected = match verdict {
            Verdict::Linearizable => history.is_linearizable,
            Verdict::NotLinearizable(_) => !history.is_linearizable,
            Verdict::Unknown(_) => false,
        };
        println!("{}: {verdict} ({:?})", history.path.display(), began.elapsed());
        if !expected {
            wrong.push(format!("{}: {verdict}", history.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    known.len()
}

#[test]
fn own_histories_get_their_known_verdicts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    assert!(check_all(&dir) >= 10);
}

#[test]
fn shared_histories_get_their_known_verdicts() {
    let root = std::env::var_os("QUORATE_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let dir = root.join("conformance/linearizability");
    if !dir.is_dir() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{} is not there; set QUORATE_SHARED",
            dir.display()
        );
        println!("skipped: {} is not there; set QUORATE_SHARED", dir.display());
        return;
    }
    let began = Instant::now();
    let count = check_all(&dir);
    println!("{count} histories in {:?}", began.elapsed());
}
