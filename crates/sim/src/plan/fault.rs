//! Kinds of faults: what strikes at a moment of its own, and what lasts all through the phase with faults.

use std::fmt;
use std::str::FromStr;

/// Declares the kinds together with their names on the command line.
macro_rules! faults {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Fault {
            $($(#[$doc])* $kind,)*
        }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Fault] = &[$(Fault::$kind,)*];

            /// Its name on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Fault::$kind => $name,)*
                }
            }
        }
    };
}

faults! {
    /// `kill -9`: what was written stays in the page cache.
    Kill = "kill",
    /// Power loss: what was not synced may be gone, whole or in part.
    PowerLoss = "power-loss",
    /// The process dies inside one of its next log operations.
    DieInLog = "die-in-log",
    /// Every process dies at once.
    KillAll = "kill-all",
    /// Power fails everywhere at once.
    PowerLossAll = "power-loss-all",
    /// A node is told to stop, hands over, and is started again.
    Shutdown = "shutdown",
    /// A process stands still for a while.
    Pause = "pause",
    /// A disk takes long.
    SlowDisk = "slow-disk",
    /// A disk completes nothing for a while.
    StallDisk = "stall-disk",
    /// A disk has little or no room for new files for a while (H1).
    FullDisk = "full-disk",
    /// A write or sync of the log fails; the process must stop (P2).
    LogFault = "log-fault",
    /// The state engine fails; the process must stop.
    EngineFault = "engine-fault",
    /// Bits of synced log records flip, on a minority of the nodes at most (P3).
    Rot = "rot",
    /// The nodes are divided into two halves that do not hear each other.
    Partition = "partition",
    /// A division that comes and goes.
    Flapping = "flapping",
    /// One node hears nobody, or is heard by nobody.
    OneWay = "one-way",
    /// One link is cut.
    CutLink = "cut-link",
    /// A connection breaks and what is in flight is lost.
    BreakLink = "break-link",
    /// One link becomes slow.
    SlowLink = "slow-link",
    /// For a while, whoever leads a shard is cut off, slow to hear, or killed soon after (Raft, figure 8).
    Succession = "succession",
    /// A node cannot hear a shard's leader, and nodes that hear both restart, perhaps damaged if disks rot.
    Bridge = "bridge",
    /// A process dies while it takes a snapshot.
    DieInSnapshot = "die-in-snapshot",
    /// A wall clock is set.
    WallJump = "wall-jump",
    /// A clock's rate changes, within the stated bound.
    Drift = "drift",
    /// A clock's rate leaves the stated bound, or the monotonic clock jumps: nothing that depends on clocks is
    /// required any more.
    BadClock = "bad-clock",
    /// No fault: the operator wants other stores to hold a shard (rules M).
    Members = "members",
    /// No fault: the operator wants a shard to be split.
    Split = "split",
    /// No fault: the operator has groups join and leave, stores change their group, shards move to a group.
    Place = "place",
    /// No fault: the operator has a store drained, undrained, or removed for good.
    Drain = "drain",
    /// No fault: a machine that was not there comes and asks to be a store.
    Birth = "birth",
    /// Somebody is struck in the middle of a change of the placement or of a shard's members: the controller's leader as
    /// often as all others.
    MidChange = "mid-change",
    /// All through: messages are lost.
    Loss = "loss",
    /// All through: consensus messages arrive twice.
    Repetition = "repetition",
    /// All through: some messages take very long.
    Delay = "delay",
    /// All through: consensus messages overtake each other.
    Reordering = "reordering",
    /// All through: processes die inside their first log operations.
    DieAtStart = "die-at-start",
}

impl Fault {
    /// Whether it is about placement: a seed has all of these, or none.
    #[must_use]
    pub fn is_placement(self) -> bool {
        matches!(
            self,
            Fault::Place | Fault::Drain | Fault::Birth | Fault::MidChange
        )
    }

    /// Whether it strikes at moments; the others last all through the phase with faults.
    #[must_use]
    pub fn strikes(self) -> bool {
        !matches!(
            self,
            Fault::Loss | Fault::Repetition | Fault::Delay | Fault::Reordering | Fault::DieAtStart
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|fault| fault.name() == name);
        known.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|fault| fault.name()).collect();
            format!("{name}: no such fault; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(*fault));
        }
        assert!("flood".parse::<Fault>().is_err());
    }
}
