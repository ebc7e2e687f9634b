//! What is asked of the controller, the state machine of shard 0.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_raft::Term;
use quorate_storage::{ClusterId, Incarnation, ShardId, StoreId};

use crate::{Epoch, PlacementCommand, Recovery, Roles};

/// A write on the controller's state, as shard 0's log carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlCommand {
    /// The cluster begins. Answers Ok; refused if it has begun already (PS-08).
    Bootstrap(FirstState),
    /// Takes ids that were never given out before, one after the other. Answers the first
    /// ([`Answer::Int`](crate::Answer::Int)). Shards and replicas are named by such ids.
    AllocateIds {
        /// How many, 1 to [`IDS_MAX`].
        count: u32,
    },
    /// The leader of a shard takes ids for what a split makes, as with [`ControlCommand::AllocateIds`]. Refused if the
    /// controller's leader knows the shard in a later version: whoever asks is deposed, and its split would be void.
    NameSplit {
        /// The shard that is to be split.
        shard: ShardId,
        /// Its version, as the asking leader knows it.
        epoch: Epoch,
        /// How many, 1 to [`IDS_MAX`]: for the new shard and each of its replicas.
        count: u32,
    },
    /// A store says at each start, and now and then, who it is and where it can be reached. Answers all stores that have
    /// registered, in the order of their ids, removed ones without addresses: a [`Bulk`](crate::Answer::Bulk) for
    /// [`decode_stores`](crate::decode_stores); refused for a store that has no id
    /// of this cluster, for another incarnation than the first that the id was seen with (P7), and for one that was
    /// removed.
    Register(StoreRecord),
    /// A new store asks for an id, and gets it for good: asked again by the same incarnation, it is the same. The
    /// record's [`store`](StoreRecord::store) is 0, for it has none yet. It is put into the only group, if there is but
    /// one and it has the role. Answers an [`Admission`] ([`Answer::Bulk`](crate::Answer::Bulk)).
    Admit(StoreRecord),
    /// What a store is to be used for. Answers Ok, also if that holds already. Refused for a store that was removed; and
    /// only a store that is draining can be removed, which takes it out of its group for good.
    SetStore {
        /// The store.
        store: StoreId,
        /// What becomes of it.
        service: Service,
    },
    /// The controller's leader of a term gets the timestamps that it may give from now on, above all that anybody may have
    /// given. Answers the end of them, exclusive ([`Answer::Int`](crate::Answer::Int)). Proposed by that leader only.
    ReserveTimestamps {
        /// The leader's.
        term: Term,
        /// The end as the leader knows it; nothing is reserved if it is another one by now.
        above: u64,
    },
    /// Stores are gone for good without having been drained, and so these shards lost their majority and go on as
    /// [`ControlQuery::Losses`] said. Answers Ok, also if that holds already. Refused while one of the stores is heard, while
    /// one that is not named is silent, and if what was said does not hold any more.
    Recover {
        /// They are removed: their ids are gone.
        lost: BTreeSet<StoreId>,
        /// The shards.
        shards: Vec<Recovery>,
    },
    /// Which group is to hold which shard. Answers the number of the newest config ([`Answer::Int`](crate::Answer::Int)).
    Place(PlacementCommand),
}

/// A read of the controller's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlQuery {
    /// Every store that has registered and how it was heard, in the order of their ids: a
    /// [`Bulk`](crate::Answer::Bulk) for [`decode_store_rows`](crate::decode_store_rows).
    Stores,
    /// Every shard that its leader has told of since the controller's was elected, by slot: a
    /// [`Bulk`](crate::Answer::Bulk) for [`decode_shards`](crate::decode_shards).
    Shards,
    /// Some of the shards that their leaders have told of, by slot: a [`Bulk`](crate::Answer::Bulk) for
    /// [`decode_shards`](crate::decode_shards), empty if none is known that fits.
    FindShards(ShardLookup),
    /// One store, if it has registered: a [`Bulk`](crate::Answer::Bulk) for
    /// [`decode_store_rows`](crate::decode_store_rows).
    FindStore(StoreId),
    /// A config: a [`Bulk`](crate::Answer::Bulk) for [`decode_config`](crate::decode_config).
    Config {
        /// Its number; -1, or one that is too high, for the newest.
        num: i64,
    },
    /// Which shards would change their group if this were done, in ascending order: a [`Bulk`](crate::Answer::Bulk) for
    /// [`decode_plan`](crate::decode_plan), or the error that it would end with. Nothing is done.
    Plan(PlacementCommand),
    /// What would become of the shards that have no majority without these stores and those that were removed: a
    /// [`Bulk`](crate::Answer::Bulk) for [`decode_losses`](crate::decode_losses), or the error that
    /// [`ControlCommand::Recover`] would end with. Nothing is done.
    Losses {
        /// They are gone for good.
        lost: BTreeSet<StoreId>,
    },
    /// What is not where it is to be, or is changing: a [`Bulk`](crate::Answer::Bulk) for
    /// [`decode_moves`](crate::decode_moves).
    Moves,
}

