//! Every row of the scenario table that shards owe has a test, somewhere in the tree, whose name begins with its id.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Of the simulator and of pure tests.
const ROWS: [(&str, RangeInclusive<u32>); 5] = [
    ("k", 1..=26),
    ("t", 1..=33),
    ("ps", 1..=11),
    ("x", 1..=13),
    ("x", 17..=22),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Ids that begin the name of a test that is not ignored. Rows of a macro's table have no `fn`.
fn ids(source: &str) -> BTreeSet<(String, u32)> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let name = |at: usize| match lines[at].strip_prefix("fn ") {
        Some(name) => lines[at.saturating_sub(3)..at]
            .contains(&"#[test]")
            .then_some(name)
            .filter(|_| {
                !lines[at.saturating_sub(3)..at]
                    .iter()
                    .any(|line| line.starts_with("#[ignore"))
            }),
        None => lines[at]
            .split_once(':')
            .map(|(name, _)| name)
            .filter(|name| !name.contains(' ')),
    };
    let id = |name: &str| {
        let mut words = name.split('_');
        Some((
            words.next()?.to_owned(),
            words.next().filter(|digits| digits.len() == 2)?.parse().ok()?,
        ))
    };
    (0..lines.len()).filter_map(name).filter_map(id).collect()
}

#[test]
fn every_row_has_a_test() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    sources(&crates, &mut files);
    let found: BTreeSet<(String, u32)> = files
        .iter()
        .flat_map(|file| ids(&std::fs::read_to_string(file).unwrap()))
        .collect();
    let wanted = ROWS
        .iter()
        .flat_map(|(family, numbers)| numbers.clone().map(|at| ((*family).to_owned(), at)));
    let missing: Vec<_> = wanted.filter(|id| !found.contains(id)).collect();
    assert!(missing.is_empty(), "rows without a test: {missing:?}");
}

#[test]
fn ids_are_read_in_all_their_forms() {
    let source = "#[test]\nfn k_06_one() {}\n#[test]\n#[ignore = \"slow\"]\nfn k_07_two() {}\nfn k_08_no_test() {}\n  \
                  k_01_basic: G(1, 5);\n  t_33_long_name:\n    T(5);\nfn x_1_short() {}";
    let found: Vec<_> = ids(source)
        .into_iter()
        .map(|(family, at)| format!("{family}-{at}"))
        .collect();
    assert_eq!(found, ["k-1", "k-6", "t-33"]);
}
