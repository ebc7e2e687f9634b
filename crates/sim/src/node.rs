//! A machine: disks and clocks that outlive the processes on it.

use quorate_storage::Identity;
use quorate_storage::disk::{Fault, SimDisk};
use quorate_storage::engine::{FailedWrite, ModelDisk};

use crate::clock::Clock;
use crate::placement::Standing;
use crate::process::Process;
use crate::world::Unmounted;

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Death {
    /// `kill -9`.
    Kill,
    /// The machine lost power.
    PowerLoss,
}

/// A machine of the cluster.
pub(crate) struct Node {
    pub(crate) identity: Identity,
    pub(crate) disk: SimDisk,
    pub(crate) engine: ModelDisk,
    pub(crate) clock: Clock,
    pub(crate) process: Option<Process>,
    /// Counts starts; what was planned for an earlier one is void.
    pub(crate) life: u64,
    /// Stands still until then.
    pub(crate) paused_until_us: u64,
    /// A turn is planned.
    pub(crate) turn_planned: bool,
    /// The disk is slower by this factor until the time given.
    pub(crate) slow_disk: (u64, u64),
    /// The disk completes nothing until then.
    pub(crate) stalled_until_us: u64,
    /// What began while the disk was slow takes until then.
    pub(crate) late_until_us: u64,
    /// The disk has no room for another file until then.
    pub(crate) full_until_us: u64,
    /// The disk was told to die in one of its next operations; how the machine then dies.
    pub(crate) armed: Option<Death>,
    /// A failure of log or engine was injected: the process may stop because of it.
    pub(crate) may_fail: bool,
    /// Synced records of its log were damaged, and no process has found all of them so far.
    pub(crate) is_damaged: bool,
    /// It was told to shut down.
    pub(crate) is_stopping: bool,
    /// What it is to the cluster.
    pub(crate) standing: Standing,
    /// Its disks are a store's: nothing of the first state is ever written to them again.
    pub(crate) is_formatted: bool,
    /// Stays down until it is started by hand.
    pub(crate) held_down: bool,
    /// The machine was given up, and whoever comes back with its disks is refused.
    pub(crate) is_gone: bool,
    /// Its own disks, while empty ones are in their place.
    pub(crate) unmounted: Option<Unmounted>,
}

impl Node {
    pub(crate) fn new(identity: Identity, disk_seed: u64, clock: Clock) -> Self {
        Self {
            identity,
            disk: SimDisk::new(disk_seed),
            engine: ModelDisk::new(),
            clock,
            process: None,
            life: 0,
            paused_until_us: 0,
            turn_planned: false,
            slow_disk: (1, 0),
            stalled_until_us: 0,
            late_until_us: 0,
            full_until_us: 0,
            armed: None,
            may_fail: false,
            is_damaged: false,
            is_stopping: false,
            standing: Standing::Store,
            is_formatted: false,
            held_down: false,
            is_gone: false,
            unmounted: None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Takes back the failures that were planned and have not happened.
    pub(crate) fn disarm(&mut self) {
        // The simulated devices count operations; this one is never reached.
        const NEVER: u64 = u64::MAX / 2;
        self.disk.crash_at(NEVER);
        self.disk.fail_write(NEVER, Fault::Device);
        self.disk.fail_sync(NEVER, Fault::Device);
        self.disk.fail_creates(None);
        self.engine.fail_write(NEVER, FailedWrite::Lost);
        self.engine.fail_make_durable(NEVER);
        self.armed = None;
        self.may_fail = false;
    }

    /// Whether the disk works as fast as it should, and everything that it took longer for is done.
    pub(crate) fn has_good_disk(&self, now_us: u64) -> bool {
        now_us >= self.slow_disk.1 && now_us >= self.stalled_until_us && now_us >= self.late_until_us
    }

    /// How much slower the disk is now.
    pub(crate) fn slowness(&self, now_us: u64) -> u64 {
        if now_us < self.slow_disk.1 {
            self.slow_disk.0
        } else {
            1
        }
    }
}