/// Which shards are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShardLookup {
    /// The one of this id.
    Id(ShardId),
    /// The one that has this slot.
    At {
        /// The slot.
        slot: u16,
    },
    /// The one that ends where the one begins that has this slot.
    Before {
        /// The slot.
        slot: u16,
    },
    /// The one that has this slot, and those behind it.
    From {
        /// The slot.
        slot: u16,
        /// How many at most.
        limit: u16,
    },
}

/// A store as the controller knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreRecord {
    /// The store.
    pub store: StoreId,
    /// Its formatting (P7).
    pub incarnation: Incarnation,
    /// Where clients reach it: at most [`ADDRESS_BYTES_MAX`], like the others.
    pub client: Bytes,
    /// Where other nodes reach it.
    pub peer: Bytes,
    /// Where tools reach it.
    pub http: Bytes,
    /// What its operator says of it, such as its zone.
    pub labels: Labels,
    /// What it may hold.
    pub roles: Roles,
}

/// What a store is used for, by its operators' will.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Service {
    /// Replicas may be placed on it.
    #[default]
    Active,
    /// Its replicas are moved away, and it is given none.
    Draining,
    /// It is gone, and its id with it: whoever comes under that is refused (P7).
    Removed,
}

/// Names and values. Checked by [`are_labels`].
pub type Labels = BTreeMap<Bytes, Bytes>;

/// The label that says what is likely to fail together: replicas of a shard are spread over zones.
pub const ZONE: &[u8] = b"zone";
/// Labels of a store.
pub const LABELS_MAX: usize = 16;
/// Bytes of a label's name, and of its value.
pub const LABEL_BYTES_MAX: usize = 64;

/// Whether a store may have these labels: at most [`LABELS_MAX`]; names and values of 1 to [`LABEL_BYTES_MAX`] letters,
/// digits and `-` `_` `.` `/` `:`.
#[must_use]
pub fn are_labels(labels: &Labels) -> bool {
    let is_text = |text: &Bytes| {
        let mut bytes = text.iter();
        (1..=LABEL_BYTES_MAX).contains(&text.len())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_./:".contains(byte))
    };
    labels.len() <= LABELS_MAX && labels.iter().all(|(name, value)| is_text(name) && is_text(value))
}

/// What a new store is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// The cluster.
    pub cluster: ClusterId,
    /// The store's id.
    pub store: StoreId,
    /// All stores that have registered, this one too, in the order of their ids.
    pub stores: Vec<StoreRecord>,
}

/// Bytes of an address in a [`StoreRecord`].
pub const ADDRESS_BYTES_MAX: usize = 300;

/// Bits of a timestamp that count within a millisecond; those above are milliseconds since the Unix epoch, about.
pub const TIMESTAMP_COUNT_BITS: u32 = 18;

/// The most timestamps that one question may take: those of a millisecond.
pub const TIMESTAMPS_MAX: u32 = 1 << TIMESTAMP_COUNT_BITS;

/// The most ids that one command may take.
pub const IDS_MAX: u32 = 1 << 16;

/// What a cluster begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirstState {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its stores, in ascending order.
    pub stores: Vec<StoreId>,
    /// Data shards, 1 to 16384.
    pub shards: u16,
    /// Replicas that each of them is to have, 1 to 9.
    pub replicas: u8,
    /// The least id that neither a shard nor a replica nor a store has.
    pub next_id: u64,
}
