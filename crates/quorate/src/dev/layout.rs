//! Which nodes a development cluster has, and what each of them is there for.

use clap::Args;
use serde::{Deserialize, Serialize};

/// Nodes of each kind, as asked for.
#[derive(Args, Clone, Copy, Default, Debug)]
pub(super) struct Asked {
    /// Nodes with the controller role alone; the others have the store role alone then. 0: every node has both [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=9))]
    pub(super) controllers: Option<u16>,
    /// Groups of stores, which share the shards [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(super) groups: Option<u16>,
    /// Stores of each group [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(super) stores: Option<u16>,
}

/// Nodes of each kind.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Layout {
    /// Nodes with the controller role alone: the first ones.
    controllers: u16,
    /// Groups of stores.
    groups: u16,
    /// Stores of each group.
    stores: u16,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            controllers: 0,
            groups: 1,
            stores: 3,
        }
    }
}

impl Layout {
    /// What was asked for, and where nothing was, what is below.
    pub(super) fn of(asked: Asked, below: Self) -> Self {
        Self {
            controllers: asked.controllers.unwrap_or(below.controllers),
            groups: asked.groups.unwrap_or(below.groups),
            stores: asked.stores.unwrap_or(below.stores),
        }
    }

    /// All nodes; their ids count up from 1.
    pub(super) fn nodes(self) -> u16 {
        self.controllers + self.groups * self.stores
    }

    /// Groups of stores.
    pub(super) fn groups(self) -> u16 {
        self.groups
    }

    /// Nodes that form the cluster together; the others join it one by one, so that each gets the id that it is to have.
    pub(super) fn first_members(self) -> u16 {
        if self.controllers > 0 { 1 } else { self.stores }
    }

    /// What the node is started with for `--roles`.
    pub(super) fn roles(self, id: u16) -> &'static str {
        match (self.controllers, self.group(id)) {
            (0, _) => "controller,store",
            (_, None) => "controller",
            (_, Some(_)) => "store",
        }
    }

    /// The group that the node is to be in, counted from 1; none for a controller.
    pub(super) fn group(self, id: u16) -> Option<u16> {
        let place = id.checked_sub(self.controllers + 1)?;
        Some(place / self.stores + 1)
    }

    /// The nodes of a group.
    pub(super) fn members(self, group: u16) -> impl Iterator<Item = u16> {
        (1..=self.nodes()).filter(move |id| self.group(*id) == Some(group))
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            controllers,
            groups,
            stores,
        } = self;
        write!(
            f,
            "{controllers} controllers and {groups} groups of {stores} stores"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_roles_and_groups_by_their_ids() {
        let layout = Layout {
            controllers: 3,
            groups: 2,
            stores: 3,
        };
        assert_eq!((layout.nodes(), layout.first_members()), (9, 1));
        let groups: Vec<u16> = (1..=9).map(|id| layout.group(id).unwrap_or(0)).collect();
        assert_eq!(groups, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
        assert_eq!(layout.members(2).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!((layout.roles(3), layout.roles(4)), ("controller", "store"));

        let usual = Layout::default();
        assert_eq!((usual.nodes(), usual.first_members()), (3, 3));
        assert_eq!(usual.roles(1), "controller,store");
        assert_eq!(usual.group(1), Some(1));
    }
}
