//! Identities that are written into every file (P8) and carried by every handshake (P7).

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name(pub $inner);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

id! {
    /// A shard: a range of the encoded key space, replicated by one Raft group. Shard 0 is the controller's.
    ShardId(u64), "{}"
}
id! {
    /// A node's persistent identity; one per data directory. Counted from 1.
    StoreId(u64), "{}"
}
id! {
    /// Drawn or derived once, at bootstrap.
    ClusterId(u128), "{:032x}"
}
id! {
    /// Drawn at random when a store is formatted, so that a wiped disk cannot come back under its old id (P7).
    Incarnation(u128), "{:032x}"
}

/// Whose file this is (P8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The store.
    pub store: StoreId,
    /// The formatting of the store.
    pub incarnation: Incarnation,
}
