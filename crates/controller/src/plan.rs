//! What a change of the placement would come to, and what has still to come about.

use std::collections::BTreeSet;

use quorate_proto::{
    CommandError, Config, Delta, Groups, MemberRole, MoveRow, PlacementCommand, PlannedMove, Service,
    ShardHeartbeat,
};
use quorate_storage::StoreId;
use quorate_store::rsm::{CONTROLLER, Reign};

use crate::overview::Overview;
use crate::placement;
use crate::state::Controller;

impl Controller {
    /// What the command changes; none: nothing, because it holds already.
    pub(crate) fn change(&self, command: &PlacementCommand) -> Result<Option<Delta>, CommandError> {
        if self.first.is_none() {
            return Err(CommandError::NotBootstrapped);
        }
        for store in coming(command) {
            self.check_removed(*store)?;
            if !self.roles(*store).store {
                return Err(CommandError::NoStoreRole);
            }
        }
        match placement::change(self.history.newest(), command) {
            // Asked again.
            Err(CommandError::UnknownGroup) if self.has_come_about(command) => Ok(None),
            change => change,
        }
    }

    fn has_come_about(&self, command: &PlacementCommand) -> bool {
        matches!(command, PlacementCommand::Leave(groups)
            if !groups.is_empty() && groups.iter().all(|group| self.history.has_left(*group)))
    }

    /// Whether the command makes sense in a cluster that serves. A config alone may do without groups, and name stores that
    /// nobody has seen (row C-01).
    pub(crate) fn consider_placement(
        &self,
        reign: Option<Reign>,
        command: &PlacementCommand,
    ) -> Result<(), CommandError> {
        if matches!(command, PlacementCommand::Split { .. }) {
            return Ok(());
        }
        if reign.is_none() {
            return Err(CommandError::NotHeardYet);
        }
        if !coming(command).all(|store| self.is_known(*store)) {
            return Err(CommandError::UnknownStore);
        }
        if let PlacementCommand::Leave(groups) = command {
            let mut present = self.history.newest().groups.keys();
            if present.len() > 0 && present.all(|group| groups.contains(group)) {
                return Err(CommandError::LastGroup);
            }
        }
        Ok(())
    }

    /// Which shards would change their group, by the newest config and what was heard of the shards.
    pub(crate) fn plan(
        &self,
        reign: Reign,
        command: &PlacementCommand,
        overview: &Overview,
    ) -> Result<Vec<PlannedMove>, CommandError> {
        self.consider_placement(Some(reign), command)?;
        let config = self.history.newest();
        let changed = self.change(command)?.unwrap_or_default().shards;
        let moves = changed.iter().map(|(shard, place)| PlannedMove {
            shard: *shard,
            from: config.shards.get(shard).and_then(|place| place.group),
            to: place.group,
            bytes: overview.map.get(*shard).and_then(|known| known.last.bytes),
        });
        Ok(moves.filter(|planned| planned.from != planned.to).collect())
    }

    /// What is not where it is to be, or is changing, by what was heard of the shards.
    pub(crate) fn moves(&self, overview: &Overview) -> Vec<MoveRow> {
        let is_draining = |store: StoreId| self.service(store) != Service::Active;
        let shards = overview.map.all().map(|known| &known.last);
        shards
            .map(|last| move_of(self.history.newest(), last, is_draining))
            .filter(|row| !row.from.is_empty() || !row.to.is_empty())
            .collect()
    }
}

/// Stores that the command puts somewhere.
fn coming(command: &PlacementCommand) -> impl Iterator<Item = &StoreId> {
    let (groups, stores): (Option<&Groups>, Option<&BTreeSet<StoreId>>) = match command {
        PlacementCommand::Join(groups) => (Some(groups), None),
        PlacementCommand::Regroup { add, .. } => (None, Some(add)),
        PlacementCommand::Leave(_)
        | PlacementCommand::Move { .. }
        | PlacementCommand::Rebalance
        | PlacementCommand::Split { .. } => (None, None),
    };
    let of_groups = groups.into_iter().flat_map(|groups| groups.values().flatten());
    of_groups.chain(stores.into_iter().flatten())
}

fn move_of(config: &Config, last: &ShardHeartbeat, is_draining: impl Fn(StoreId) -> bool) -> MoveRow {
    let place = config.shards.get(&last.shard);
    let group = place.and_then(|place| place.group);
    let wanted = group.and_then(|group| config.groups.get(&group));
    let mut row = MoveRow {
        shard: last.shard,
        group,
        from: Vec::new(),
        to: Vec::new(),
        ready: Vec::new(),
        bytes: last.bytes,
    };
    for member in &last.members {
        let store = member.store;
        // The controller's own shard belongs to no group, nor does one that the config has not heard of.
        let is_elsewhere = wanted.is_some_and(|stores| !stores.contains(&store));
        let has_place = last.shard == CONTROLLER || wanted.is_some();
        if member.role == MemberRole::Outgoing || is_elsewhere || has_place && is_draining(store) {
            row.from.push(store);
        } else if matches!(member.role, MemberRole::Learner | MemberRole::Incoming) {
            row.to.push(store);
            if !member.is_pending {
                row.ready.push(store);
            }
        }
    }
    for stores in [&mut row.from, &mut row.to, &mut row.ready] {
        stores.sort_unstable();
    }
    row
}
