//! What a node is there for.

use std::fmt;
use std::str::FromStr;

/// The roles of a node, by its operator's will: one at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roles {
    /// It may hold the controller's shard.
    pub controller: bool,
    /// It may hold shards with data.
    pub store: bool,
}

impl Roles {
    /// What a node is there for if nobody says otherwise.
    pub const BOTH: Self = Self {
        controller: true,
        store: true,
    };

    /// The names of the roles that it has.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let named = [(self.controller, "controller"), (self.store, "store")];
        named.into_iter().filter_map(|(has, name)| has.then_some(name))
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self::BOTH
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut roles = Self {
            controller: false,
            store: false,
        };
        for part in text.split(',').map(str::trim) {
            match part {
                "controller" => roles.controller = true,
                "store" => roles.store = true,
                _ => {
                    return Err(format!(
                        "`{part}` is not a role: controller, store, or controller,store"
                    ));
                }
            }
        }
        Ok(roles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_written() {
        for text in ["controller", "store", "controller,store"] {
            assert_eq!(text.parse::<Roles>().unwrap().to_string(), text);
        }
        assert_eq!("store, controller".parse(), Ok(Roles::BOTH));
        for text in ["", "stores", "controller,", "controller;store"] {
            let error = text.parse::<Roles>().unwrap_err();
            assert!(error.contains("is not a role"), "{text}: {error}");
        }
    }
}
