//! What a caller fixes instead of leaving it to the seed. Everything that makes a run smaller can be said here,
//! and on the command line, so that a failure that was made smaller can be replayed.

use super::fault::Fault;
use crate::trace::Sink;

/// How much of a seed is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Size {
    /// At least a minute of virtual time, 2,000 operations and 5 faults.
    #[default]
    Full,
    /// A few seconds, for tests that run all the time.
    Short,
}

/// What a caller fixes instead of leaving it to the seed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How much is simulated.
    pub size: Size,
    /// Stores.
    pub nodes: Option<u64>,
    /// Data shards.
    pub shards: Option<u16>,
    /// Replicas of each data shard.
    pub replicas: Option<u8>,
    /// Clients; the first ones of those that the seed has.
    pub clients: Option<u64>,
    /// Of the kinds of faults that the seed uses, only these.
    pub faults: Option<Vec<Fault>>,
    /// Faults with these numbers do not strike; the others strike as before.
    pub skip_faults: Vec<u64>,
    /// Virtual milliseconds of the phase with faults.
    pub fault_ms: Option<u64>,
    /// Stop at this virtual time, whatever has happened by then.
    pub until_us: Option<u64>,
    /// Takes a line for each event.
    pub trace: Option<Sink>,
}

impl Options {
    /// Options of a run that is over in a blink.
    #[must_use]
    pub fn short() -> Self {
        Self {
            size: Size::Short,
            ..Self::default()
        }
    }

    /// Whether the run is as the seed and the size say, so that it must not be idle.
    pub(crate) fn is_whole(&self) -> bool {
        self.nodes.is_none()
            && self.shards.is_none()
            && self.replicas.is_none()
            && self.clients.is_none()
            && self.faults.is_none()
            && self.skip_faults.is_empty()
            && self.fault_ms.is_none()
            && self.until_us.is_none()
    }

    /// The options as they are given on the command line, the trace excepted; each begins with a space.
    #[must_use]
    pub fn flags(&self) -> String {
        let mut flags = String::new();
        if self.size == Size::Short {
            flags += " --short";
        }
        let numbers = [
            ("nodes", self.nodes),
            ("shards", self.shards.map(u64::from)),
            ("replicas", self.replicas.map(u64::from)),
            ("clients", self.clients),
            ("fault-ms", self.fault_ms),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                flags += &format!(" --{name} {value}");
            }
        }
        if let Some(faults) = &self.faults {
            let names: Vec<_> = faults.iter().map(|fault| fault.name()).collect();
            let names = if names.is_empty() {
                "none".into()
            } else {
                names.join(",")
            };
            flags += &format!(" --faults {names}");
        }
        if !self.skip_faults.is_empty() {
            let numbers: Vec<_> = self.skip_faults.iter().map(u64::to_string).collect();
            flags += &format!(" --skip-faults {}", numbers.join(","));
        }
        if let Some(until_us) = self.until_us {
            flags += &format!(" --until {}.{:06}", until_us / 1_000_000, until_us % 1_000_000);
        }
        flags
    }
}
