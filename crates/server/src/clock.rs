//! The two clocks of a node, the only place that reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use quorate_store::Times;

/// Reads both clocks. The monotonic one counts suspension (`CLOCK_BOOTTIME`), because a suspended machine's
/// lease must have run out when it wakes (L1).
pub(crate) fn now() -> Times {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let mono_us = boot.tv_sec.unsigned_abs() * 1_000_000 + boot.tv_nsec.unsigned_abs() / 1000;
    let wall_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    Times { mono_us, wall_ms }
}
