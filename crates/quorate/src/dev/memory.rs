//! What a development cluster must remember between two runs.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use serde::{Deserialize, Serialize};

const FILE: &str = "dev.json";

/// The file's content, and whether it was there.
#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    /// Makes the cluster's id differ from every other's.
    pub(super) bootstrap_token: String,
    /// Shards that the cluster was cut into.
    pub(super) shards: u32,
    /// Found, not made now.
    #[serde(skip)]
    pub(super) found: bool,
}

impl Memory {
    /// Reads the file in `dir`, or makes both. `shards`: as asked; `None`: whatever the cluster has, else 8.
    pub(super) fn open(dir: &Path, shards: Option<u32>) -> Result<Self, String> {
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
                    found: false,
                };
                memory
                    .write(dir, &path)
                    .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
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
            _ => Ok(memory),
        }
    }

    /// Written aside and renamed: a file that is there is whole.
    fn write(&self, dir: &Path, path: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let aside = path.with_extension("new");
        std::fs::write(&aside, format!("{}\n", serde_json::json!(self)))?;
        std::fs::rename(&aside, path)
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
        let first = Memory::open(&path, Some(4)).unwrap();
        assert!(!first.found);
        let second = Memory::open(&path, None).unwrap();
        assert!(second.found);
        assert_eq!(
            (second.bootstrap_token, second.shards),
            (first.bootstrap_token, 4)
        );
        assert!(
            Memory::open(&path, Some(8))
                .unwrap_err()
                .contains("4 shards, not 8")
        );
        std::fs::write(path.join(FILE), "{").unwrap();
        assert!(Memory::open(&path, None).unwrap_err().contains(FILE));
    }
}
