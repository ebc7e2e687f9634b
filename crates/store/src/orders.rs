//! What the controller's schedulers order, on both sides: its leader answers heartbeats with orders, and the leader of a
//! shard carries them out as it does an operator's wishes (rules M).

use quorate_proto::{ControlCommand, Manage, Order};
use quorate_raft::mutant;
use quorate_storage::StoreId;
use quorate_storage::engine::Engine;

use crate::error::StoreError;
use crate::heartbeats::HEARTBEAT_EVERY_TICKS;
use crate::io::Times;
use crate::replica::{NewWrite, Waiter};
use crate::rsm::Reign;
use crate::scheduler_worker::Purpose;
use crate::store::Store;

/// Things that are written down at a time.
const RECORDS_MAX: usize = 16;

impl<E: Engine> Store<E> {
    /// What the controller's leader here orders of a store that it has just heard.
    pub(crate) fn orders_for(&mut self, reign: Reign, store: StoreId) -> Vec<Order> {
        let Some(policy) = &self.options.schedule else {
            return Vec::new();
        };
        let (orders, tally) = self.machine.orders(reign, store, policy);
        self.counters.operators.add(tally);
        self.counters.orders_sent += orders.len() as u64;
        orders
    }

    /// The controller's leader orders something of a shard.
    ///
    /// What it knows of the shard may be old. So an order is void unless the shard is led here and is of the version that
    /// the order was made for; whatever was decided about it since then raised that.
    pub(crate) fn take_order(&mut self, times: Times, order: &Order) -> Result<(), StoreError> {
        let at = self.router.replica_of(order.shard).filter(|at| {
            let replica = &self.replicas[*at];
            let is_current =
                replica.descriptor.epoch == order.epoch || mutant!("order-of-an-old-epoch-carried-out");
            // Before an entry of its term is applied a leader may not know the newest membership.
            replica.serves() && replica.applied.term == replica.raft.term() && is_current
        });
        let is_order = matches!(order.wish, Manage::Change { .. } | Manage::Transfer { .. });
        let Some(at) = at.filter(|_| is_order && !self.shutting_down) else {
            self.counters.orders_void += 1;
            return Ok(());
        };
        let descriptor = &self.replicas[at].descriptor;
        assert_eq!(
            descriptor.epoch, order.epoch,
            "shard {}: {order:?} is carried out in another epoch",
            order.shard
        );
        self.counters.orders_taken += 1;
        let write = NewWrite {
            waiter: Waiter::Nobody,
            deadline_us: u64::MAX,
            request: None,
        };
        self.manage(times, at, &order.wish, write)
    }

    /// The controller's leader has the log say what it heard, one thing at a time and no more often than it hears.
    pub(crate) fn record_heard(&mut self, times: Times) -> Result<(), StoreError> {
        if !self.ticks.is_multiple_of(HEARTBEAT_EVERY_TICKS) || self.shutting_down {
            return Ok(());
        }
        let Some(reign) = self
            .reign(times)
            .filter(|_| !self.scheduler_worker.is_recording())
        else {
            return Ok(());
        };
        let due: Vec<ControlCommand> = self.machine.due(reign);
        due.into_iter()
            .take(RECORDS_MAX)
            .try_for_each(|command| self.ask_controller(times, command, Purpose::Record))
    }
}
