//! What a client of a script asks, and how it ends.

use bytes::Bytes;
use quorate_proto::{Answer, ForwardBody, Op, Query, Session, SetCondition, SetExpiry};
use quorate_storage::ShardId;
use quorate_store::{RouteMode, Target, kv};

/// A client of a script.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClientId(pub(super) usize);

/// One call of one client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(pub(super) usize);

/// When a client asks again by itself, of another node if it may, until its call's time is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// One attempt.
    Never,
    /// After an attempt that certainly changed nothing.
    IfRefused,
    /// After any attempt that brought no answer. Right for reads, for writes that may run twice, and with a
    /// session.
    Always,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub struct Call {
    /// The command.
    pub body: ForwardBody,
    /// Where it goes.
    pub target: Target,
    /// Which node is asked first; else the one that answered the client last.
    pub via: Option<usize>,
    /// What the node does when another one leads.
    pub mode: RouteMode,
    /// When it is asked again.
    pub retry: Retry,
    /// Milliseconds that one attempt may take.
    pub attempt_ms: u32,
    /// Milliseconds after which the client gives up.
    pub within_ms: u64,
    /// For exactly-once.
    pub session: Option<Session>,
}

impl Call {
    /// A command on the slot of a key.
    #[must_use]
    pub fn new(key: &[u8], body: ForwardBody) -> Self {
        let is_read = matches!(body, ForwardBody::Read(_));
        Self {
            body,
            target: Target::Slot(kv::slot_of(key)),
            via: None,
            mode: RouteMode::Proxy,
            retry: if is_read { Retry::Always } else { Retry::IfRefused },
            attempt_ms: 1_000,
            within_ms: 10_000,
            session: None,
        }
    }

    /// Sets a key; asked again if need be, since setting it twice does no harm to one who sets it alone.
    #[must_use]
    pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let key = Bytes::copy_from_slice(key.as_ref());
        let op = Op::Set {
            key: key.clone(),
            value: Bytes::copy_from_slice(value.as_ref()),
            expiry: SetExpiry::Clear,
            condition: SetCondition::Always,
            get: false,
        };
        Self::new(&key, ForwardBody::Write(op)).retry(Retry::Always)
    }

    /// Appends to a key's value.
    #[must_use]
    pub fn append(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let key = Bytes::copy_from_slice(key.as_ref());
        let value = Bytes::copy_from_slice(value.as_ref());
        Self::new(&key.clone(), ForwardBody::Write(Op::Append { key, value }))
    }

    /// Reads a key.
    #[must_use]
    pub fn get(key: impl AsRef<[u8]>) -> Self {
        let key = Bytes::copy_from_slice(key.as_ref());
        Self::new(&key.clone(), ForwardBody::Read(Query::Get { key }))
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(key: impl AsRef<[u8]>) -> Self {
        let key = Bytes::copy_from_slice(key.as_ref());
        Self::new(&key.clone(), ForwardBody::Write(Op::Delete { key })).retry(Retry::Always)
    }

    /// Goes to a shard by its id.
    #[must_use]
    pub fn to_shard(mut self, shard: u64) -> Self {
        self.target = Target::Shard(ShardId(shard));
        self
    }

    /// Asks this node first.
    #[must_use]
    pub fn via(mut self, node: usize) -> Self {
        self.via = Some(node);
        self
    }

    /// When it is asked again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How long it may take in all.
    #[must_use]
    pub fn within_ms(mut self, within_ms: u64) -> Self {
        self.within_ms = within_ms;
        self
    }

    /// How long one attempt may take.
    #[must_use]
    pub fn attempt_ms(mut self, attempt_ms: u32) -> Self {
        self.attempt_ms = attempt_ms;
        self
    }

    /// Runs at most once under this session.
    #[must_use]
    pub fn session(mut self, session: Session) -> Self {
        self.session = Some(session);
        self
    }
}

/// How a call ended, as its client sees it.
#[derive(Clone, PartialEq, Debug)]
pub enum Ended {
    /// With an answer.
    Done(Answer),
    /// Certainly without effect.
    NotApplied(String),
    /// Unknown: it may have taken effect, may do so later, or never.
    Unknown(String),
}

impl Ended {
    /// The answer, if there is one.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Ended::Done(answer) => Some(answer),
            Ended::NotApplied(_) | Ended::Unknown(_) => None,
        }
    }

    /// The bytes that were read; none if there is no answer, or the key is absent.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Ended::Done(Answer::Bulk(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Whether there is an answer.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.answer().is_some()
    }
}

/// A call in a history: what a checker needs to judge it. Times are true ones.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who called.
    pub client: ClientId,
    /// What was asked.
    pub body: ForwardBody,
    /// When.
    pub called_us: u64,
    /// When it ended, and how; none while it is under way.
    pub ended: Option<(u64, Ended)>,
    /// For exactly-once: calls with the same one are one operation.
    pub session: Option<Session>,
    /// Attempts that brought no answer and may have taken effect each for itself: writes without a session.
    pub open_attempts: u64,
}

/// What a program does next.
#[derive(Clone, Debug)]
pub enum Next {
    /// Calls.
    Call(Box<Call>),
    /// Waits so many microseconds.
    Sleep(u64),
    /// Does nothing more.
    End,
}

impl From<Call> for Next {
    fn from(call: Call) -> Self {
        Next::Call(Box::new(call))
    }
}

/// A client that decides by itself what to do next.
pub trait Program {
    /// Called when the client begins, has waited, or its call has `ended`.
    fn next(&mut self, now_us: u64, ended: Option<&Ended>) -> Next;
}

impl<F: FnMut(u64, Option<&Ended>) -> Next> Program for F {
    fn next(&mut self, now_us: u64, ended: Option<&Ended>) -> Next {
        self(now_us, ended)
    }
}
