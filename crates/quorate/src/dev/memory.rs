//! What a development cluster must remember between two runs.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::{Asked, Layout};

const FILE: &str = "dev.json";

/// The file's content, and whether it was there.
#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    /// Makes the cluster's id differ from every other's.
    pub(super) bootstrap_token: String,
    /// Shards that the cluster was cut into.
    pub(super) shards: u32,
    /// Its nodes.
    #[serde(default)]
    pub(super) layout: Layout,
    /// Its groups have come about.
    #[serde(default)]
    pub(super) is_grouped: bool,
    /// Found, not made now.
    #[serde(skip)]
    pub(super) found: bool,
}

impl Memory {
    /// Reads the file in `dir`, or makes both. What was not asked for is as the cluster has it, else 8 shards on three nodes.
    pub(super) fn open(dir: &Path, shards: Option<u32>, asked: Asked) -> Result<Self, String> {
        let path = dir.join(FILE);
        let memory = match std::fs::read(&path) {
            Ok(bytes) => Self {
                found: true,
                ..serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let memory = Self {
                    bootstrap_token: random_token(),
                    shards: shards.unwrap_or(8),
                    layout: Layout::of(asked, Layout::default()),
                    is_grouped: false,
                    found: false,
                };
                memory.write(dir)?;
                memory
            }
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        match shards {
            Some(asked) if asked != memory.shards => Err(format!(
                "{} holds a cluster of {} shards, not {asked}: leave --shards out, or choose another --data",
                dir.display(),
                memory.shards
            )),
            _ if Layout::of(asked, memory.layout) != memory.layout => Err(format!(
                "{} holds a cluster of {}: leave --controllers, --groups and --stores out, or choose another --data",
                dir.display(),
                memory.layout
            )),
            _ => Ok(memory),
        }
    }

    /// Remembers that the groups have come about.
    pub(super) fn grouped(&mut self, dir: &Path) -> Result<(), String> {
        self.is_grouped = true;
        self.write(dir)
    }

    /// Written aside and renamed: a file that is there is whole.
    fn write(&self, dir: &Path) -> Result<(), String> {
        let path = dir.join(FILE);
        let aside = path.with_extension("new");
        std::fs::create_dir_all(dir)
            .and_then(|()| std::fs::write(&aside, format!("{}\n", serde_json::json!(self))))
            .and_then(|()| std::fs::rename(&aside, &path))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

/// The standard library seeds each hasher from the system's randomness: enough to tell clusters apart, and no
/// secret is made of it.
fn random_token() -> String {
    let bits = |n: u64| RandomState::new().hash_one((n, std::process::id()));
    format!("dev-{:016x}{:016x}", bits(1), bits(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_finds_what_the_first_one_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let nothing = Asked::default();
        let mut first = Memory::open(&path, Some(4), nothing).unwrap();
        assert!(!first.found && !first.is_grouped);
        first.grouped(&path).unwrap();
        let second = Memory::open(&path, None, nothing).unwrap();
        assert!(second.found && second.is_grouped);
        assert_eq!(
            (second.bootstrap_token, second.shards, second.layout),
            (first.bootstrap_token, 4, Layout::default())
        );
        let other = Memory::open(&path, Some(8), nothing).unwrap_err();
        assert!(other.contains("4 shards, not 8"), "{other}");
        let more = Asked {
            stores: Some(4),
            ..nothing
        };
        let other = Memory::open(&path, None, more).unwrap_err();
        assert!(
            other.contains("0 controllers and 1 groups of 3 stores"),
            "{other}"
        );
        // What was written before there were layouts.
        std::fs::write(path.join(FILE), r#"{"bootstrap_token":"t","shards":4}"#).unwrap();
        assert_eq!(
            Memory::open(&path, None, nothing).unwrap().layout,
            Layout::default()
        );
        std::fs::write(path.join(FILE), "{").unwrap();
        assert!(Memory::open(&path, None, nothing).unwrap_err().contains(FILE));
    }
}
