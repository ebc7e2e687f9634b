//! Asking the controller: where shards and stores are, and timestamps. Any node passes it on to whoever leads the
//! controller by then.

use std::ops::Range;

use crate::client::{Client, Request};
use crate::core::call::Effect;
use crate::error::{Error, Reason};
use crate::resp::Reply;
use crate::slots::slot_of;

/// A shard, by the last word of its leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Its id.
    pub id: u64,
    /// The slots of its keys; shard 0, the controller's own, has none.
    pub slots: Range<u16>,
    /// The store that leads it, if known.
    pub leader: Option<u64>,
    /// The stores that hold it, in ascending order.
    pub stores: Vec<u64>,
    /// Raised by splits.
    pub version: u64,
    /// Raised when other stores come to hold it.
    pub conf_ver: u64,
}

/// A store, as it registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    /// Its id.
    pub id: u64,
    /// `up`, `unheard` or `down`.
    pub state: String,
    /// `active`, `draining` or `removed`.
    pub service: String,
    /// Where clients reach it, `host:port`; empty for one that was removed.
    pub client: String,
}

impl Client {
    /// The shard that holds a key; none if its leader has not been heard since the controller's was elected.
    ///
    /// # Errors
    ///
    /// As every read's: see [`Error`].
    pub async fn shard_of(&self, key: impl AsRef<[u8]>) -> Result<Option<Shard>, Error> {
        self.one_shard("SLOT", slot_of(key.as_ref()).into()).await
    }

    /// The shard whose slots end where those of the key's begin; none for a key of the first shard, or as in
    /// [`Client::shard_of`].
    ///
    /// # Errors
    ///
    /// As every read's: see [`Error`].
    pub async fn shard_before(&self, key: impl AsRef<[u8]>) -> Result<Option<Shard>, Error> {
        self.one_shard("BEFORE", slot_of(key.as_ref()).into()).await
    }

    /// A shard by its id; none if there is none, or as in [`Client::shard_of`].
    ///
    /// # Errors
    ///
    /// As every read's: see [`Error`].
    pub async fn shard(&self, id: u64) -> Result<Option<Shard>, Error> {
        self.one_shard("SHARD", id).await
    }

    /// The shard that has a slot, and those behind it, by slot; at most `limit`. Slots whose leader has not been heard are
    /// missing.
    ///
    /// # Errors
    ///
    /// As every read's: see [`Error`]; a slot that there is not is refused.
    pub async fn shards_from(&self, slot: u16, limit: u16) -> Result<Vec<Shard>, Error> {
        let (slot, limit) = (slot.to_string(), limit.to_string());
        self.find(&["MAP", "FROM", &slot, &limit], shard).await
    }

    /// A store by its id; none if it has never registered.
    ///
    /// # Errors
    ///
    /// As every read's: see [`Error`].
    pub async fn store(&self, id: u64) -> Result<Option<Store>, Error> {
        Ok(self.find(&["REGISTRY", &id.to_string()], store).await?.pop())
    }

    /// So many timestamps, one after the other: the first. Unique, and above all that anybody got before it was asked for.
    /// 1 to 262144.
    ///
    /// # Errors
    ///
    /// As every read's: see [`Error`]; another number is refused.
    pub async fn timestamps(&self, count: u32) -> Result<u64, Error> {
        match self.ask_controller(&["TSO", &count.to_string()]).await? {
            Reply::Int(first) => Ok(first as u64),
            other => Err(unexpected(&other)),
        }
    }

    async fn one_shard(&self, what: &str, number: u64) -> Result<Option<Shard>, Error> {
        Ok(self.find(&["MAP", what, &number.to_string()], shard).await?.pop())
    }

    async fn find<T>(&self, words: &[&str], read: fn(&[Reply]) -> Option<T>) -> Result<Vec<T>, Error> {
        let reply = self.ask_controller(words).await?;
        let rows = match &reply {
            Reply::Array(rows) => rows.iter().map(|row| match row {
                Reply::Array(fields) => read(fields),
                _ => None,
            }),
            other => return Err(unexpected(other)),
        };
        rows.collect::<Option<_>>().ok_or_else(|| unexpected(&reply))
    }

    async fn ask_controller(&self, words: &[&str]) -> Result<Reply, Error> {
        let mut args: Vec<&[u8]> = vec![b"QUORATE"];
        args.extend(words.iter().map(|word| word.as_bytes()));
        let request = Request {
            effect: Effect::Read,
            key: None,
            args: &args,
        };
        self.run(request).await
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Unavailable(Reason::Server(format!("a reply that does not fit: {reply:?}")))
}

/// The value behind a name.
fn field<'a>(fields: &'a [Reply], name: &str) -> Option<&'a Reply> {
    let mut pairs = fields.chunks_exact(2);
    let is_it = |pair: &&[Reply]| matches!(&pair[0], Reply::Bulk(found) if found == name.as_bytes());
    pairs.find(is_it).map(|pair| &pair[1])
}

fn number(fields: &[Reply], name: &str) -> Option<u64> {
    match field(fields, name)? {
        Reply::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn text(fields: &[Reply], name: &str) -> Option<String> {
    match field(fields, name)? {
        Reply::Bulk(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

fn shard(fields: &[Reply]) -> Option<Shard> {
    let slot = |name| Some(u16::try_from(number(fields, name)?).unwrap_or(u16::MAX));
    let Reply::Array(stores) = field(fields, "stores")? else {
        return None;
    };
    let store = |reply: &Reply| match reply {
        Reply::Int(store) => u64::try_from(*store).ok(),
        _ => None,
    };
    Some(Shard {
        id: number(fields, "shard")?,
        slots: match (slot("first-slot"), slot("last-slot")) {
            (Some(first), Some(last)) => first..last.checked_add(1)?,
            _ => 0..0,
        },
        leader: number(fields, "leader"),
        stores: stores.iter().map(store).collect::<Option<_>>()?,
        version: number(fields, "version")?,
        conf_ver: number(fields, "conf-ver")?,
    })
}

fn store(fields: &[Reply]) -> Option<Store> {
    Some(Store {
        id: number(fields, "store")?,
        state: text(fields, "state")?,
        service: text(fields, "service")?,
        client: text(fields, "client")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pairs: &[(&str, Reply)]) -> Vec<Reply> {
        let pair = |(name, value): &(&str, Reply)| [Reply::Bulk(name.as_bytes().into()), value.clone()];
        pairs.iter().flat_map(pair).collect()
    }

    #[test]
    fn rows_are_read_by_name_and_what_does_not_fit_is_nothing() {
        let pairs = [
            ("shard", Reply::Int(7)),
            ("first-slot", Reply::Int(10)),
            ("last-slot", Reply::Int(16_383)),
            ("leader", Reply::Nil),
            ("stores", Reply::Array(vec![Reply::Int(1), Reply::Int(3)])),
            ("conf-ver", Reply::Int(4)),
            ("version", Reply::Int(2)),
            ("unheard of", Reply::Nil),
        ];
        let wanted = Shard {
            id: 7,
            slots: 10..16_384,
            leader: None,
            stores: vec![1, 3],
            version: 2,
            conf_ver: 4,
        };
        assert_eq!(shard(&row(&pairs)), Some(wanted));
        assert_eq!(shard(&row(&pairs[1..])), None, "without an id");
        let mut wrong = pairs.clone();
        wrong[4].1 = Reply::Array(vec![Reply::Nil]);
        assert_eq!(shard(&row(&wrong)), None);
        wrong[4].1 = Reply::Int(3);
        assert_eq!(shard(&row(&wrong)), None);
        assert_eq!(store(&row(&pairs)), None);
    }
}
