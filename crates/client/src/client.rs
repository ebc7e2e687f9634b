//! The client: what its handles share, and how a command is run.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep_until, timeout_at};

use crate::core::backoff::Rng;
use crate::core::call::{Call, Effect, Heard, Step};
use crate::core::routes::{Mode, Route, Routes};
use crate::core::sessions::{Identity, Sessions};
use crate::counters::{Counters, Counting, count};
use crate::error::{Error, Reason, SessionId, WriteId};
use crate::net::Pool;
use crate::options::Options;
use crate::resp::{self, Reply};

/// A client of a cluster. Cheap to clone; clones share connections, sessions and what they know of the cluster.
///
/// Commands go to the node that leads their key's shard, many at a time over one connection for each node. A write is
/// sent under a session, so it runs once however often it has to be sent; a command is sent again, elsewhere if need
/// be, until it has an answer or its deadline is over.
///
/// Two commands whose futures are awaited one after the other take effect in that order. Commands that are under way
/// at the same time take effect in any order, also on one key.
///
/// A future that is dropped leaves its write with an unknown outcome: applied at most once, or not.
///
/// ```no_run
/// use quorate_client::Client;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), quorate_client::Error> {
/// let client = Client::connect(["127.0.0.1:7001", "127.0.0.1:7002"]).await?;
/// client.set("greeting", "hello").await?;
/// assert_eq!(client.append("greeting", ", world").await?, 12);
/// assert_eq!(client.get("greeting").await?.as_deref(), Some(&b"hello, world"[..]));
/// assert_eq!(client.increment("visits", 1).await?, 1); // once, whatever happens on the way
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    deadline: Duration,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    pool: Pool,
    permits: Semaphore,
    routes: Mutex<Routes>,
    sessions: Mutex<Sessions>,
    /// A session was opened, or not, or a write ended.
    sessions_changed: Notify,
    rng: Mutex<Rng>,
    counting: Counting,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) effect: Effect,
    /// The key that says which shard it is for.
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) args: &'a [&'a [u8]],
}

impl Client {
    /// A client that knows these nodes, `host:port`, and learns the others from them. Each is tried once, in order; one
    /// that answers is enough.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when none answers, with what the last one said.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O and time drivers.
    pub async fn connect<A: Into<String>>(nodes: impl IntoIterator<Item = A>) -> Result<Self, Error> {
        Self::connect_with(nodes, Options::default()).await
    }

