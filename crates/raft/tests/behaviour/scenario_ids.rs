//! Every row of the scenario list that is about the core has a test whose name begins with the row's id.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FAMILIES: [(&str, u32); 3] = [("TR", 45), ("TP", 25), ("RN", 5)];

/// Ids in the first cell of each row: `TR-01`, `TR-18, 19` or `TR-38..40`.
fn rows(list: &str) -> BTreeSet<(String, u32)> {
    let mut ids = BTreeSet::new();
    for line in list.lines().filter(|line| line.starts_with("| ")) {
        let cell = line.split('|').nth(1).unwrap_or_default().trim();
        let Some((family, numbers)) = cell.split_once('-') else {
            continue;
        };
        if !FAMILIES.iter().any(|(known, _)| *known == family) {
            continue;
        }
        for part in numbers.split(',') {
            let (from, to) = part.split_once("..").unwrap_or((part, part));
            let number = |text: &str| {
                text.trim()
                    .parse::<u32>()
                    .unwrap_or_else(|_| panic!("row {cell:?}"))
            };
            ids.extend((number(from)..=number(to)).map(|at| (family.to_owned(), at)));
        }
    }
    ids
}

/// Ids that begin the name of a test, which is not ignored.
fn tests(dir: &Path) -> BTreeSet<(String, u32)> {
    let mut ids = BTreeSet::new();
    for file in std::fs::read_dir(dir).expect("the sources are there") {
        let path = file.expect("readable").path();
        let source = std::fs::read_to_string(&path).expect("readable");
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            let Some(name) = pair[1].strip_prefix("fn ").filter(|_| pair[0] == "#[test]") else {
                continue;
            };
            let mut words = name.split('_');
            if let (Some(family), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) {
                ids.insert((family.to_uppercase(), number));
            }
        }
    }
    ids
}

#[test]
fn every_row_has_a_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = tests(&here.join("tests/behaviour"));
    let shared =
        std::env::var_os("QUORATE_SHARED").map_or_else(|| here.join("../../../shared"), PathBuf::from);
    let expected = match std::fs::read_to_string(shared.join("scenarios.md")) {
        Ok(list) => rows(&list),
        Err(error) => {
            let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
            assert!(
                !in_ci,
                "{}: {error}, and in CI it must be there",
                shared.display()
            );
            println!("the scenario list is missing; its numbers as they were are used");
            BTreeSet::new()
        }
    };
    let known = FAMILIES
        .iter()
        .flat_map(|(family, count)| (1..=*count).map(|at| ((*family).to_owned(), at)));
    let known: BTreeSet<_> = known.collect();
    let missing: Vec<_> = known.union(&expected).filter(|id| !tests.contains(*id)).collect();
    assert!(missing.is_empty(), "rows without a test: {missing:?}");
    println!("{} rows, each with a test", known.union(&expected).count());
}

#[test]
fn rows_are_read_in_all_their_forms() {
    let list = "| id | x |\n| TR-01 | a |\n| TR-18, 19 | b |\n| TP-38..40 | c |\n| K-01 | d |\nTR-77";
    let ids: Vec<_> = rows(list)
        .into_iter()
        .map(|(family, at)| format!("{family}-{at}"))
        .collect();
    assert_eq!(ids, ["TP-38", "TP-39", "TP-40", "TR-1", "TR-18", "TR-19"]);
}
