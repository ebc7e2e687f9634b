//! What of a refused change of the placement does not fit the cluster, by name.
//!
//! The controller's refusals are kinds without names, because they are kept as answers. Who asked gets the names from what
//! the controller lists.

use serde_json::{Map, Value};

/// The config and the stores as a node lists them.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// `QUORATE CONFIG`.
    pub config: &'a Map<String, Value>,
    /// `QUORATE REGISTRY`.
    pub stores: &'a [Map<String, Value>],
}

/// What does not fit, of the words behind `QUORATE PLACE`. Empty if all that they name is there.
#[must_use]
pub fn explain(words: &[String], listed: Listed<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let numbers =
        |words: &[String]| -> Vec<u64> { words.iter().filter_map(|word| word.parse().ok()).collect() };
    match words {
        [verb, groups @ ..] if verb == "JOIN" => {
            for (group, stores) in groups.iter().filter_map(|word| word.split_once('=')) {
                let Ok(group) = group.parse() else { continue };
                if let Some(has) = listed.group(group) {
                    found.push(format!("group {group} has stores {}", ids(&has["stores"])));
                }
                for store in stores.split(',').filter_map(|store| store.parse().ok()) {
                    found.extend(listed.misplaced(store, group));
                }
            }
        }
        [verb, groups @ ..] if verb == "LEAVE" => {
            found.extend(
                numbers(groups)
                    .into_iter()
                    .filter_map(|group| listed.no_group(group)),
            );
        }
        [verb, ids @ ..] if verb == "MOVE" => {
            if let [shard, group] = numbers(ids)[..] {
                let mut shards = listed.list("shards");
                if !shards.any(|row| row["shard"] == shard) {
                    found.push(format!("there is no shard {shard}"));
                }
                found.extend(listed.no_group(group));
            }
        }
        [verb, group, change, stores @ ..] if verb == "GROUP" => {
            let Ok(group) = group.parse() else { return found };
            found.extend(listed.no_group(group));
            if change == "ADD" {
                let stores = numbers(stores).into_iter();
                found.extend(stores.filter_map(|store| listed.misplaced(store, group)));
            }
        }
        _ => {}
    }
    found
}

impl Listed<'_> {
    fn list(&self, part: &str) -> impl Iterator<Item = &Value> {
        self.config[part].as_array().into_iter().flatten()
    }

    fn group(&self, group: u64) -> Option<&Value> {
        self.list("groups").find(|row| row["group"] == group)
    }

    fn no_group(&self, group: u64) -> Option<String> {
        if self.group(group).is_some() {
            return None;
        }
        let groups = self.list("groups").map(|row| row["group"].clone()).collect();
        Some(format!("there is no group {group}, only {}", ids(&groups)))
    }

    /// Why a store cannot come into a group.
    fn misplaced(&self, store: u64, into: u64) -> Option<String> {
        let holds = |row: &&Value| {
            row["stores"]
                .as_array()
                .is_some_and(|stores| stores.contains(&store.into()))
        };
        if let Some(row) = self.list("groups").find(holds) {
            return (row["group"] != into).then(|| format!("store {store} is in group {}", row["group"]));
        }
        match self.stores.iter().find(|row| row["store"] == store) {
            None => Some(format!("store {store} never registered")),
            Some(row) if row["service"] == "removed" => Some(format!("store {store} was removed")),
            Some(row) => {
                let roles = row.get("roles").and_then(Value::as_array);
                let lacks = roles.is_some_and(|roles| !roles.contains(&"store".into()));
                lacks.then(|| format!("store {store} has not the role store"))
            }
        }
    }
}

fn ids(list: &Value) -> String {
    let ids = list.as_array().into_iter().flatten();
    ids.map(Value::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let config = object(json!({
            "groups": [{"group": 1, "stores": [1, 2]}, {"group": 2, "stores": [3]}],
            "shards": [{"shard": 7}],
        }));
        let mut stores: Vec<_> = (1..=4)
            .map(|store| object(json!({"store": store, "service": "active"})))
            .collect();
        stores.push(object(json!({"store": 5, "service": "removed"})));
        let listed = Listed {
            config: &config,
            stores: &stores,
        };
        for (words, wanted) in [
            (
                "JOIN 2=3,4 3=1,5,9",
                "group 2 has stores 3; store 1 is in group 1; store 5 was removed; store 9 never registered",
            ),
            ("JOIN 3=4", ""),
            ("LEAVE 1 8", "there is no group 8, only 1, 2"),
            ("MOVE 9 8", "there is no shard 9; there is no group 8, only 1, 2"),
            ("MOVE 7 2", ""),
            ("GROUP 2 ADD 1 3 4", "store 1 is in group 1"),
            ("GROUP 9 REMOVE 1", "there is no group 9, only 1, 2"),
            ("REBALANCE", ""),
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            assert_eq!(explain(&words, listed).join("; "), wanted, "{words:?}");
        }
    }
}
