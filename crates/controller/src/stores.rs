//! The stores: who they are (P7), how they register, and what they are used for.

use bytes::Bytes;
use quorate_proto::{
    ADDRESS_BYTES_MAX, Admission, Answer, CommandError, Labels, Roles, Service, StoreRecord, StoreState,
    ZONE, are_labels, encode_admission, encode_stores,
};
use quorate_raft::mutant;
use quorate_storage::StoreId;
use quorate_store::rsm::{CONTROLLER, Reign, RowChanges};

use crate::state::Controller;
use crate::{placement, rows};

impl Controller {
    /// What a store is used for.
    #[must_use]
    pub fn service(&self, store: StoreId) -> Service {
        self.services.get(&store).copied().unwrap_or_default()
    }

    /// Where a store is, if its operator said so: stores of one zone are likely to fail together.
    #[must_use]
    pub fn zone(&self, store: StoreId) -> Option<&Bytes> {
        self.stores.get(&store)?.labels.get(ZONE)
    }

    /// What a store may hold. One that has not registered yet may hold all.
    #[must_use]
    pub fn roles(&self, store: StoreId) -> Roles {
        self.stores.get(&store).map_or(Roles::BOTH, |known| known.roles)
    }

    /// Whether there is a store with this id, or was.
    pub(crate) fn is_known(&self, store: StoreId) -> bool {
        let first = self.first.as_ref();
        self.stores.contains_key(&store) || first.is_some_and(|first| first.stores.contains(&store))
    }

    /// P7: an id belongs to the incarnation that it was first seen with.
    pub(crate) fn register(
        &mut self,
        record: &StoreRecord,
        rows: &mut RowChanges,
    ) -> Result<Answer, CommandError> {
        if self.first.is_none() {
            return Err(CommandError::NotBootstrapped);
        }
        if !self.is_known(record.store) {
            return Err(CommandError::UnknownStore);
        }
        if !mutant!("removed-store-registers") {
            self.check_removed(record.store)?;
        }
        check(record)?;
        let known = self.stores.get(&record.store);
        if known.is_some_and(|known| known.incarnation != record.incarnation)
            && !mutant!("registered-under-the-id-of-another")
        {
            return Err(CommandError::OtherIncarnation);
        }
        if known != Some(record) {
            let was_store = self.roles(record.store).store;
            self.put_record(record, rows);
            if was_store != record.roles.store {
                self.regroup_by_role(record.store, rows);
            }
        }
        let stores: Vec<StoreRecord> = self.stores.values().cloned().collect();
        Ok(Answer::Bulk(encode_stores(&stores)))
    }

    /// A new store gets an id, once for each incarnation (P7).
    pub(crate) fn admit(
        &mut self,
        record: &StoreRecord,
        rows: &mut RowChanges,
    ) -> Result<Answer, CommandError> {
        let first = self.first.as_ref().ok_or(CommandError::NotBootstrapped)?;
        let cluster = first.cluster;
        if record.store != StoreId(0) {
            return Err(CommandError::OutOfRange);
        }
        check(record)?;
        let mut known = self.stores.values();
        let is_known = |known: &&StoreRecord| {
            known.incarnation == record.incarnation && !mutant!("an-id-for-each-question")
        };
        let known = known.find(is_known);
        let store = match known {
            Some(known) => known.store,
            // Stores are counted by themselves. None is ever forgotten, so no id is given twice.
            None => {
                let ids = first.stores.iter().chain(self.stores.keys());
                StoreId(ids.fold(0, |last, store| last.max(store.0)) + 1)
            }
        };
        self.check_removed(store)?;
        let record = StoreRecord {
            store,
            ..record.clone()
        };
        let is_new = !self.stores.contains_key(&store);
        if self.stores.get(&store) != Some(&record) {
            self.put_record(&record, rows);
        }
        // Asked again, it stays where an operator has put it meanwhile.
        if is_new && record.roles.store {
            self.regroup_by_role(store, rows);
        }
        let admission = Admission {
            cluster,
            store,
            stores: self.present(),
        };
        let mut bytes = Vec::new();
        encode_admission(&mut bytes, &admission);
        Ok(Answer::Bulk(bytes.into()))
    }

    /// Groups are of nodes with the store role, as far as there are any: this node has got or lost it.
    fn regroup_by_role(&mut self, store: StoreId, rows: &mut RowChanges) {
        let has_role = |store: StoreId| self.roles(store).store;
        if let Some(delta) = placement::by_role(self.history.newest(), store, has_role) {
            self.push_config(delta, rows);
        }
    }

