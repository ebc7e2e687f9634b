//! A client's session: commands in, requests to the store out, replies in the order of the commands.
//!
//! [`ClientSession`] holds one connection's state and no socket. The driver reads bytes into
//! [`ClientSession::input`], calls [`ClientSession::process`], hands the requests that it pushed to the store,
//! brings every outcome back through [`ClientSession::complete`], and sends what gathers in
//! [`ClientSession::output`].
//!
//! Commands of one connection take effect in order, slot by slot: the requests carry the connection as their
//! stream, and the store keeps a stream's order (its `lanes`). What concerns all keys (FLUSHALL, SCAN, DBSIZE) has
//! the connection to itself: it waits for everything before it, and everything behind it waits for it.
//!
//! A command on several keys is one request per key: each key is linearizable, the keys are not atomic
//! together. Commands over all keys are walks (`walk`), continued in [`ClientSession::complete`].
//!
//! The table of commands is in `table`; each family has a file where a command's parsing and its reply stand
//! together. How outcomes become error replies is told in `failure` and `docs/commands.md`.

mod by_hand;
mod client_command;
mod cluster;
mod command_info;
mod command_list;
mod config;
mod connection;
mod control;
mod failure;
mod gather;
mod keys;
mod listing;
mod manage;
mod multi;
mod numbers;
mod once;
mod overview;
mod quorate;
mod recover;
mod reply;
mod ring;
mod scan;
mod server_info;
mod strings;
mod subcommand_list;
mod table;
mod view;
mod walk;

use bytes::{Bytes, BytesMut};
use quorate_proto::{Answer, ForwardBody, Op, Query, Session};
use quorate_storage::StoreId;
use quorate_store::kv::slot_of;
use quorate_store::{ClientOutcome, ClientRequest, RequestId, RouteMode, Target};

use crate::resp::{Args, Parser, Protocol, RespValue, Writer};
use by_hand::ByHand;
use failure::{Failure, Text};
use gather::{Gather, Group, MakePart, Part, Rest};
use reply::Shape;
use ring::{Entry, Ring};
use walk::{Next, Walk};

pub use view::{ClientContext, ClientLimits, NodeCommand, NodeStats, NodeView, StoreInfo};

/// The version of Redis whose commands and replies these are.
pub const REDIS_VERSION: &str = "7.0.15";

/// Requests pushed by one call of [`ClientSession::process`]; answers that come at once are taken between two calls.
const REQUESTS_PER_CALL: usize = 16;
/// What the replies under way on one connection may come to, as far as can be foreseen. One is always allowed.
const REPLY_BYTES_FORESEEN_MAX: usize = 8 << 20;
/// What a reply is taken for on a new connection: enough of them go at once for usual pipelines.
const REPLY_BYTES_AT_FIRST: usize = REPLY_BYTES_FORESEEN_MAX / 32;

/// One client connection, without its socket.
///
/// Invariants: replies leave in the order of their commands; a request id is used once until the numbers wrap
/// around at 2^32 requests of the connection; while a command needs the connection to itself (`alone`), nothing
/// else is in the ring.
///
/// Memory stays bounded for a client that asks for much and reads nothing: no command is taken while `output_bytes_max`
/// wait to be sent, nor while the replies under way may come to more than 8 MiB, judged by the size of those before
/// them.
#[derive(Debug)]
pub struct ClientSession {
    id: u32,
    peer_addr: String,
    created_ms: u64,
    name: Bytes,
    library_name: Bytes,
    library_version: Bytes,
    protocol: Protocol,
    mode: RouteMode,
    parser: Parser,
    input: BytesMut,
    output: BytesMut,
    ring: Ring,
    /// A command that needs the connection to itself and waits for those before it.
    waiting: Option<Args>,
    /// Such a command is under way.
    alone: bool,
    /// The group that has requests to send yet; nothing behind it is parsed until they are sent.
    sending: Option<u32>,
    /// Nothing more is read: QUIT, or bytes that are no requests.
    ended: bool,
    /// Parsing stopped because there was too much under way or unsent.
    blocked: bool,
    /// Parsing stopped for the driver to take the requests.
    paused: bool,
    /// Bytes of the largest recent reply; falls with each smaller one.
    reply_bytes: usize,
    /// As of the last call with a context.
    limits: ClientLimits,
    /// Commands since [`ClientSession::take_commands`].
    commands: u64,
    /// The identity of the command that is being executed, if it came with ONCE.
    once: Option<Session>,
    /// Sessions opened by ONCE OPEN.
    opened: u64,
}

