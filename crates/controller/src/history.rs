//! All configs there have been.

use quorate_proto::{Config, Delta, GroupId};
use quorate_raft::mutant;

/// The newest config, and how it came about.
///
/// Invariant: the deltas, one after the other, turn the first config into the newest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// Config 0.
    first: Config,
    /// What config `n + 1` changed of config `n`.
    deltas: Vec<Delta>,
    newest: Config,
}

impl History {
    /// The history that begins with config 0.
    #[must_use]
    pub fn new(first: Config) -> Self {
        assert_eq!(first.num, 0, "a history begins with config 0");
        Self {
            newest: first.clone(),
            deltas: Vec::new(),
            first,
        }
    }

    /// The newest config.
    #[must_use]
    pub fn newest(&self) -> &Config {
        &self.newest
    }

    /// The config of a number; the newest for -1 and for a number too high (`Query`). Costs as many steps as configs
    /// came before it, unless it is the newest.
    #[must_use]
    pub fn query(&self, num: i64) -> Config {
        match usize::try_from(num) {
            Ok(num) if num < self.deltas.len() && !mutant!("query-answers-the-newest") => {
                let mut config = self.first.clone();
                self.deltas[..num].iter().for_each(|delta| config.change(delta));
                config
            }
            _ => self.newest.clone(),
        }
    }

    /// What the configs changed, from config 1 on.
    #[must_use]
    pub fn deltas(&self) -> &[Delta] {
        &self.deltas
    }

    /// Whether a group was there once, and has left. Costs as many steps as there are configs.
    #[must_use]
    pub fn has_left(&self, group: GroupId) -> bool {
        let has_been = || self.deltas.iter().any(|delta| delta.groups.contains_key(&group));
        !self.newest.groups.contains_key(&group) && has_been()
    }

    /// The newest config is changed: there is one more.
    pub(crate) fn push(&mut self, delta: Delta) {
        self.newest.change(&delta);
        self.deltas.push(delta);
        assert_eq!(
            self.newest.num,
            self.deltas.len() as u64,
            "configs are numbered one after the other"
        );
    }
}
