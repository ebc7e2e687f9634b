//! Directories of histories whose verdicts are known. The checker is itself judged by them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file that names the verdicts of a directory's `*_NUMBER.log` files, a line each: `NUMBER linearizable` or
/// `NUMBER not-linearizable`.
const EXPECTED: &str = "EXPECTED.txt";

/// A history and its verdict.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KnownHistory {
    /// The file.
    pub path: PathBuf,
    /// Its verdict.
    pub is_linearizable: bool,
}

/// Finds the histories below a directory, ordered by path: files named `NAME-ok.EXTENSION` and
/// `NAME-bad.EXTENSION`, and those that an `EXPECTED.txt` beside them names. Other files are passed over.
///
/// # Errors
///
/// When a directory cannot be read, an `EXPECTED.txt` is malformed or names a file that is not there, or there
/// are no histories at all.
pub fn known_histories(dir: &Path) -> io::Result<Vec<KnownHistory>> {
    let about =
        |error: io::Error, path: &Path| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut known = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let mut expected = BTreeMap::new();
        let list = dir.join(EXPECTED);
        if list.is_file() {
            let text = fs::read_to_string(&list).map_err(|error| about(error, &list))?;
            expected = parse_expected(&text).map_err(|message| {
                let message = format!("{}:{message}", list.display());
                io::Error::new(io::ErrorKind::InvalidData, message)
            })?;
        }
        for entry in fs::read_dir(&dir).map_err(|error| about(error, &dir))? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            let by_name = match stem.rsplit_once('-') {
                Some((_, "ok")) => Some(true),
                Some((_, "bad")) => Some(false),
                _ => None,
            };
            let number = stem.rsplit_once('_').map_or("", |(_, number)| number);
            if let Some(is_linearizable) = by_name.or_else(|| expected.remove(number)) {
                known.push(KnownHistory {
                    path,
                    is_linearizable,
                });
            }
        }
        if let Some(number) = expected.keys().next() {
            let message = format!("{}: there is no history with the number {number}", list.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
    }
    if known.is_empty() {
        let message = format!("{}: no histories with known verdicts", dir.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    known.sort();
    Ok(known)
}

fn parse_expected(text: &str) -> Result<BTreeMap<String, bool>, String> {
    let mut expected = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let verdict = match words.as_slice() {
            [] => continue,
            [name, "linearizable"] => (name, true),
            [name, "not-linearizable"] => (name, false),
            _ => {
                return Err(format!(
                    "{number}: a line must be NUMBER linearizable or NUMBER not-linearizable"
                ));
            }
        };
        expected.insert((*verdict.0).into(), verdict.1);
    }
    Ok(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_list_is_named() {
        assert!(parse_expected("007 linearizable\n\n").unwrap()["007"]);
        assert!(
            parse_expected("007 linearizable\n008 maybe")
                .unwrap_err()
                .starts_with("2: ")
        );
    }
}