impl ClientSession {
    /// A session for a connection just accepted. `id` makes the upper half of every [`RequestId`] of the
    /// session, so the driver finds the connection by it; it is also what CLIENT ID answers.
    #[must_use]
    pub fn new(id: u32, peer_addr: String, mode: RouteMode, created_ms: u64) -> Self {
        ClientSession {
            id,
            peer_addr,
            created_ms,
            name: Bytes::new(),
            library_name: Bytes::new(),
            library_version: Bytes::new(),
            protocol: Protocol::Resp2,
            mode,
            parser: Parser::default(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            ring: Ring::default(),
            waiting: None,
            alone: false,
            sending: None,
            ended: false,
            blocked: false,
            paused: false,
            reply_bytes: REPLY_BYTES_AT_FIRST,
            limits: ClientLimits::default(),
            commands: 0,
            once: None,
            opened: 0,
        }
    }

    /// The connection that a request belongs to.
    #[must_use]
    pub fn connection_of(id: RequestId) -> u32 {
        (id.0 >> 32) as u32
    }

    /// Where the driver appends what it reads. It only appends: the parser remembers its place.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Encoded replies. The driver takes from the front what it sends, and calls
    /// [`ClientSession::process`] when it has sent enough for [`ClientSession::wants_read`] to be true again.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Parses and executes as much as has arrived and may be under way.
    pub fn process(&mut self, ctx: &mut ClientContext<'_>) {
        self.limits = ctx.node.config;
        let enough = ctx.requests.len() + REQUESTS_PER_CALL;
        loop {
            self.blocked = self.full();
            self.paused = !self.blocked && ctx.requests.len() >= enough && !self.input.is_empty();
            if self.blocked || self.paused {
                return;
            }
            self.alone = false;
            if let Some(args) = self.waiting.take() {
                self.execute(&args, ctx);
                continue;
            }
            if self.ended {
                return;
            }
            match self.parser.next(&mut self.input, &self.limits.wire) {
                Ok(None) => return,
                Ok(Some(args)) => {
                    self.execute(&args, ctx);
                    self.parser.recycle(args);
                }
                Err(error) => {
                    self.reply(|writer| writer.error(&error.to_line()));
                    self.end();
                }
            }
        }
    }

    /// Whether there is more to do at once: after any call, the driver hands over the requests, brings back the
    /// outcomes that are there already, and calls [`ClientSession::process`] again.
    #[must_use]
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Takes the outcome of a request. Outcomes of unknown requests are ignored. Goes on parsing if that had
    /// stopped for too much under way.
    pub fn complete(&mut self, id: RequestId, outcome: ClientOutcome, ctx: &mut ClientContext<'_>) {
        let number = id.0 as u32;
        self.foresee(&outcome);
        match self.ring.get_mut(number) {
            Some(&mut Entry::Single {
                shape,
                protocol,
                slot,
                write,
            }) => {
                self.complete_single(number, (shape, protocol, slot, write), outcome, ctx);
            }
            Some(Entry::Group(_)) => self.complete_part(number, 0, outcome, ctx),
            Some(&mut Entry::Member { group, part }) => {
                if let Some(entry) = self.ring.get_mut(number) {
                    *entry = Entry::Vacant;
                }
                self.complete_part(group, part as usize, outcome, ctx);
            }
            Some(Entry::Answered { .. } | Entry::Encoded(_) | Entry::Node(_) | Entry::Vacant) | None => {
                return;
            }
        }
        self.advance(ctx);
    }

    /// Takes the node's reply to a [`NodeCommand`]. The driver calls [`ClientSession::process`] afterwards:
    /// commands behind it may have waited for its place.
    pub fn complete_raw(&mut self, id: RequestId, value: RespValue) {
        if let Some(entry) = self.ring.get_mut(id.0 as u32)
            && let Entry::Node(protocol) = *entry
        {
            *entry = Entry::Encoded(encoded(protocol, |writer| value.write(writer)));
            self.drain();
        }
    }

    /// Whether the driver should read more: false while too much is under way or unsent, and at the end.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        !self.ended && !self.full()
    }

