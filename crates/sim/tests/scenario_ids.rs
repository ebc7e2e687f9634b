//! Every row of the scenario table that shards owe has a test, somewhere in the tree, whose name begins with its id.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Rows that the table wants over real sockets as well.
const SOCKETS: [(&str, &[u32]); 3] = [
    ("k", &[1, 4, 6, 11, 15, 21]),
    ("t", &[4, 12, 19, 27, 33]),
    ("s", &[3, 6, 12, 29, 35]),
];

/// Of the simulator and of pure tests.
const ROWS: [(&str, RangeInclusive<u32>); 7] = [
    ("k", 1..=26),
    ("t", 1..=33),
    ("ps", 1..=11),
    ("s", 1..=15),
    ("s", 20..=42),
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
        Some(name) => {
            let attributes = &lines[at.saturating_sub(3)..at];
            let is_ignored = attributes.iter().any(|line| line.starts_with("#[ignore"));
            (attributes.contains(&"#[test]") && !is_ignored).then_some(name)
        }
        None => lines[at].split_once([',', ':']).map(|(name, _)| name),
    };
    let id = |name: &str| {
        let mut words = name.split('_');
        let (family, number) = (words.next()?, words.next()?);
        let number = number.parse().ok().filter(|_| number.len() == 2)?;
        words.next().map(|_| (family.to_owned(), number))
    };
    (0..lines.len()).filter_map(name).filter_map(id).collect()
}

/// The same of all sources in a directory, but for those in `not`.
fn ids_under(dir: &Path, not: &str) -> BTreeSet<(String, u32)> {
    let mut files = Vec::new();
    sources(dir, &mut files);
    files
        .iter()
        .filter(|file| not.is_empty() || !file.to_string_lossy().contains(not))
        .flat_map(|file| ids(&std::fs::read_to_string(file).unwrap()))
        .collect()
}

fn check<'a>(found: &BTreeSet<(String, u32)>, wanted: impl Iterator<Item = (&'a str, u32)>) {
    let wanted = wanted.map(|(family, at)| (family.to_owned(), at));
    let missing: Vec<_> = wanted.filter(|id| !found.contains(id)).collect();
    assert!(missing.is_empty(), "rows without a test: {missing:?}");
}

#[test]
fn every_row_has_a_test() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let found = ids_under(&crates, "quorate/tests/sockets");
    check(
        &found,
        ROWS.iter()
            .flat_map(|(family, rows)| rows.clone().map(move |at| (*family, at))),
    );
}

#[test]
fn every_row_for_sockets_has_a_test_there() {
    let sockets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../quorate/tests/sockets");
    let found = ids_under(&sockets, "");
    check(
        &found,
        SOCKETS
            .iter()
            .flat_map(|(family, rows)| rows.iter().map(move |at| (*family, *at))),
    );
}

#[test]
fn ids_are_read_in_all_their_forms() {
    let source = "#[test]\nfn k_06_one() {}\n#[test]\n#[ignore = \"slow\"]\nfn k_07_two() {}\nfn k_08_no_test() {}\n  \
                  k_01_basic: G(1, 5);\n  t_33_long_name,\n    t_34_full:\n    T(5);\nfn x_1_short() {}";
    let found: Vec<_> = ids(source)
        .into_iter()
        .map(|(family, at)| format!("{family}-{at}"))
        .collect();
    assert_eq!(found, ["k-1", "k-6", "t-33", "t-34"]);
}
