//! Ids and positions, each a type of its own, so that a term cannot be passed as an index.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name(pub u64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A member of a Raft group. Never reused after removal (M3). Zero is never a member.
    ReplicaId
}
id! {
    /// A term, counted from 1; zero is "before any election".
    Term
}
id! {
    /// A log position, counted from 1; zero is "before the first entry".
    Index
}

impl Index {
    /// No log reaches it. A snapshot that claims it or more is nonsense, and positions behind any lower one cannot
    /// overflow.
    pub(crate) const LIMIT: Index = Index(1 << 63);

    /// The position after this one; the last one stays (only a peer's nonsense names it).
    #[must_use]
    pub const fn next(self) -> Index {
        Index(self.0.saturating_add(1))
    }
    /// The position before this one; zero stays zero.
    #[must_use]
    pub const fn prev(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

impl Term {
    /// No election reaches it: one every nanosecond would take three centuries. A message that claims it or more is
    /// nonsense, and counting on from any lower term cannot overflow.
    pub(crate) const LIMIT: Term = Term(1 << 63);

    /// The term after this one; the last one stays (no member gets there).
    #[must_use]
    pub const fn next(self) -> Term {
        Term(self.0.saturating_add(1))
    }
}
