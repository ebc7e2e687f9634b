//! Wishes that put a shard on further stores: the controller is asked first whether those are to hold anything.
//!
//! The schedulers place nothing on a store that is draining or was removed, and the shard's leader does not know which
//! ones are. What a store is given after the controller has said that it is free to go, goes with it.

use bytes::Bytes;
use quorate_proto::{Answer, ControlQuery, ForwardBody, Manage, Query, Service, decode_store_rows};
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::CONTROLLER;
use quorate_store::{ClientOutcome, Target};

use super::failure::Text;
use super::gather::Part;

/// Milliseconds for the controller's answer: with those for the shard's leader's it is to come while `ctl` waits.
pub(super) const QUESTION_MS_MAX: u32 = 800;

/// A wish that has not been told to the shard's leader.
#[derive(Debug)]
pub(super) struct ByHand {
    pub(super) shard: ShardId,
    pub(super) wish: Manage,
}

impl ByHand {
    /// Asks the controller what stores are used for.
    pub(super) fn question() -> Part {
        Part {
            target: Target::Shard(CONTROLLER),
            body: ForwardBody::Read(Query::Control(ControlQuery::Stores)),
        }
    }

    /// What is told to the shard's leader once the controller has answered. A controller that does not answer stops no
    /// operator: it removes no store meanwhile.
    ///
    /// # Errors
    ///
    /// Which store is to hold nothing, and what to do.
    pub(super) fn answered(self, outcome: &ClientOutcome) -> Result<Part, Text> {
        if let ClientOutcome::Done(Answer::Bulk(rows)) = outcome {
            self.check(rows)?;
        }
        Ok(Part {
            target: Target::Shard(self.shard),
            body: ForwardBody::Manage(self.wish),
        })
    }

    fn check(&self, rows: &Bytes) -> Result<(), Text> {
        let Manage::Change { add, .. } = &self.wish else {
            return Ok(());
        };
        let rows = decode_store_rows(rows).map_err(|error| {
            format!("ERR the controller's answer cannot be read: {error}; nothing was changed").into_bytes()
        })?;
        let is_added = |store: StoreId| add.contains(&store);
        for row in rows.iter().filter(|row| is_added(row.record.store)) {
            let store = row.record.store;
            let why = match row.service {
                Service::Active => continue,
                Service::Draining => format!(
                    "ERR store {store} is draining, and is to hold nothing more; QUORATE STORE UNDRAIN {store} (ctl \
                     undrain {store}) lets it"
                ),
                Service::Removed => {
                    format!("ERR store {store} was removed and its id is gone for good; choose another")
                }
            };
            return Err(why.into_bytes());
        }
        Ok(())
    }
}
