//! What is going to happen: everything that the queue of the world can hold.

use quorate_proto::PeerMessage;
use quorate_storage::engine::BatchSeq;

use crate::placement::Stage;
use crate::plan::Strike;
use crate::plot::Step;
use crate::script;
use crate::workload::LastTask;

#[derive(Debug)]
pub(crate) enum Event {
    /// A process takes what came in.
    Turn {
        node: usize,
        life: u64,
    },
    /// A tick is due.
    Tick {
        node: usize,
        life: u64,
    },
    /// A message arrives, if its connection is still open.
    Deliver {
        from: usize,
        to: usize,
        number: u64,
        message: Box<PeerMessage>,
    },
    /// A log sync ends.
    Synced {
        node: usize,
        life: u64,
    },
    /// The engine has become durable.
    Durable {
        node: usize,
        life: u64,
        up_to: BatchSeq,
    },
    Maintain {
        node: usize,
        life: u64,
    },
    Start {
        node: usize,
    },
    /// A pause ends.
    Resume {
        node: usize,
    },
    /// A side learns that a connection begins, or ended.
    Opened {
        side: usize,
        other: usize,
        number: u64,
        life: u64,
    },
    Closed {
        side: usize,
        other: usize,
        number: u64,
    },
    /// A pair tries to connect.
    Connect {
        a: usize,
        b: usize,
    },
    /// A fault strikes.
    Strike(Box<Strike>),
    /// A fault of several steps goes on.
    Step(Box<Step>),
    /// Links that are blocked and open in turn change over.
    Flap {
        pairs: Vec<(usize, usize)>,
        is_blocked: bool,
        period_us: u64,
        until_us: u64,
    },
    /// A full disk has room again.
    Freed {
        node: usize,
    },
    /// A bad clock is good again.
    Steady {
        node: usize,
    },
    /// A network fault ends: these directions work again.
    Unblock {
        pairs: Vec<(usize, usize)>,
    },
    /// A client has thought.
    Client {
        client: usize,
    },
    /// A client asks beside its usual requests, often for the hot key, and so often after this one.
    Burst {
        client: usize,
        hot: usize,
        left: u64,
    },
    /// The operator of the placement looks at something again.
    Placement(Stage),
    /// A node asks for ids.
    TakeIds,
    /// Something happens to a call of a script's client.
    Caller(script::Stage),
    /// The last phase asks, perhaps again.
    Last {
        task: LastTask,
    },
}
