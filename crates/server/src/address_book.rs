//! Where the other stores can be reached, kept in the data directory.
//!
//! What this node was told by `--bootstrap` holds: it may reach the others by other names than they go by. All else is
//! what the controller says.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::StoreRecord;
use quorate_storage::StoreId;

use crate::config::ServerConfig;
use crate::data_dir::{DataDir, DataDirError};

/// The peer addresses. It has the data directory, and so its lock, for as long as the node runs.
pub(crate) struct AddressBook {
    dir: DataDir,
    own: StoreId,
    /// Given by flag.
    given: BTreeSet<StoreId>,
    /// Without this store's own.
    peers: BTreeMap<StoreId, String>,
}

impl AddressBook {
    /// As remembered, and as given.
    pub(crate) fn open(dir: DataDir, own: StoreId, config: &ServerConfig) -> Result<Self, DataDirError> {
        let given: BTreeMap<StoreId, String> = match &config.bootstrap {
            Some(bootstrap) => {
                let members = bootstrap.members.iter();
                members
                    .map(|member| (StoreId(member.store), member.peer.to_string()))
                    .collect()
            }
            None => BTreeMap::new(),
        };
        let mut peers = dir.remembered_peers()?;
        peers.extend(given.clone());
        peers.remove(&own);
        let book = Self {
            dir,
            own,
            given: given.into_keys().collect(),
            peers,
        };
        book.dir.remember_peers(&book.peers)?;
        Ok(book)
    }

    /// Where the other stores' peer addresses are, as far as known.
    pub(crate) fn peers(&self) -> &BTreeMap<StoreId, String> {
        &self.peers
    }

    /// Takes over what the controller says. The stores whose address is another one now, with it; none: they were removed,
    /// whatever a flag says.
    pub(crate) fn update(
        &mut self,
        stores: &[StoreRecord],
    ) -> Result<Vec<(StoreId, Option<String>)>, DataDirError> {
        let mut changed = Vec::new();
        for record in stores {
            if record.peer.is_empty() {
                if self.peers.remove(&record.store).is_some() {
                    changed.push((record.store, None));
                }
                continue;
            }
            let address = String::from_utf8_lossy(&record.peer).into_owned();
            let is_known = self.peers.get(&record.store) == Some(&address);
            if record.store != self.own && !self.given.contains(&record.store) && !is_known {
                self.peers.insert(record.store, address.clone());
                changed.push((record.store, Some(address)));
            }
        }
        if !changed.is_empty() {
            self.dir.remember_peers(&self.peers)?;
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use quorate_storage::Incarnation;

    use super::*;
    use crate::config::ConfigLayer;

    fn config(dir: &std::path::Path, bootstrap: Option<&str>) -> ServerConfig {
        let layer = ConfigLayer {
            data: Some(dir.to_owned()),
            store_id: bootstrap.map(|_| 1),
            bootstrap: bootstrap.map(|members| members.parse().unwrap()),
            bootstrap_token: bootstrap.map(|_| "t".to_owned()),
            ..ConfigLayer::default()
        };
        ServerConfig::resolve(layer).unwrap()
    }

    fn book(dir: &tempfile::TempDir, bootstrap: Option<&str>) -> AddressBook {
        let data = DataDir::open(dir.path()).unwrap();
        AddressBook::open(data, StoreId(1), &config(dir.path(), bootstrap)).unwrap()
    }

    fn says(store: u64, peer: &'static str) -> StoreRecord {
        StoreRecord {
            store: StoreId(store),
            incarnation: Incarnation(1),
            client: "c:1".into(),
            peer: peer.into(),
            http: "h:1".into(),
            labels: quorate_proto::Labels::new(),
            roles: Default::default(),
        }
    }

    #[test]
    fn what_the_controller_says_is_kept_and_what_a_flag_says_holds() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = book(&dir, Some("1=one:7101,2=two:7101"));
        let changed = first.update(&[says(1, "other:1"), says(2, "other:2"), says(3, "three:1")]);
        assert_eq!(changed.unwrap(), [(StoreId(3), Some("three:1".to_owned()))]);
        assert_eq!(first.update(&[says(3, "three:1")]).unwrap(), [], "no news");
        drop(first);
        // Without the flag, what was remembered holds until the controller says otherwise.
        let mut later = book(&dir, None);
        let addresses = |book: &AddressBook| -> Vec<String> { book.peers().values().cloned().collect() };
        assert_eq!(addresses(&later), ["two:7101", "three:1"]);
        later.update(&[says(2, "other:2")]).unwrap();
        drop(later);
        let mut last = book(&dir, None);
        assert_eq!(addresses(&last), ["other:2", "three:1"]);
        // A store that was removed has no address any more.
        assert_eq!(last.update(&[says(3, "")]).unwrap(), [(StoreId(3), None)]);
        assert_eq!(last.update(&[says(3, "")]).unwrap(), []);
        drop(last);
        assert_eq!(addresses(&book(&dir, None)), ["other:2"]);
    }
}
