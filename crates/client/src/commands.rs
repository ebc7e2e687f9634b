//! The commands, each as a method that gives what it means.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::client::{Client, Request};
use crate::core::call::Effect;
use crate::error::{Error, Reason, ServerError, WriteId};
use crate::resp::Reply;

/// What becomes of a key's deadline when it is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expiry {
    /// The key has none.
    #[default]
    Never,
    /// The key keeps the one it has.
    Keep,
    /// The key expires after this time, by the leader's clock. At least a millisecond; fractions of one are dropped.
    After(Duration),
}

/// When a key is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum When {
    /// Always.
    #[default]
    Always,
    /// Only if it does not exist.
    Absent,
    /// Only if it exists.
    Present,
}

/// How [`Client::set_with`] sets.
///
/// ```
/// use std::time::Duration;
/// use quorate_client::{Expiry, SetOptions, When};
///
/// let lease = SetOptions { when: When::Absent, expiry: Expiry::After(Duration::from_secs(30)) };
/// # let _ = lease;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetOptions {
    /// When.
    pub when: When,
    /// The deadline.
    pub expiry: Expiry,
}

/// How [`Client::compare_and_set`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Swapped {
    /// The key held the expected value and holds the new one.
    Yes,
    /// The key holds another value.
    Different,
    /// There is no such key.
    Absent,
}

/// What became of a write, by [`Client::status`]. Each is final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// It ran, and this is what it replied.
    Ran(Reply),
    /// It has not run and never will.
    NeverRuns,
    /// The shard does not know any more.
    Forgotten,
}

/// Some of several writes failed. Those that are not named were applied.
#[derive(Clone, PartialEq, Debug)]
pub struct MultiError {
    /// Position of the key, and why; in ascending order.
    pub failed: Vec<(usize, Error)>,
}

impl fmt::Display for MultiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the writes failed", self.failed.len())?;
        match self.failed.first() {
            Some((at, error)) => write!(f, "; number {at}: {error}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for MultiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failed.first().map(|(_, error)| error as _)
    }
}

impl Expiry {
    fn push(self, args: &mut Vec<Vec<u8>>) {
        match self {
            Self::Never => {}
            Self::Keep => args.push(b"KEEPTTL".to_vec()),
            Self::After(time) => {
                args.push(b"PX".to_vec());
                args.push(ms(time));
            }
        }
    }
}

fn ms(time: Duration) -> Vec<u8> {
    time.as_millis()
        .clamp(1, i64::MAX as u128)
        .to_string()
        .into_bytes()
}

/// What no server of this protocol replies to the command.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::Refused(ServerError(format!(
        "ERR the reply does not fit the command: {reply:?}"
    )))
}

fn flag(reply: Reply) -> Result<bool, Error> {
    match reply {
        Reply::Int(number) => Ok(number == 1),
        other => Err(unexpected(&other)),
    }
}

fn int(reply: Reply) -> Result<i64, Error> {
    match reply {
        Reply::Int(number) => Ok(number),
        other => Err(unexpected(&other)),
    }
}

fn count(reply: Reply) -> Result<u64, Error> {
    let number = int(reply)?;
    u64::try_from(number).map_err(|_| unexpected(&Reply::Int(number)))
}

fn value(reply: Reply) -> Result<Option<Bytes>, Error> {
    match reply {
        Reply::Bulk(value) => Ok(Some(value.into())),
        Reply::Nil => Ok(None),
        other => Err(unexpected(&other)),
    }
}

/// Each method's errors are those of [`Error`].
#[allow(clippy::missing_errors_doc, reason = "told once, above")]
impl Client {
    async fn ask(&self, effect: Effect, key: &[u8], args: &[&[u8]]) -> Result<Reply, Error> {
        let key = Some(key);
        self.run(Request { effect, key, args }).await
    }

    async fn read(&self, name: &str, key: impl AsRef<[u8]>) -> Result<Reply, Error> {
        let key = key.as_ref();
        self.ask(Effect::Read, key, &[name.as_bytes(), key]).await
    }

