//! The list of mutants is the list of hooks: each mutant stands in the sources once, and nothing else does.

use std::collections::BTreeMap;
use std::path::Path;

#[path = "../examples/mutants/table/mod.rs"]
mod table;

use table::Suite;

/// In ordinary builds a hook is a constant: this does not compile if it is anything else.
#[cfg(not(feature = "mutants"))]
const _: bool = quorate_raft::mutant!("two-votes-in-a-term");

/// Every hook's name with the files that it stands in.
fn hooks(directory: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            hooks(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                for after in line.split("mutant!(\"").skip(1) {
                    let name = after.split('"').next().unwrap_or_default();
                    let files = found.entry(name.to_string()).or_default();
                    files.push(path.display().to_string());
                }
            }
        }
    }
}

#[test]
fn every_mutant_has_one_hook_and_every_hook_a_mutant() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(crates).unwrap() {
        let sources = entry.unwrap().path().join("src");
        if sources.is_dir() {
            hooks(&sources, &mut found);
        }
    }
    for mutant in table::mutants() {
        let files = found.remove(mutant.name).unwrap_or_default();
        assert_eq!(
            files.len(),
            1,
            "{} must stand in the sources once: {files:?}",
            mutant.name
        );
        let texts = [mutant.area, mutant.breaks, mutant.check];
        assert!(texts.iter().all(|text| !text.is_empty()), "{mutant:?}");
        if let Suite::Cluster(profile) = mutant.suite {
            assert!(profile.parse::<quorate_sim::Profile>().is_ok(), "{mutant:?}");
        }
    }
    assert_eq!(found, BTreeMap::new(), "hooks that are not in the table");
}