    /// Whether the connection is to be closed as soon as the output is drained.
    #[must_use]
    pub fn closing(&self) -> bool {
        self.ended && self.ring.is_empty()
    }

    /// Whether nothing is under way and nothing waits to be sent.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.ring.is_empty() && self.output.is_empty()
    }

    /// How many commands were executed since the last call, for the node's counters.
    pub fn take_commands(&mut self) -> u64 {
        std::mem::take(&mut self.commands)
    }

    /// Learns from a reply's size.
    fn foresee(&mut self, outcome: &ClientOutcome) {
        let bytes = match outcome {
            ClientOutcome::Done(Answer::Bulk(bytes)) => bytes.len(),
            ClientOutcome::Done(Answer::Page { keys, .. }) => keys.iter().map(Bytes::len).sum(),
            _ => 0,
        };
        self.reply_bytes = bytes.max(self.reply_bytes - self.reply_bytes / 16);
    }

    fn full(&self) -> bool {
        self.ring.len() >= self.limits.pipeline_depth_max
            || self.ring.len() * self.reply_bytes >= REPLY_BYTES_FORESEEN_MAX
            || self.output.len() > self.limits.output_bytes_max
            || self.sending.is_some()
            || (self.alone || self.waiting.is_some()) && !self.ring.is_empty()
    }

    /// Reads nothing any more.
    fn end(&mut self) {
        self.ended = true;
        self.input.clear();
    }

    fn execute(&mut self, args: &Args, ctx: &mut ClientContext<'_>) {
        let spec = table::resolve(args);
        if spec.as_ref().is_ok_and(|spec| spec.alone) {
            if !self.ring.is_empty() {
                self.waiting = Some(args.clone());
                return;
            }
            self.alone = true;
        }
        self.commands += 1;
        let outcome = match spec {
            Ok(spec) => (spec.run)(self, args, ctx).map_err(|failure| failure.to_string().into_bytes()),
            Err(text) => Err(text),
        };
        if let Err(text) = outcome {
            self.reply(|writer| writer.error(&text));
        }
    }

    /// Sends what may be sent, and goes on parsing once half of the places are free: waking up for every
    /// single one would make requests come one by one.
    fn advance(&mut self, ctx: &mut ClientContext<'_>) {
        self.drain();
        let one_at_a_time = self.alone || self.waiting.is_some();
        let enough = if one_at_a_time {
            0
        } else {
            self.limits.pipeline_depth_max / 2
        };
        if self.blocked && self.sending.is_none() && self.ring.len() <= enough {
            self.process(ctx);
        }
    }

    /// Moves the replies whose turn it is to the output.
    fn drain(&mut self) {
        while let Some(head) = self.ring.head_mut() {
            match head {
                Entry::Single { .. } | Entry::Node(_) | Entry::Member { .. } => return,
                Entry::Group(group) if !group.finished() => return,
                Entry::Group(group) => group.write(&mut Writer::new(&mut self.output, group.protocol)),
                Entry::Answered {
                    shape,
                    protocol,
                    answer,
                } => {
                    shape.write(answer, &mut Writer::new(&mut self.output, *protocol));
                }
                Entry::Encoded(reply) => self.output.extend_from_slice(reply),
                Entry::Vacant => {}
            }
            self.ring.pop();
        }
    }

    fn complete_single(
        &mut self,
        number: u32,
        (shape, protocol, slot, write): (Shape, Protocol, u16, bool),
        outcome: ClientOutcome,
        ctx: &ClientContext<'_>,
    ) {
        let text = match outcome {
            ClientOutcome::Done(answer) => {
                let answer = shape.settle(answer, ctx.wall_ms);
                if self.ring.is_head(number) {
                    shape.write(&answer, &mut Writer::new(&mut self.output, protocol));
                    self.ring.pop();
                } else if let Some(entry) = self.ring.get_mut(number) {
                    *entry = Entry::Answered {
                        shape,
                        protocol,
                        answer,
                    };
                }
                return;
            }
            ClientOutcome::Redirect { leader } => redirect(ctx.node, slot, leader, write),
            ClientOutcome::NotApplied(refusal) if write => failure::not_applied(refusal),
            ClientOutcome::NotApplied(refusal) => failure::not_read(refusal),
            ClientOutcome::Unknown(reason) if write => failure::unknown(reason),
            ClientOutcome::Unknown(reason) => failure::unavailable(failure::unknown_reason(reason)),
        };
        if let Some(entry) = self.ring.get_mut(number) {
            *entry = Entry::Encoded(encoded(protocol, |writer| writer.error(&text)));
        }
    }

    fn complete_part(
        &mut self,
        number: u32,
        part: usize,
        outcome: ClientOutcome,
        ctx: &mut ClientContext<'_>,
    ) {
        let Some(Entry::Group(group)) = self.ring.get_mut(number) else {
            debug_assert!(false, "a group stays as long as it has requests under way");
            return;
        };
        let next = group.take(part, outcome, ctx);
        let sent_all = group.rest.as_ref().is_none_or(|rest| rest.next >= rest.parts);
        if sent_all && self.sending == Some(number) {
            self.sending = None;
        }
        if let Some((part, request)) = next {
            self.send_part(number, part, request, ctx);
        }
    }

    /// Sends a further request of a group.
    fn send_part(&mut self, group_number: u32, part: usize, request: Part, ctx: &mut ClientContext<'_>) {
        let Some(Entry::Group(group)) = self.ring.get_mut(group_number) else {
            return;
        };
        group.pending += 1;
        let session = group.once_of(part);
        let number = self.ring.push(Entry::Member {
            group: group_number,
            part: part as u32,
        });
        self.send(number, request, session, ctx);
    }

    fn send(&self, number: u32, request: Part, session: Option<Session>, ctx: &mut ClientContext<'_>) {
        let mode = match &request.body {
            // What concerns the cluster any node takes, whatever the mode of the connection.
            ForwardBody::Manage(_)
            | ForwardBody::Read(Query::Control(_) | Query::Timestamps { .. })
            | ForwardBody::Write(Op::Control(_)) => RouteMode::Proxy,
            _ => self.mode,
        };
        ctx.requests.push(ClientRequest {
            id: self.request_id(number),
            stream: u64::from(self.id),
            target: request.target,
            body: request.body,
            session,
            mode,
            timeout_ms: ctx.node.config.request_timeout_ms,
        });
    }

    fn request_id(&self, number: u32) -> RequestId {
        RequestId(u64::from(self.id) << 32 | u64::from(number))
    }

    // What commands use.

    /// Replies at once, that is: when the replies before it are out.
    fn reply(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        if self.ring.is_empty() {
            write(&mut Writer::new(&mut self.output, self.protocol));
        } else {
            self.ring.push(Entry::Encoded(encoded(self.protocol, write)));
        }
    }

    /// Replies with what a read of `key` answers.
    fn read(&mut self, ctx: &mut ClientContext<'_>, key: &[u8], query: Query, shape: Shape) -> Handled {
        self.send_single(ctx, slot_of(key), ForwardBody::Read(query), shape)
    }

    /// Replies with what a write of `key` answers.
    fn write(&mut self, ctx: &mut ClientContext<'_>, key: &[u8], op: Op, shape: Shape) -> Handled {
        self.send_single(ctx, slot_of(key), ForwardBody::Write(op), shape)
    }

    fn send_single(
        &mut self,
        ctx: &mut ClientContext<'_>,
        slot: u16,
        body: ForwardBody,
        shape: Shape,
    ) -> Handled {
        let write = matches!(body, ForwardBody::Write(_));
        let number = self.ring.push(Entry::Single {
            shape,
            protocol: self.protocol,
            slot,
            write,
        });
        self.send(
            number,
            Part {
                target: Target::Slot(slot),
                body,
            },
            self.once,
            ctx,
        );
        Ok(())
    }

    /// Replies with what the answers to `parts` requests add up to. At most as many as the pipeline is deep
    /// are under way; until the last is sent, no later command is looked at.
    fn send_group(
        &mut self,
        ctx: &mut ClientContext<'_>,
        args: &Args,
        (slot, write, gather): (u16, bool, Gather),
        (parts, make): (usize, MakePart),
    ) {
        let mut group = Group::new(self.protocol, slot, write, gather);
        group.once = self.once;
        let number = self.ring.push(Entry::Group(Box::new(group)));
        let window = parts.min(self.limits.pipeline_depth_max.max(1));
        for part in 0..window {
            let request = make(args, part);
            if part > 0 {
                self.send_part(number, part, request, ctx);
            } else {
                self.send_first(number, request, ctx);
            }
        }
        if window < parts
            && let Some(Entry::Group(group)) = self.ring.get_mut(number)
        {
            group.rest = Some(Rest {
                args: args.clone(),
                next: window,
                parts,
                make,
            });
            self.sending = Some(number);
        }
    }

    /// Replies with what the answers to a write on each of several shards add up to.
    fn send_writes(&mut self, ctx: &mut ClientContext<'_>, slot: u16, parts: Vec<Part>) {
        let group = Group::new(self.protocol, slot, true, Gather::AllOk);
        let number = self.ring.push(Entry::Group(Box::new(group)));
        for (part, request) in parts.into_iter().enumerate() {
            if part > 0 {
                self.send_part(number, part, request, ctx);
            } else {
                self.send_first(number, request, ctx);
            }
        }
    }

    /// Replies with what becomes of a wish that puts a shard on further stores.
    fn send_by_hand(&mut self, ctx: &mut ClientContext<'_>, slot: u16, wish: ByHand) {
        let group = Group::new(self.protocol, slot, true, Gather::ByHand(Some(Box::new(wish))));
        let number = self.ring.push(Entry::Group(Box::new(group)));
        self.send_first(number, ByHand::question(), ctx);
        if let Some(question) = ctx.requests.last_mut() {
            question.timeout_ms = question.timeout_ms.min(by_hand::QUESTION_MS_MAX);
        }
    }

    /// Replies with what a walk finds.
    fn send_walk(&mut self, ctx: &mut ClientContext<'_>, mut walk: Walk) {
        match walk.next(ctx) {
            Next::Failed(text) => self.reply(|writer| writer.error(&text)),
            Next::Done => self.reply(|writer| walk.write(writer)),
            Next::Request(request) => {
                let slot = walk.from.slot;
                let group = Group::new(self.protocol, slot, false, Gather::Walk(walk));
                let number = self.ring.push(Entry::Group(Box::new(group)));
                self.send_first(number, request, ctx);
            }
        }
    }

    /// Sends the request that shares the group's own place.
    fn send_first(&mut self, number: u32, request: Part, ctx: &mut ClientContext<'_>) {
        let mut session = None;
        if let Some(Entry::Group(group)) = self.ring.get_mut(number) {
            group.pending += 1;
            session = group.once_of(0);
        }
        self.send(number, request, session, ctx);
    }

    /// Leaves a command to the node.
    fn send_to_node(&mut self, ctx: &mut ClientContext<'_>, args: &Args) {
        let number = self.ring.push(Entry::Node(self.protocol));
        let args = (0..args.len()).map(|index| args.bytes(index)).collect();
        ctx.node_commands.push(NodeCommand {
            id: self.request_id(number),
            args,
        });
    }
}

/// What a command's handler gives: it has replied or will, or the error is the reply.
type Handled = Result<(), Failure>;

/// A command's code.
type Handler = fn(&mut ClientSession, &Args, &mut ClientContext<'_>) -> Handled;

fn encoded(protocol: Protocol, write: impl FnOnce(&mut Writer<'_>)) -> Bytes {
    let mut reply = BytesMut::new();
    write(&mut Writer::new(&mut reply, protocol));
    reply.freeze()
}

/// `MOVED`, if the leader's address is known.
fn redirect(node: &NodeView, slot: u16, leader: StoreId, write: bool) -> Text {
    match node.store_info(leader) {
        Some(store) => format!("MOVED {slot} {}:{}", store.client_host, store.client_port).into_bytes(),
        None if write => {
            format!("NOTAPPLIED the address of store {leader} is not known; the write was not applied")
                .into_bytes()
        }
        None => failure::unavailable(format_args!("the address of store {leader} is not known")),
    }
}