    async fn write(&self, name: &str, key: impl AsRef<[u8]>, args: &[&[u8]]) -> Result<Reply, Error> {
        let key = key.as_ref();
        let mut whole = vec![name.as_bytes(), key];
        whole.extend_from_slice(args);
        self.ask(Effect::Once, key, &whole).await
    }

    /// The key's value; none if there is no such key.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        value(self.read("GET", key).await?)
    }

    /// Sets the key, whatever it holds. A deadline that it has is removed.
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.write("SET", key, &[value.as_ref()]).await.map(drop)
    }

    /// Sets the key under a condition, or with a deadline. Whether it did.
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<bool, Error> {
        let mut more = Vec::new();
        match options.when {
            When::Always => {}
            When::Absent => more.push(b"NX".to_vec()),
            When::Present => more.push(b"XX".to_vec()),
        }
        options.expiry.push(&mut more);
        let mut args = vec![value.as_ref()];
        args.extend(more.iter().map(Vec::as_slice));
        Ok(self.write("SET", key, &args).await? != Reply::Nil)
    }

    /// Sets the key if it holds exactly `expected`.
    ///
    /// With a version in the value this is a versioned put; [`When::Absent`] creates the key.
    ///
    /// ```no_run
    /// use quorate_client::{Client, Swapped};
    ///
    /// /// Takes a lock that is a key with its holder's name, or "free".
    /// async fn lock(client: &Client, me: &str) -> Result<bool, quorate_client::Error> {
    ///     Ok(client.compare_and_set("lock", "free", me).await? == Swapped::Yes)
    /// }
    /// ```
    pub async fn compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        expected: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Swapped, Error> {
        let expiry = Expiry::Never;
        self.compare_and_set_with(key, expected, value, expiry).await
    }

    /// The same, with a deadline.
    pub async fn compare_and_set_with(
        &self,
        key: impl AsRef<[u8]>,
        expected: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expiry: Expiry,
    ) -> Result<Swapped, Error> {
        let mut more = Vec::new();
        expiry.push(&mut more);
        let mut args = vec![expected.as_ref(), value.as_ref()];
        args.extend(more.iter().map(Vec::as_slice));
        match int(self.write("CAS", key, &args).await?)? {
            1 => Ok(Swapped::Yes),
            0 => Ok(Swapped::Different),
            _ => Ok(Swapped::Absent),
        }
    }

    /// Adds to the end of the value; an absent key counts as an empty one. The new length in bytes.
    pub async fn append(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<u64, Error> {
        count(self.write("APPEND", key, &[value.as_ref()]).await?)
    }

    /// Adds to the value, a 64-bit integer in decimal; an absent key counts as 0. The sum.
    ///
    /// [`Error::Refused`] when the value is none, or the sum would leave 64 bits.
    pub async fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, Error> {
        let by = by.to_string();
        int(self.write("INCRBY", key, &[by.as_bytes()]).await?)
    }

    /// Removes the key. Whether there was one.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        flag(self.write("DEL", key, &[]).await?)
    }

    /// Removes the key. What it held.
    pub async fn get_delete(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        value(self.write("GETDEL", key, &[]).await?)
    }

    /// Whether the key exists.
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        flag(self.read("EXISTS", key).await?)
    }

    /// The value's length in bytes, 0 without one.
    pub async fn length(&self, key: impl AsRef<[u8]>) -> Result<u64, Error> {
        count(self.read("STRLEN", key).await?)
    }

    /// Lets the key expire after this time. Whether there is such a key.
    pub async fn expire(&self, key: impl AsRef<[u8]>, after: Duration) -> Result<bool, Error> {
        flag(self.write("PEXPIRE", key, &[&ms(after)]).await?)
    }

    /// Takes the key's deadline away. Whether it had one.
    pub async fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        flag(self.write("PERSIST", key, &[]).await?)
    }

    /// What is left until the key expires; none if it never does, or there is no such key.
    pub async fn time_to_live(&self, key: impl AsRef<[u8]>) -> Result<Option<Duration>, Error> {
        let left_ms = int(self.read("PTTL", key).await?)?;
        Ok(u64::try_from(left_ms).ok().map(Duration::from_millis))
    }

    /// The values of several keys, each read linearizably, but not all at one moment. The keys may be anywhere.
    pub async fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let mut reads = JoinSet::new();
        let mut values = Vec::new();
        for (at, key) in keys.into_iter().enumerate() {
            let (client, key) = (self.clone(), key.as_ref().to_vec());
            reads.spawn(async move { client.get(key).await.map(|value| (at, value)) });
            values.push(None);
        }
        while let Some(read) = reads.join_next().await {
            let (at, value) = read.map_err(|_| stopped(Error::Unavailable))??;
            values[at] = value;
        }
        Ok(values)
    }

    /// Sets several keys, each once, whatever fails on the way; not atomic together. The keys may be anywhere.
    ///
    /// # Errors
    ///
    /// Which of them failed, and how.
    pub async fn set_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), MultiError> {
        let writes = pairs.into_iter().map(|(key, value)| {
            let (client, key, value) = (self.clone(), key.as_ref().to_vec(), value.as_ref().to_vec());
            async move { client.set(key, value).await }
        });
        all(writes).await.map(drop)
    }

    /// Removes several keys, each once; not atomic together. How many there were.
    ///
    /// # Errors
    ///
    /// Which of them failed, and how.
    pub async fn delete_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<u64, MultiError> {
        let writes = keys.into_iter().map(|key| {
            let (client, key) = (self.clone(), key.as_ref().to_vec());
            async move { client.delete(key).await }
        });
        let deleted = all(writes).await?;
        Ok(deleted.into_iter().map(u64::from).sum())
    }

    /// What became of a write whose outcome is unknown. If it has not run by now, it never will: attempts that are
    /// still under way somewhere are refused from here on. (To have it run instead, repeat it as a new write once this
    /// says [`Status::NeverRuns`].)
    pub async fn status(&self, write: &WriteId) -> Result<Status, Error> {
        let (session, seq) = (write.session.to_string(), write.seq.to_string());
        let args = [
            &b"ONCE"[..],
            b"STATUS",
            session.as_bytes(),
            seq.as_bytes(),
            &write.key,
        ];
        let reply = self.ask(Effect::Read, &write.key, &args).await?;
        let Reply::Array(parts) = reply else {
            return Err(unexpected(&reply));
        };
        match <[Reply; 2]>::try_from(parts) {
            Ok([Reply::Bulk(state), answer]) if state == b"ran" => Ok(Status::Ran(answer)),
            Ok([Reply::Bulk(state), _]) if state == b"never" => Ok(Status::NeverRuns),
            Ok([Reply::Bulk(state), _]) if state == b"forgotten" => Ok(Status::Forgotten),
            Ok([state, _]) => Err(unexpected(&state)),
            Err(parts) => Err(unexpected(&Reply::Array(parts))),
        }
    }
}

/// Runs writes side by side.
async fn all<T: Send + 'static>(
    writes: impl Iterator<Item = impl Future<Output = Result<T, Error>> + Send + 'static>,
) -> Result<Vec<T>, MultiError> {
    let mut running = JoinSet::new();
    for (at, write) in writes.enumerate() {
        running.spawn(async move { (at, write.await) });
    }
    let (mut answers, mut failed) = (Vec::new(), Vec::new());
    let wanted = running.len();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((_, Ok(answer))) => answers.push(answer),
            Ok((at, Err(error))) => failed.push((at, error)),
            Err(_) => {
                let unknown = |reason| Error::Unknown { reason, write: None };
                failed.push((wanted, stopped(unknown)));
            }
        }
    }
    failed.sort_by_key(|(at, _)| *at);
    if failed.is_empty() {
        Ok(answers)
    } else {
        Err(MultiError { failed })
    }
}

/// The runtime ended the task.
fn stopped(kind: impl FnOnce(Reason) -> Error) -> Error {
    kind(Reason::Server("the client is shutting down".to_owned()))
}
