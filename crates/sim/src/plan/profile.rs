//! Profiles: how hostile the surroundings are.

use std::fmt;
use std::str::FromStr;

use super::fault::Fault;

/// How hostile the surroundings are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// No faults; clocks drift and messages take their time.
    Calm,
    /// Messages are lost, repeated, reordered, late; links break; the network is divided; processes stand still.
    Lossy,
    /// Processes die and power fails, at any instant.
    Crashy,
    /// Disks are slow, stall, fill up, fail and rot, and power loss shows what they kept.
    Disk,
    /// Clocks drift and jump, within the stated bound and beyond it.
    Clock,
    /// Shards move from store to store while processes die and the network is divided (rules M).
    Moves,
    /// Shards are split, and move, while processes die and the network is divided.
    Splits,
    /// Groups join and leave, stores are born, drained and removed, while the schedulers carry the shards to where they
    /// are to be and processes die in the middle of it.
    Placement,
    /// All of it at once.
    Everything,
}

const NETWORK: &[Fault] = &[
    Fault::Partition,
    Fault::Flapping,
    Fault::OneWay,
    Fault::CutLink,
    Fault::BreakLink,
    Fault::SlowLink,
    Fault::Succession,
    Fault::Pause,
    Fault::Loss,
    Fault::Repetition,
    Fault::Delay,
    Fault::Reordering,
];

const DEATH: &[Fault] = &[
    Fault::Kill,
    Fault::PowerLoss,
    Fault::DieInLog,
    Fault::KillAll,
    Fault::PowerLossAll,
    Fault::Shutdown,
    Fault::Succession,
    Fault::Bridge,
    Fault::DieInSnapshot,
    Fault::DieAtStart,
];

const DISK: &[Fault] = &[
    Fault::PowerLoss,
    Fault::DieInLog,
    Fault::SlowDisk,
    Fault::StallDisk,
    Fault::FullDisk,
    Fault::LogFault,
    Fault::EngineFault,
    Fault::Rot,
    Fault::Bridge,
];

const CLOCK: &[Fault] = &[
    Fault::WallJump,
    Fault::Drift,
    Fault::BadClock,
    Fault::Pause,
    Fault::Kill,
    Fault::CutLink,
    Fault::Bridge,
];

const MOVES: &[Fault] = &[
    Fault::Members,
    Fault::Kill,
    Fault::PowerLoss,
    Fault::DieInLog,
    Fault::KillAll,
    Fault::Shutdown,
    Fault::Pause,
    Fault::Partition,
    Fault::CutLink,
    Fault::BreakLink,
    Fault::Loss,
    Fault::Repetition,
    Fault::Delay,
    Fault::Reordering,
    Fault::DieAtStart,
];

const SPLITS: &[Fault] = &[
    Fault::Split,
    Fault::Members,
    Fault::Kill,
    Fault::PowerLoss,
    Fault::DieInLog,
    Fault::KillAll,
    Fault::PowerLossAll,
    Fault::Shutdown,
    Fault::Pause,
    Fault::Partition,
    Fault::Flapping,
    Fault::OneWay,
    Fault::CutLink,
    Fault::BreakLink,
    Fault::Succession,
    Fault::DieInSnapshot,
    Fault::SlowDisk,
    Fault::StallDisk,
    Fault::WallJump,
    Fault::Drift,
    Fault::Loss,
    Fault::Repetition,
    Fault::Delay,
    Fault::Reordering,
    Fault::DieAtStart,
];

const PLACEMENT: &[Fault] = &[
    Fault::Place,
    Fault::Drain,
    Fault::Birth,
    Fault::MidChange,
    Fault::Members,
    Fault::Split,
    Fault::Kill,
    Fault::PowerLoss,
    Fault::DieInLog,
    Fault::KillAll,
    Fault::Shutdown,
    Fault::Pause,
    Fault::Partition,
    Fault::OneWay,
    Fault::CutLink,
    Fault::BreakLink,
    Fault::Succession,
    Fault::DieInSnapshot,
    Fault::StallDisk,
    Fault::WallJump,
    Fault::Drift,
    Fault::Loss,
    Fault::Repetition,
    Fault::Delay,
    Fault::Reordering,
    Fault::DieAtStart,
];

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 9] = [
        Profile::Calm,
        Profile::Lossy,
        Profile::Crashy,
        Profile::Disk,
        Profile::Clock,
        Profile::Moves,
        Profile::Splits,
        Profile::Placement,
        Profile::Everything,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Lossy => "lossy",
            Profile::Crashy => "crashy",
            Profile::Disk => "disk",
            Profile::Clock => "clock",
            Profile::Moves => "moves",
            Profile::Splits => "splits",
            Profile::Placement => "placement",
            Profile::Everything => "everything",
        }
    }

    /// The kinds of faults that a seed may use.
    #[must_use]
    pub fn faults(self) -> Vec<Fault> {
        match self {
            Profile::Calm => Vec::new(),
            Profile::Lossy => NETWORK.to_vec(),
            Profile::Crashy => DEATH.to_vec(),
            Profile::Disk => DISK.to_vec(),
            Profile::Clock => CLOCK.to_vec(),
            Profile::Moves => MOVES.to_vec(),
            Profile::Splits => SPLITS.to_vec(),
            Profile::Placement => PLACEMENT.to_vec(),
            Profile::Everything => {
                let mut all = [NETWORK, DEATH, DISK, CLOCK, MOVES, SPLITS, PLACEMENT].concat();
                all.sort_unstable();
                all.dedup();
                all
            }
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|profile| profile.name() == name);
        known.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|profile| profile.name()).collect();
            format!("{name}: no such profile; there are {}", names.join(", "))
        })
    }
}