    /// As [`Client::connect`], with settings.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect_with<A: Into<String>>(
        nodes: impl IntoIterator<Item = A>,
        options: Options,
    ) -> Result<Self, Error> {
        let client = Self::new(nodes, options);
        let seeds = client.shared.routes().addrs().to_vec();
        let until = Instant::now() + client.deadline;
        let mut last = Error::Unavailable(Reason::NoNode);
        for addr in seeds {
            let mut call = Call::new(Effect::Read, None, until, client.deadline);
            let route = Route {
                addr,
                mode: Mode::Proxy,
            };
            let frame = client.frame(&[b"CLUSTER", b"SLOTS"], None);
            let heard = client.shared.pool.ask(&route, frame, until).await;
            let shared = &client.shared;
            let (mut routes, mut rng) = (shared.routes(), lock(&shared.rng));
            call.heard(heard, &route, Instant::now(), &mut routes, &mut rng);
            match call.given_answer() {
                Ok(reply) => routes.read(&reply, &route.addr),
                Err(error) => {
                    last = error;
                    continue;
                }
            }
            drop((routes, rng));
            return Ok(client);
        }
        Err(last)
    }

    /// As [`Client::connect_with`], but asks nobody yet: nodes that cannot be reached show with the first command.
    pub fn new<A: Into<String>>(nodes: impl IntoIterator<Item = A>, options: Options) -> Self {
        let seeds: Vec<String> = nodes.into_iter().map(Into::into).collect();
        let seed = RandomState::new().build_hasher().finish();
        let turn = seed as usize % seeds.len().max(1);
        let deadline = options.deadline;
        let shared = Shared {
            pool: Pool::new(options.connect_max, options.attempt_max),
            permits: Semaphore::new(options.in_flight_max),
            routes: Mutex::new(Routes::new(&seeds, turn)),
            sessions: Mutex::new(Sessions::new(options.reopen)),
            sessions_changed: Notify::new(),
            rng: Mutex::new(Rng::new(seed)),
            counting: Counting::default(),
            options,
        };
        let shared = Arc::new(shared);
        Self { shared, deadline }
    }

    /// A handle whose commands have this deadline.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Self {
        let shared = self.shared.clone();
        Self { shared, deadline }
    }

    /// What the client has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counting.read()
    }

    /// Runs a command; an error reply of the server becomes an [`Error`].
    pub(crate) async fn run(&self, request: Request<'_>) -> Result<Reply, Error> {
        let deadline = Instant::now() + self.deadline;
        let counting = &self.shared.counting;
        count(&counting.commands);
        let _permit = match timeout_at(deadline.into(), self.shared.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(failure(request.effect, Reason::TooManyUnderWay)),
        };
        let mut held = match request.effect {
            Effect::Once => Some(self.assign(deadline).await?),
            Effect::Read | Effect::Plain => None,
        };
        let result = self
            .repeat(request, deadline, &mut held, &counting.attempts)
            .await;
        match (result, held) {
            (Err(Error::Unknown { reason, .. }), Some(held)) => {
                let write = Some(WriteId {
                    session: held.identity.session,
                    seq: held.identity.seq,
                    key: bytes::Bytes::copy_from_slice(request.key.unwrap_or_default()),
                });
                held.end(Sessions::unsettled);
                Err(Error::Unknown { reason, write })
            }
            (result, _) => result.map(|(reply, _)| reply),
        }
    }

    async fn repeat(
        &self,
        request: Request<'_>,
        deadline: Instant,
        held: &mut Option<Held>,
        attempts: &AtomicU64,
    ) -> Result<(Reply, Route), Error> {
        let slot = request.key.map(crate::slots::slot_of);
        let attempt_max = self.shared.options.attempt_max;
        let mut call = Call::new(request.effect, slot, deadline, attempt_max);
        let mut asked = Route::default();
        loop {
            let step = call.next(Instant::now(), &mut self.shared.routes());
            match step {
                Step::End(result) => return result.map(|reply| (reply, asked)),
                Step::Sleep(until) => sleep_until(until.into()).await,
                Step::Reopen => {
                    if let Some(refused) = held.take() {
                        refused.end(Sessions::refused);
                    }
                    *held = Some(self.assign(deadline).await?);
                }
                Step::Send { route, until } => {
                    let frame = self.frame(request.args, held.as_ref());
                    count(attempts);
                    let heard = self.shared.pool.ask(&route, frame, until).await;
                    if matches!(&heard, Heard::Reply(Reply::Error(text)) if text.starts_with("MOVED ")) {
                        count(&self.shared.counting.hints);
                    }
                    let now = Instant::now();
                    let is_stale = {
                        let mut routes = self.shared.routes();
                        let mut rng = lock(&self.shared.rng);
                        call.heard(heard, &route, now, &mut routes, &mut rng);
                        routes.take_stale(now)
                    };
                    if is_stale {
                        self.read_map_beside();
                    }
                    asked = route;
                }
            }
        }
    }

    /// The command's bytes, under its identity if it has one.
    fn frame(&self, args: &[&[u8]], held: Option<&Held>) -> Vec<u8> {
        let mut frame = Vec::with_capacity(64 + args.iter().map(|arg| arg.len() + 16).sum::<usize>());
        let Some(held) = held else {
            resp::encode(&mut frame, args);
            return frame;
        };
        let Identity { session, seq } = held.identity;
        let lowest = lock(&self.shared.sessions).lowest(held.identity);
        let texts = [session.to_string(), seq.to_string(), lowest.to_string()];
        let [session, seq, lowest] = texts.each_ref().map(|text| text.as_bytes());
        let mut whole: Vec<&[u8]> = vec![b"ONCE", session, seq, b"ACK", lowest];
        whole.extend_from_slice(args);
        resp::encode(&mut frame, &whole);
        frame
    }

    /// An identity for a write, as soon as there is one.
    async fn assign(&self, deadline: Instant) -> Result<Held, Error> {
        loop {
            let changed = self.shared.sessions_changed.notified();
            let assigned = lock(&self.shared.sessions).assign(Instant::now());
            if assigned.must_open {
                self.open_session_beside();
            }
            if let Some(identity) = assigned.identity {
                let shared = self.shared.clone();
                return Ok(Held { shared, identity });
            }
            if timeout_at(deadline.into(), changed).await.is_err() {
                return Err(Error::NotApplied(Reason::NoSession));
            }
        }
    }

    fn open_session_beside(&self) {
        let client = self.clone();
        let mut opening = Opening {
            shared: self.shared.clone(),
            id: None,
        };
        tokio::spawn(async move {
            if let Ok((Reply::Bulk(text), _)) = client.read_no_permit(&[b"ONCE", b"OPEN"]).await {
                opening.done(&text);
            }
        });
    }

    fn read_map_beside(&self) {
        let client = self.clone();
        tokio::spawn(async move {
            // Without an answer the map stays stale, and the next command sees to it.
            let _ = client.read_map().await;
        });
    }

    async fn read_map(&self) -> Result<(), Error> {
        self.shared.routes().take_stale(Instant::now());
        let (reply, from) = self.read_no_permit(&[b"CLUSTER", b"SLOTS"]).await?;
        self.shared.routes().read(&reply, &from.addr);
        Ok(())
    }

    /// For what the client asks by itself while commands wait for it.
    async fn read_no_permit(&self, args: &[&[u8]]) -> Result<(Reply, Route), Error> {
        let request = Request {
            effect: Effect::Read,
            key: None,
            args,
        };
        let deadline = Instant::now() + self.deadline;
        let attempts = &self.shared.counting.own_attempts;
        // Boxed: a command may have to wait for a session, and opening one is a command.
        Box::pin(self.repeat(request, deadline, &mut None, attempts)).await
    }
}

impl Shared {
    fn routes(&self) -> MutexGuard<'_, Routes> {
        lock(&self.routes)
    }
}

/// What the lock protects is whole between any two calls, also after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(effect: Effect, reason: Reason) -> Error {
    match effect {
        Effect::Read => Error::Unavailable(reason),
        Effect::Once | Effect::Plain => Error::NotApplied(reason),
    }
}

/// A session that is being opened; when it is dropped, it was or could not be.
struct Opening {
    shared: Arc<Shared>,
    id: Option<SessionId>,
}

impl Opening {
    fn done(&mut self, reply: &[u8]) {
        self.id = std::str::from_utf8(reply).ok().and_then(|text| text.parse().ok());
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        lock(&self.shared.sessions).opened(self.id, Instant::now());
        if self.id.is_some() {
            count(&self.shared.counting.sessions_opened);
        }
        self.shared.sessions_changed.notify_waiters();
    }
}

/// An identity in use; given back when it is dropped, also with the future of a write.
#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    identity: Identity,
}

impl Held {
    /// Gives it back in another way. (That it is given back once more by the drop does nothing.)
    fn end(self, how: fn(&mut Sessions, Identity)) {
        how(&mut lock(&self.shared.sessions), self.identity);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.shared.sessions).ended(self.identity);
        self.shared.sessions_changed.notify_waiters();
    }
}