    /// A store is used for something else from now on.
    pub(crate) fn set_service(
        &mut self,
        store: StoreId,
        service: Service,
        rows: &mut RowChanges,
    ) -> Result<Answer, CommandError> {
        if !self.is_known(store) {
            return Err(CommandError::UnknownStore);
        }
        let before = self.service(store);
        if before == service {
            return Ok(Answer::Ok);
        }
        self.check_removed(store)?;
        if service == Service::Removed {
            if before != Service::Draining {
                return Err(CommandError::NotDraining);
            }
            if let Some(delta) = placement::removal(self.history.newest(), store)?
                && !mutant!("removed-store-stays-in-its-group")
            {
                self.push_config(delta, rows);
            }
            self.forget_addresses(store, rows);
        }
        self.put_service(store, service, rows);
        if let Some(overview) = &mut self.overview {
            overview.service_changed(store);
        }
        Ok(Answer::Ok)
    }

    /// Nobody is to look for a store any more.
    pub(crate) fn forget_addresses(&mut self, store: StoreId, rows: &mut RowChanges) {
        if let Some(known) = self.stores.get(&store) {
            let gone = StoreRecord {
                store,
                incarnation: known.incarnation,
                client: Bytes::new(),
                peer: Bytes::new(),
                http: Bytes::new(),
                labels: Labels::new(),
                roles: known.roles,
            };
            self.put_record(&gone, rows);
        }
    }

    pub(crate) fn put_service(&mut self, store: StoreId, service: Service, rows: &mut RowChanges) {
        let (row, value) = rows::service_row(store, service);
        if service == Service::Active {
            self.services.remove(&store);
            rows.push((row, None));
        } else {
            self.services.insert(store, service);
            rows.push((row, Some(value)));
        }
    }

    /// Whether a new store would be told where the controller's leader is. Before that has registered, as right after the
    /// start of a cluster, the store would get an id, and could reach nobody to register with.
    pub(crate) fn consider_admission(&self, reign: Option<Reign>) -> Result<(), CommandError> {
        let heard = reign.and_then(|reign| self.heard_in(reign));
        let leader = heard.and_then(|overview| overview.map.get(CONTROLLER)?.last.leader_store());
        let is_registered = leader.is_some_and(|leader| self.stores.contains_key(&leader));
        is_registered.then_some(()).ok_or(CommandError::NotHeardYet)
    }

    /// Whether a store may be removed, as far as its leader has heard: which the log does not say.
    pub(crate) fn consider_removal(&self, reign: Option<Reign>, store: StoreId) -> Result<(), CommandError> {
        // Applying says that it is unknown, or removed already.
        if !self.is_known(store) || self.check_removed(store).is_err() {
            return Ok(());
        }
        let reign = reign.ok_or(CommandError::NotHeardYet)?;
        if self.service(store) != Service::Draining {
            return Err(CommandError::NotDraining);
        }
        if mutant!("removed-while-it-holds-replicas") {
            return Ok(());
        }
        let overview = self.heard_in(reign).filter(|overview| overview.map.is_complete());
        let overview = overview.ok_or(CommandError::NotHeardYet)?;
        let held = overview
            .map
            .counts()
            .get(&store)
            .map_or(0, |counts| counts.replicas);
        // One that is dead for good has no more to say.
        let is_up = overview.liveness.state(reign.now_us, store) == StoreState::Up;
        let own_word = overview.liveness.last(store).filter(|_| is_up);
        if held > 0 || own_word.is_some_and(|last| last.replicas > 0) || overview.is_expected_on(store) {
            return Err(CommandError::HoldsReplicas);
        }
        // What began before it was known to drain may not have been told of.
        let has_settled = overview.has_settled(reign.now_us, store);
        has_settled.then_some(()).ok_or(CommandError::NotHeardYet)
    }

    /// P7: an id that is gone is gone for good.
    pub(crate) fn check_removed(&self, store: StoreId) -> Result<(), CommandError> {
        if self.service(store) == Service::Removed {
            return Err(CommandError::StoreRemoved);
        }
        Ok(())
    }

    /// Every store that has registered and was not removed, for one that is new.
    fn present(&self) -> Vec<StoreRecord> {
        let present = self
            .stores
            .values()
            .filter(|record| self.service(record.store) != Service::Removed);
        present.cloned().collect()
    }

    fn put_record(&mut self, record: &StoreRecord, rows: &mut RowChanges) {
        let (row, value) = rows::store_row(record);
        rows.push((row, Some(value)));
        self.stores.insert(record.store, detached(record));
    }
}

fn check(record: &StoreRecord) -> Result<(), CommandError> {
    let addresses = [&record.client, &record.peer, &record.http];
    if addresses.iter().any(|address| address.len() > ADDRESS_BYTES_MAX) {
        return Err(CommandError::OutOfRange);
    }
    if !are_labels(&record.labels) {
        return Err(CommandError::WrongLabels);
    }
    Ok(())
}

/// A record that keeps nothing alive: what is decoded refers to the whole batch of entries that it came with.
pub(crate) fn detached(record: &StoreRecord) -> StoreRecord {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let labels: Labels = record
        .labels
        .iter()
        .map(|(name, value)| (copy(name), copy(value)))
        .collect();
    StoreRecord {
        client: copy(&record.client),
        peer: copy(&record.peer),
        http: copy(&record.http),
        labels,
        ..*record
    }
}
